import CESP
import CNDABI
import NDCore
import Synchronization
import Testing

@testable import NDEngine

/// One flow of a super-packet and what must leave for it, computed the slow way.
private struct Flow: Sendable, CustomTestStringConvertible {
    var name: String
    var proto: UInt8
    var local: IPAddress
    var remote: IPAddress
    var suite: ESPSuite = .aesGCM16(keyBits: 128)
    var esn = false
    var native = false
    var flags: UInt8 = 0x10
    var options: [UInt8] = []
    var data: Int
    var size: Int
    var testDescription: String { name }

    var bytes: [UInt8] {
        var random = Seeded(UInt64(data))
        return random.bytes(data)
    }

    var read: [UInt8] {
        if proto == 6 {
            let tcp = TCPSegment(sequence: 0xffff_f000, flags: flags, options: options, data: bytes)
            return tunRead(
                local, remote, proto: 6, tcp.bytes, segmentation: size == 0 ? .none : local.isIPv4 ? .tcpv4 : .tcpv6, size: size)
        }
        return tunRead(local, remote, proto: 17, udpBytes(bytes), segmentation: size == 0 ? .none : .udp, size: size)
    }

    /// The transport payloads, checksums included.
    var expected: [[UInt8]] {
        let all = bytes
        let step = size == 0 ? max(all.count, 1) : size
        let starts = all.isEmpty ? [0] : Array(stride(from: 0, to: all.count, by: step))
        return starts.map { at in
            let part = Array(all[at..<min(at + step, all.count)])
            let last = at + step >= all.count
            var payload: [UInt8]
            if proto == 6 {
                var own = flags
                if !last { own &= 0b1111_0110 }
                if at > 0 { own &= 0b0111_1111 }
                payload =
                    TCPSegment(sequence: 0xffff_f000 &+ UInt32(at), flags: own, options: options, data: part).bytes
            } else {
                payload = udpBytes(part)
            }
            let field = proto == 6 ? 16 : 6
            let sum = referenceChecksum(payload, field: field, from: local, to: remote, proto: proto)
            payload.replaceSubrange(field..<(field + 2), with: big16(Int(sum)))
            return payload
        }
    }
}

private let timestamps: [UInt8] = [1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8]

private let flows: [Flow] = [
    Flow(name: "TCP over IPv4, 40 segments", proto: 6, local: alice4, remote: bob4, flags: 0x98, options: timestamps, data: 40 * 1336 - 7, size: 1336),
    Flow(name: "TCP over IPv6, ESN, FIN", proto: 6, local: loopback6, remote: loopback6, esn: true, flags: 0x19, data: 10_001, size: 1000),
    Flow(name: "TCP, one odd byte a segment", proto: 6, local: alice4, remote: bob4, flags: 0x18, data: 301, size: 1),
    Flow(name: "TCP, more than one batch of 64", proto: 6, local: alice4, remote: bob4, data: 64_000, size: 500),
    Flow(name: "TCP, a segment as large as the data", proto: 6, local: alice4, remote: bob4, data: 900, size: 900),
    Flow(name: "TCP without segmentation", proto: 6, local: alice4, remote: bob4, data: 1200, size: 0),
    Flow(name: "TCP, SYN without data", proto: 6, local: alice4, remote: bob4, flags: 2, options: [2, 4, 5, 0x78], data: 0, size: 0),
    Flow(name: "TCP in CBC", proto: 6, local: alice4, remote: bob4, suite: .aesCBCHMACSHA256(keyBits: 256), flags: 0x98, data: 30_000, size: 1200),
    Flow(name: "TCP in CBC with ESN over IPv6", proto: 6, local: loopback6, remote: loopback6, suite: .aesCBCHMACSHA256(keyBits: 128), esn: true, data: 3000, size: 1301),
    Flow(name: "TCP in protocol 50", proto: 6, local: alice4, remote: bob4, suite: .aesGCM16(keyBits: 256), native: true, data: 20_000, size: 1400),
    Flow(name: "TCP in protocol 50 over IPv6", proto: 6, local: loopback6, remote: loopback6, native: true, data: 20_000, size: 1400),
    Flow(name: "UDP over IPv4", proto: 17, local: alice4, remote: bob4, data: 20_003, size: 1400),
    Flow(name: "UDP over IPv6", proto: 17, local: loopback6, remote: loopback6, data: 9_000, size: 1201),
    Flow(name: "UDP without segmentation", proto: 17, local: alice4, remote: bob4, data: 700, size: 0),
    Flow(name: "UDP of 60,000 bytes", proto: 17, local: alice4, remote: bob4, data: 60_000, size: 0),
    Flow(name: "UDP without data", proto: 17, local: alice4, remote: bob4, data: 0, size: 0),
]

