import CESP
import CNDABI
import NDCore
import Testing

@testable import NDEngine

struct InboundTests {
    @Test("A change in any region makes a packet fail, and no content is delivered", arguments: allSuites, [false, true])
    func tampering(suite: ESPSuite, esn: Bool) throws {
        let inbound = try Inbound(testSA(.inbound, suite: suite, esn: esn))
        let sealer = Sealer(inbound.sa.sa)
        let good = sealer.seal(Array("a payload of some length, enough for blocks".utf8), proto: 253, number: 5)
        var refused = 0
        for at in 4..<good.count {
            var bad = good
            bad[at] ^= 0x10
            inbound.receive(bad)
            refused += 1
            // A number that changes to 0 or behind the window can't happen with this mask.
            #expect(inbound.counters.dropped(ND_DROP_AUTHENTICATION) == refused)
        }
        #expect(inbound.written() == [])
        #expect(inbound.events.state.withLock { $0.first } == [])
        var strange = good
        strange[0] ^= 1
        inbound.receive(strange)
        #expect(inbound.counters.dropped(ND_DROP_UNKNOWN_SPI) == 1)
        inbound.receive(good)
        #expect(inbound.written().count == 1)
        #expect(inbound.events.state.withLock { $0.first } == [0x1234_5678])
    }

    @Test("The high bits of an extended sequence number are authenticated", arguments: allSuites)
    func highBits(suite: ESPSuite) throws {
        let inbound = try Inbound(testSA(.inbound, suite: suite, esn: true))
        let sealer = Sealer(inbound.sa.sa)
        inbound.receive(sealer.seal([1, 2, 3], proto: 253, number: 0x1_0000_0009))
        #expect(inbound.counters.dropped(ND_DROP_AUTHENTICATION) == 1)
        // Over the wrap in the order a peer sends.
        let order: [UInt64] = [0xffff_ff00, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0xffff_fffe]
        for number in order {
            inbound.receive(sealer.seal([1, 2, 3], proto: 253, number: number))
        }
        #expect(inbound.counters.sums.inboundPackets == 5)
        #expect(inbound.sa.window.withLock { $0.top } == 0x1_0000_0001)
    }

    @Test("A packet comes once, also when both copies are in one bundle")
    func replay() throws {
        let inbound = try Inbound(testSA(.inbound))
        let sealer = Sealer(inbound.sa.sa)
        let packet = sealer.seal([1, 2, 3, 4], proto: 253, number: 1)
        inbound.receive(packet + packet, segment: packet.count)
        inbound.receive(packet)
        #expect(inbound.written().count == 1)
        #expect(inbound.counters.dropped(ND_DROP_REPLAY) == 2)
        #expect(inbound.counters.sums.inboundPackets == 1)
    }

    @Test("ESP from another address than the SA's is dropped before decryption")
    func wrongAddress() throws {
        let inbound = try Inbound(testSA(.inbound))
        inbound.receive(Sealer(inbound.sa.sa).seal([1], proto: 253, number: 1), from: nd_addr16(IPAddress("192.0.2.9")!))
        #expect(inbound.counters.dropped(ND_DROP_WRONG_ADDRESS) == 1)
        #expect(inbound.written() == [])
    }

    @Test("Keep-alives, IKE datagrams and rubbish are told apart")
    func notESP() throws {
        let inbound = try Inbound(testSA(.inbound))
        inbound.receive([0xff])
        inbound.receive([0, 0, 0, 0, 1, 2, 3])
        inbound.receive([0xfe])
        inbound.receive([1, 2, 3])
        inbound.receive([1, 2, 3, 4, 5])
        inbound.receive([])
        let sums = inbound.counters.sums
        #expect(sums.keepalives == 1)
        #expect(inbound.events.state.withLock { $0.ike } == [[0, 0, 0, 0, 1, 2, 3]])
        #expect(inbound.counters.dropped(ND_DROP_ESP_MALFORMED) == 3)
    }

    @Test("A trailer with more padding than the packet has is malformed and not counted as received")
    func impossiblePadding() throws {
        let inbound = try Inbound(testSA(.inbound))
        inbound.receive(Sealer(inbound.sa.sa).seal([1, 2], proto: 253, number: 1, padLength: 200))
        #expect(inbound.counters.dropped(ND_DROP_ESP_MALFORMED) == 1)
        #expect(inbound.counters.sums.inboundPackets == 0)
        #expect(inbound.written() == [])
    }

    @Test("Dummy packets are received and not delivered")
    func dummy() throws {
        let inbound = try Inbound(testSA(.inbound))
        inbound.receive(Sealer(inbound.sa.sa).seal([1, 2], proto: 59, number: 1))
        #expect(inbound.counters.sums.inboundPackets == 1)
        #expect(inbound.written() == [])
    }

    @Test("A bundle of more datagrams than a batch holds is delivered whole and in order", arguments: [127, 128, 129, 300, 600])
    func largeBundle(count: Int) throws {
        let inbound = try Inbound(testSA(.inbound))
        let sealer = Sealer(inbound.sa.sa)
        var bundle: [UInt8] = []
        var all: [UInt8] = []
        var step = 0
        for n in 0..<count {
            let data = (0..<40).map { UInt8(truncatingIfNeeded: n &* 3 &+ $0) }
            let packet = sealer.seal(TCPSegment(sequence: UInt32(40 * n), data: data).bytes, proto: 6, number: UInt64(n + 1))
            step = packet.count
            bundle += packet
            all += data
        }
        inbound.receive(bundle, segment: step)
        #expect(inbound.written().flatMap { $0[50...] } == all)
        #expect(inbound.counters.sums.inboundPackets == UInt64(count))
    }

    @Test("Datagrams of two SAs in one bundle are each opened by their own keys")
    func twoSAs() throws {
        let inbound = try Inbound(testSA(.inbound))
        let other = testSA(.inbound, suite: .aesGCM16(keyBits: 256), spi: 99)
        try inbound.table.install(
            inbound: InboundSA(other, library: bestLibrary, workers: 1),
            outbound: OutboundSA(testSA(.outbound, spi: 98), library: bestLibrary, workers: 1))
        let (a, b) = (Sealer(inbound.sa.sa), Sealer(other))
        var bundle: [UInt8] = []
        for n in 1...40 { bundle += (n % 3 == 0 ? a : b).seal([UInt8(n), 0, 0, 0], proto: 253, number: UInt64(n)) }
        inbound.receive(bundle, segment: bundle.count / 40)
        #expect(inbound.written().map { $0[30] } == (1...40).map { UInt8($0) })
    }

    @Test("What the TUN refuses is counted by segments")
    func deliveryFails() throws {
        let counters = WorkerCounters()
        let coalescer = Coalescer(tun: -1, counters: counters)
        let sa = try InboundSA(testSA(.inbound), library: bestLibrary, workers: 1)
        var segments = (0..<3).map { TCPSegment(sequence: UInt32($0 * 4), data: [1, 2, 3, 4]).bytes }
        for index in 0..<3 {
            let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: 24, alignment: 4)
            raw.copyBytes(from: segments[index])
            coalescer.deliver(raw.baseAddress!, length: 24, proto: 6, sa: sa)
        }
        segments = []
        coalescer.flush()
        #expect(counters.dropped(ND_DROP_DELIVER_FAILED) == 3)
    }
}
