import Foundation
import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

/// ND_FUZZ_SEED and ND_FUZZ_COUNT choose another run; a finding becomes a test of its own.
@Suite struct FuzzTests {
    static let seed = ProcessInfo.processInfo.environment["ND_FUZZ_SEED"].flatMap(UInt64.init) ?? 20_260_101
    static let count = ProcessInfo.processInfo.environment["ND_FUZZ_COUNT"].flatMap(Int.init) ?? 1_000_000

    private func residentBytes() -> Int {
        let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        return (text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 4096
    }

    private func mutate(_ bytes: [UInt8], _ random: SeededRandom, pool: [[UInt8]]) -> [UInt8] {
        var bytes = bytes
        for _ in 0...random.below(4) {
            guard !bytes.isEmpty else { break }
            let at = random.below(bytes.count)
            switch random.below(9) {
            case 0: bytes[at] ^= 1 << UInt8(random.below(8))
            case 1: bytes[at] = [0, 1, 3, 4, 0x7f, 0x80, 0xfe, 0xff][random.below(8)]
            case 2: bytes.removeLast(min(bytes.count, 1 + random.below(20)))
            case 3: bytes.insert(contentsOf: random.bytes(1 + random.below(12)), at: at)
            case 4:
                let other = pool[random.below(pool.count)]
                bytes = Array(bytes.prefix(at)) + Array(other.suffix(random.below(other.count)))
            case 5: bytes.removeSubrange(at..<min(bytes.count, at + 1 + random.below(8)))
            case 6 where bytes.count > 40:  // a length or next-payload field near the front
                bytes[28 + random.below(12)] = UInt8(truncatingIfNeeded: random.next())
            case 7: bytes[at] = UInt8(truncatingIfNeeded: random.next())
            default:
                let end = min(bytes.count, at + 1 + random.below(60))
                if bytes.count < 4000 { bytes.insert(contentsOf: bytes[at..<end], at: end) }
            }
        }
        // Mostly keep the header's length right, else little gets past it.
        if bytes.count >= 28, random.below(8) != 0 {
            bytes[24] = 0
            bytes[25] = 0
            bytes[26] = UInt8(truncatingIfNeeded: bytes.count >> 8)
            bytes[27] = UInt8(truncatingIfNeeded: bytes.count)
        }
        return bytes
    }

    private func inLimits(_ machine: KeyingMachine) -> Bool {
        let limits = machine.configuration.limits
        return machine.halfOpen <= limits.halfOpenMaximum && machine.mainModeRecords.count <= limits.halfOpenMaximum + 8
            && machine.pairs.count <= limits.pairsPerPeer * 4 && machine.timers.count <= 4 * limits.halfOpenMaximum
            && machine.halfOpenBySource.values.allSatisfy { $0 <= limits.halfOpenPerSource }
            && machine.byCookies.count == machine.mainModeRecords.count
    }

    @Test func `mutated datagrams crash nothing, pass no check and leave memory bounded`() throws {
        print("fuzz seed \(Self.seed), \(Self.count) datagrams")
        let random = SeededRandom(Self.seed)
        let recordings = [
            Recording(seed: 11), Recording(seed: 12) { $0.forceUDPEncapsulation = true },
            Recording(seed: 13) {
                $0.pfsGroup = .ecp256
                $0.boundary = true
            },
        ]
        let steps = recordings.flatMap(\.steps)
        let pool = steps.map(\.bytes)
        var responder = SimulatedHost("10.0.0.2", seed: 5) { $0.limits.halfOpenMaximum = 600 }.machine
        var now = Instant(nanoseconds: 1_000_000_000_000)
        let before = residentBytes()
        var decoded = 0
        var midway = steps[0].receiver
        var current = steps[0]
        for round in 0..<Self.count {
            if round % 64 == 0 {
                current = steps[random.below(steps.count)]
                midway = current.receiver
            }
            let midExchange = round % 2 == 1
            let source = midExchange && random.below(4) != 0 ? current.bytes : pool[random.below(pool.count)]
            let bytes = mutate(source, random, pool: pool)
            if round % 4 == 0, let message = try? ISAKMPMessage.decode(bytes) {
                decoded += 1
                if message.encode() != bytes { Issue.record("re-encoding differs: \(bytes)") }
            }
            if midExchange {
                let actions = midway.receive(bytes, local: current.to, remote: current.from, now: current.now)
                if bytes != current.bytes, actions.contains(where: { if case .established = $0 { true } else { false } }) {
                    // Only padding and what nobody covers may differ.
                    #expect(bytes.count >= current.bytes.count - 32)
                }
            } else {
                now = now.advanced(by: .milliseconds(2))
                let from = Endpoint(address("10.0.\(random.below(4)).\(random.below(200))"), random.below(3) == 0 ? 4500 : 500)
                let to = Endpoint(address("10.0.0.2"), from.port)
                let marked = from.port == 4500 && random.below(8) != 0 ? [0, 0, 0, 0] + bytes : bytes
                _ = responder.receive(marked, local: to, remote: from, now: now)
                if round % 200 == 0 { _ = responder.timerFired(now: now) }
            }
            if round % 10_000 == 0, !inLimits(responder) || !inLimits(midway) {
                Issue.record("limits exceeded in round \(round)")
            }
        }
        #expect(inLimits(responder) && inLimits(midway))
        #expect(responder.pairs.isEmpty)
        #expect(decoded > Self.count / 40)
        #expect(residentBytes() - before < 200 << 20)
        // Everything ends when nobody speaks any more.
        _ = responder.timerFired(now: now.advanced(by: .seconds(100_000)))
        #expect(responder.mainModeRecords.isEmpty && responder.halfOpen == 0 && responder.peers.isEmpty)
        let dropped = responder.counters.dropped.filter { $0.value > 0 }.count
        print("\(decoded) decoded of a quarter; drop reasons seen: \(dropped), answered main modes: \(responder.counters[.mainModesAnswered])")
    }

    @Test func `mutated plaintexts under valid hashes crash nothing`() throws {
        let random = SeededRandom(Self.seed &+ 1)
        let recording = Recording(seed: 21) { $0.pfsGroup = .ecp256 }
        let step = recording.steps[6]
        let association = try #require(step.sender.mainModeRecords.values.first?.association)
        let message = try ISAKMPMessage.decode(step.bytes)
        let opened = try association.open(
            message, iv: association.firstIV(messageID: message.header.messageID), limits: WireLimits())
        let plaintext = PayloadChain(Array(opened.chain.payloads.dropFirst())).encode()
        var machine = step.receiver
        var installed = 0
        for round in 0..<max(Self.count / 50, 1000) {
            if round % 16 == 0 { machine = step.receiver }
            let mid = UInt32(truncatingIfNeeded: random.next()) | 1
            var iv = try association.firstIV(messageID: mid)
            let body = mutate(plaintext, random, pool: [plaintext])
            let hash = try association.authenticator([UInt8](u32: mid) + body)
            // A hash payload whose next field names the first mutated payload.
            let raw = [UInt8](arrayLiteral: 1, 0, 0, 36) + hash + body
            let padded = zeroPadded(raw)
            let sealed = try AESCBC(key: association.encryptionKey).encrypt(padded, iv: iv)
            iv = Array(sealed.suffix(16))
            let header = ISAKMPHeader(
                initiatorCookie: association.cookies.initiator, responderCookie: association.cookies.responder,
                nextPayload: .hash, exchangeType: round % 4 == 3 ? .informational : .quickMode, flags: .encryption,
                messageID: mid)
            let actions = machine.receive(
                ISAKMPMessage(header: header, content: .encrypted(sealed)).encode(), local: step.to,
                remote: step.from, now: step.now)
            installed += actions.count { if case .install = $0 { true } else { false } }
            #expect(machine.pairs.count <= machine.configuration.limits.pairsPerPeer)
        }
        print("\(installed) mutated offers were acceptable")
    }
}