struct OutboundTests {
    @Test("What leaves for a TUN read is what a slow reference computes", arguments: flows)
    fileprivate func segmentation(_ flow: Flow) async throws {
        let (packets, sums) = try await Net.alone {
            let out = try Outbound(
                testSA(.outbound, suite: flow.suite, local: flow.local, remote: flow.remote, esn: flow.esn, native: flow.native))
            out.handle(flow.read)
            return (out.sent(), out.counters.sums)
        }
        let opener = Opener(flow.suite)
        let opened = packets.map { opener.open($0, high: flow.esn ? 0 : nil) }
        let expected = flow.expected
        #expect(opened.map { $0?.payload } == expected)
        #expect(opened.map { $0?.sequence } == (0..<expected.count).map { UInt32($0 + 1) })
        let rest = opened.compactMap { $0 }
        #expect(rest.allSatisfy { $0.spi == 0x1234_5678 })
        #expect(rest.allSatisfy { $0.proto == flow.proto })
        #expect(rest.allSatisfy { $0.paddingIsCounted })
        #expect(Set(rest.map(\.iv)).count == packets.count)
        if flow.suite.isAEAD {
            let ivs = opened.compactMap { $0.map { be($0.iv) } }
            #expect(ivs == (0..<expected.count).map { UInt64($0 + 1) })
        }
        #expect(sums.outboundPackets == UInt64(expected.count))
        #expect(sums.outboundBytes == UInt64(expected.reduce(0) { $0 + $1.count }))
        #expect(sums.drops.reduce(0, +) == 0)
    }

    @Test("Every suite carries every length up to 300 bytes there and back", arguments: allSuites, [false, true])
    func roundTrip(suite: ESPSuite, esn: Bool) async throws {
        let payloads = (1...300).map { length in (0..<length).map { UInt8(truncatingIfNeeded: $0 &* length) } }
        let packets = try await Net.alone {
            let out = try Outbound(testSA(.outbound, suite: suite, esn: esn))
            for payload in payloads { out.handle(tunRead(alice4, bob4, proto: 253, payload, partial: false)) }
            return out.sent()
        }
        let inbound = try Inbound(testSA(.inbound, suite: suite, local: bob4, remote: alice4, esn: esn))
        var got: [[UInt8]] = []
        for packet in packets {
            inbound.receive(packet)
            got += inbound.written().map { Array($0[30...]) }
        }
        #expect(got == payloads)
        #expect(inbound.counters.sums.inboundPackets == 300)
    }

    @Test("Without an active SA nothing leaves")
    func noSA() async throws {
        let (packets, dropped) = try await Net.alone {
            let out = try Outbound(testSA(.outbound))
            let read = tunRead(alice4, bob4, proto: 17, udpBytes([1, 2, 3]))
            out.table.remove(out.sa.sa.peer, inbound: out.sa.sa.spi, outbound: out.sa.sa.spi)
            out.handle(read)
            out.handle(tunRead(bob4, alice4, proto: 17, udpBytes([1, 2, 3])))
            return (out.sent(), out.counters.dropped(ND_DROP_NO_SA))
        }
        #expect(packets == [])
        #expect(dropped == 2)
    }

    @Test("Fragments leave as one ESP packet of the whole datagram, in IPv4 and IPv6")
    func fragments() async throws {
        var random = Seeded(5)
        let whole = random.bytes(60_000)
        let four = try await Net.alone {
            let out = try Outbound(testSA(.outbound))
            for at in stride(from: 0, to: whole.count, by: 1480).reversed() {
                let part = Array(whole[at..<min(at + 1480, whole.count)])
                var packet = ipPacket(alice4, bob4, proto: 17, part)
                packet[4] = 0xab
                packet.replaceSubrange(6..<8, with: big16(at / 8 | (at + 1480 < whole.count ? 0x2000 : 0)))
                out.handle([UInt8](repeating: 0, count: 10) + packet)
            }
            return out.sent()
        }
        #expect(four.map { Opener(.aesGCM16(keyBits: 128)).open($0)?.payload } == [whole])
        let six = try await Net.alone {
            let out = try Outbound(testSA(.outbound, local: loopback6, remote: loopback6))
            for at in stride(from: 0, to: whole.count, by: 1448) {
                let part = Array(whole[at..<min(at + 1448, whole.count)])
                let header: [UInt8] = [17, 0] + big16(at | (at + 1448 < whole.count ? 1 : 0)) + [0, 0, 0, 9]
                out.handle([UInt8](repeating: 0, count: 10) + ipPacket(loopback6, loopback6, proto: 44, header + part))
            }
            return out.sent()
        }
        #expect(six.map { Opener(.aesGCM16(keyBits: 128)).open($0)?.payload } == [whole])
        #expect(six.map { Opener(.aesGCM16(keyBits: 128)).open($0)?.proto } == [17])
    }

