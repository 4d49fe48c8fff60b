import CESP
import CNDABI
import NDCore
import Synchronization
import Testing

@testable import NDEngine

extension EngineStatistics {
    fileprivate var dropped: UInt64 { drops.reduce(0, +) }
}

struct FuzzTests {
    /// Every datagram ends as exactly one of: received, dropped, keep-alive, IKE.
    @Test("200,000 mutated ESP datagrams crash nothing and every one is counted once", arguments: allSuites)
    func inbound(suite: ESPSuite) throws {
        var random = Seeded(fuzzSeed("inbound \(suite)"))
        let esn = random.below(2) == 0
        let inbound = try Inbound(testSA(.inbound, suite: suite, esn: esn))
        let sealer = Sealer(inbound.sa.sa)
        var number: UInt64 = 1
        var total: UInt64 = 0
        var wrong: [String] = []
        let corpus = (0..<64).map { _ in random.bytes(random.below(200)) }
        for round in 0..<34_000 {
            var datagram: [UInt8]
            if random.below(4) == 0 {
                datagram = corpus[random.below(64)]
            } else {
                // Authentic with any content: what a peer with the key could send.
                let payload =
                    random.below(2) == 0
                    ? corpus[random.below(64)]
                    : TCPSegment(
                        sequence: UInt32(random.below(3)), reserved: 0, flags: UInt8(truncatingIfNeeded: random.next()),
                        data: corpus[random.below(64)]
                    ).bytes
                datagram = sealer.seal(
                    payload, proto: [6, 6, 17, 59, UInt8(truncatingIfNeeded: random.next())][random.below(5)], number: number,
                    padLength: random.below(10) == 0 ? UInt8(truncatingIfNeeded: random.next()) : nil)
                number += UInt64(random.below(3))
            }
            for _ in 0..<[0, 0, 0, 1, 1, 2, 8][random.below(7)] where !datagram.isEmpty {
                switch random.below(4) {
                case 0: datagram[random.below(datagram.count)] ^= 1 << UInt8(random.below(8))
                case 1: datagram.removeLast(random.below(datagram.count + 1))
                case 2: datagram += corpus[random.below(64)]
                default: datagram[random.below(min(8, datagram.count))] = UInt8(truncatingIfNeeded: random.next())
                }
            }
            let segment = random.below(3) == 0 ? random.below(datagram.count + 2) : 0
            inbound.receive(datagram, segment: segment)
            let step = segment > 0 ? segment : max(datagram.count, 1)
            total += UInt64((datagram.count + step - 1) / step)
            if round % 64 == 0 { _ = inbound.written() }
            let sums = inbound.counters.sums
            let failed = sums.drops[Int(ND_DROP_DELIVER_FAILED.rawValue)]
            if sums.inboundPackets + sums.dropped - failed + sums.keepalives + sums.ikeDatagrams != total, wrong.count < 3 {
                wrong.append("round \(round): \(total) came, counted \(sums)")
                total = sums.inboundPackets + sums.dropped - failed + sums.keepalives + sums.ikeDatagrams
            }
        }
        #expect(wrong == [])
        #expect(inbound.counters.sums.inboundPackets > 5000)
    }

    /// Every read ends as sent packets, as a drop, or as a fragment that waits or was used.
    @Test("200,000 mutated TUN reads crash nothing and every one is counted")
    func outbound() async throws {
        let seed = fuzzSeed("outbound")
        let wrong = try await Net.alone { () -> [String] in
            var random = Seeded(seed)
            var wrong: [String] = []
            for esn in [false, true] {
                let v6 = esn
                let (local, remote) = v6 ? (loopback6, loopback6) : (alice4, bob4)
                let suite: ESPSuite = esn ? .aesCBCHMACSHA256(keyBits: 128) : .aesGCM16(keyBits: 128)
                let out = try Outbound(testSA(.outbound, suite: suite, local: local, remote: remote, esn: esn), receives: false)
                var corpus: [[UInt8]] = []
                for size in [0, 1, 7, 100, 700] {
                    let data = random.bytes(size * 3)
                    let tcp = TCPSegment(flags: 0x99, options: size == 7 ? [1, 1, 1, 1] : [], data: data).bytes
                    corpus.append(
                        tunRead(local, remote, proto: 6, tcp, segmentation: size == 0 ? .none : v6 ? .tcpv6 : .tcpv4, size: size))
                    corpus.append(
                        tunRead(local, remote, proto: 17, udpBytes(data), segmentation: size == 0 ? .none : .udp, size: size))
                    corpus.append(tunRead(local, remote, proto: 17, udpBytes(data)))
                    corpus.append(tunRead(local, remote, proto: 253, random.bytes(size + 1), partial: false))
                    var fragment = ipPacket(local, remote, proto: v6 ? 44 : 17, [17, 0, 0, 1, 0, 0, 0, 9] + random.bytes(size))
                    if !v6 { fragment[6] = 0x20 }
                    corpus.append([UInt8](repeating: 0, count: 10) + fragment)
                }
                for round in 0..<100_000 {
                    var read = corpus[random.below(corpus.count)]
                    for _ in 0..<random.below(4) where !read.isEmpty {
                        switch random.below(5) {
                        case 0: read[random.below(read.count)] ^= 1 << UInt8(random.below(8))
                        case 1: read.removeLast(random.below(read.count + 1))
                        case 2: read[random.below(min(10, read.count))] = UInt8(truncatingIfNeeded: random.next())
                        case 3: read[min(read.count - 1, 10 + random.below(64))] = UInt8(truncatingIfNeeded: random.next())
                        default: read += random.bytes(random.below(40))
                        }
                    }
                    let before = out.counters.sums
                    let numberBefore = out.sa.sequence.load(ordering: .relaxed)
                    out.handle(read)
                    out.path.flush()
                    let after = out.counters.sums
                    let sent = after.outboundPackets - before.outboundPackets
                    let lost = after.drops[Int(ND_DROP_SEND_FAILED.rawValue)] - before.drops[Int(ND_DROP_SEND_FAILED.rawValue)]
                    let other = after.dropped - before.dropped - lost
                    let used = out.sa.sequence.load(ordering: .relaxed) - numberBefore
                    let isFragment =
                        read.count > 30
                        && (read[10] >> 4 == 6 ? read[16] == 44 : (read[16] & 0x3f) | read[17] != 0)
                    // A read is dropped whole or leaves whole; each number used is sent or lost.
                    if used != sent + lost || other > 1 || (other == 1) == (used > 0) && !(isFragment && used == 0) {
                        if wrong.count < 3 { wrong.append("round \(round) esn \(esn): sent \(sent) lost \(lost) other \(other) used \(used) \(read.prefix(70))") }
                    }
                }
                if out.counters.sums.outboundPackets < 50_000 { wrong.append("hardly anything was sent: \(out.counters.sums)") }
            }
            return wrong
        }
        #expect(wrong == [])
    }
}