    @Test("What does not fit into ESP is dropped as too big")
    func tooBig() async throws {
        let (packets, dropped) = try await Net.alone {
            let out = try Outbound(testSA(.outbound))
            out.handle(tunRead(alice4, bob4, proto: 17, udpBytes([UInt8](repeating: 1, count: 65_500)), partial: false))
            out.handle(tunRead(alice4, bob4, proto: 17, udpBytes([UInt8](repeating: 1, count: 3)), partial: false))
            return (out.sent().count, out.counters.dropped(ND_DROP_TOO_BIG))
        }
        #expect(packets == 1)
        #expect(dropped == 1)
    }

    @Test("Packets of mixed sizes leave in order with numbers without a gap")
    func mixedSizes() async throws {
        var random = Seeded(6)
        let payloads = (0..<400).map { _ in random.bytes(1 + random.below(1400)) }
        for native in [false, true] {
            let packets = try await Net.alone {
                let out = try Outbound(testSA(.outbound, native: native))
                for payload in payloads { out.handle(tunRead(alice4, bob4, proto: 253, payload, partial: false)) }
                return out.sent()
            }
            let opener = Opener(.aesGCM16(keyBits: 128))
            let opened = packets.map { opener.open($0) }
            #expect(opened.map { $0?.payload } == payloads)
            #expect(opened.map { $0?.sequence } == (1...400).map { UInt32($0) })
        }
    }

    @Test("At the end of the sequence numbers nothing more leaves and no number is used twice")
    func exhaustion() async throws {
        let (packets, dropped, told, sums) = try await Net.alone {
            let out = try Outbound(testSA(.outbound))
            out.sa.sequence.store(UInt64(UInt32.max) - 100, ordering: .relaxed)
            for n in 0..<200 { out.handle(tunRead(alice4, bob4, proto: 253, [UInt8(n), 1, 2, 3], partial: false)) }
            let sent = out.sent()
            return (sent, out.counters.dropped(ND_DROP_SEQUENCE_EXHAUSTED), out.notes.value.load(ordering: .relaxed), out.counters.sums)
        }
        let numbers = packets.map { be($0[4..<8]) }
        #expect(Set(numbers).count == numbers.count)
        #expect(numbers.allSatisfy { $0 > UInt64(UInt32.max) - 100 })
        #expect(packets.count + dropped == 200)
        #expect(sums.outboundPackets == UInt64(packets.count))
        #expect(told == 2)
    }

    @Test("Threads that share an SA never get the same number, not even at its end")
    func sharedNumbers() throws {
        let sa = try OutboundSA(testSA(.outbound), library: ND_AEAD_OPENSSL, workers: 1)
        sa.sequence.store(UInt64(UInt32.max) - 200_000, ordering: .relaxed)
        let all = Mutex<[UInt64]>([])
        let group = Threads(4) { _ in
            var own: [UInt64] = []
            for n in 0..<20_000 {
                let count = n % 7 + 1
                if let first = sa.reserve(count) { own += (0..<count).map { first + UInt64($0) } }
            }
            all.withLock { $0 += own }
        }
        group.join()
        let numbers = all.withLock { $0 }
        #expect(Set(numbers).count == numbers.count)
        let end = UInt64(UInt32.max)
        #expect(numbers.allSatisfy { (end - 199_999...end).contains($0) })
        #expect(numbers.count > 199_000)
        #expect(sa.reserve(1) == nil)
    }

    @Test("A packet that the kernel refuses counts as failed, not as sent")
    func sendFails() async throws {
        let sums = try await Net.alone {
            // No route leads there in this namespace.
            let out = try Outbound(testSA(.outbound, local: IPAddress("192.0.2.1")!, remote: IPAddress("198.51.100.1")!))
            for _ in 0..<3 {
                out.handle(tunRead(IPAddress("192.0.2.1")!, IPAddress("198.51.100.1")!, proto: 253, [1, 2, 3, 4], partial: false))
            }
            _ = out.sent()
            return out.counters.sums
        }
        #expect(sums.drops[Int(ND_DROP_SEND_FAILED.rawValue)] == 3)
        #expect(sums.outboundPackets == 0)
    }

    @Test("A checksum that points outside the packet is malformed")
    func wildChecksum() async throws {
        let (count, dropped) = try await Net.alone {
            let out = try Outbound(testSA(.outbound))
            for (start, offset) in [(65_535, 65_535), (20, 65_535), (0, 6), (19, 6), (60, 0), (20, 11)] as [(UInt16, UInt16)] {
                var read = tunRead(alice4, bob4, proto: 17, udpBytes([1, 2, 3, 4]))
                read[6] = UInt8(truncatingIfNeeded: start)
                read[7] = UInt8(truncatingIfNeeded: start >> 8)
                read[8] = UInt8(truncatingIfNeeded: offset)
                read[9] = UInt8(truncatingIfNeeded: offset >> 8)
                out.handle(read)
            }
            return (out.sent().count, out.counters.dropped(ND_DROP_MALFORMED))
        }
        #expect(count == 0)
        #expect(dropped == 6)
    }
}
