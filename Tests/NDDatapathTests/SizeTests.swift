import CNDABI
import NDABI
import NDCore
import NDPolicy
import Testing

@testable import NDDatapath

@Suite("Sizes")
struct SizeTests {
    private func mss(_ value: UInt16) -> [UInt8] { [2, 4] + value.bytes }

    private func sumIsRight(_ talk: Talk, _ packet: [UInt8], out: Bool) -> Bool {
        let segment = Array(packet.dropFirst(talk.family == .v4 ? 20 : 40))
        return Checksum.transport(talk.source(out), talk.destination(out), IPProtocol.tcp, segment) == 0
    }

    @Test("MSS is clamped on SYN and SYN-ACK in all directions, at any offset, with a right checksum", arguments: families)
    func clamp(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundary)
        try bench.raiseEpoch { $0.mtu = 1500 }
        let most = UInt16(1500 - 62 - (family == .v4 ? 40 : 60))
        for hook in [Hook.egress, .ingress, .decrypted, .egressL3, .ingressL3] {
            for flags: TCPFlags in [.syn, [.syn, .ack]] {
                for before in [[], [1], [1, 1], [1, 1, 1], [4, 2], [3, 3, 7], [8, 10] + Array(repeating: 3, count: 8)] as [[UInt8]] {
                    for value: UInt16 in [1460, 65535, most + 1] {
                        try bench.forget()
                        let talk = Talk(family)
                        var options = before + mss(value)
                        while options.count % 4 != 0 { options.append(1) }
                        let packet = talk.tcp(flags, out: hook.isOutbound, options: options)
                        var wanted = options
                        wanted.replaceSubrange(before.count + 2..<before.count + 4, with: most.bytes)
                        let outcome = try bench.run(hook, packet)
                        #expect(outcome.verdict == .pass)
                        #expect(outcome.packet == talk.tcp(flags, out: hook.isOutbound, options: wanted), "\(hook) \(before) \(value)")
                        #expect(sumIsRight(talk, outcome.packet, out: hook.isOutbound))
                    }
                }
            }
        }
    }

    @Test("A small MSS, none, or options that make no sense are left alone", arguments: families)
    func untouched(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.raiseEpoch { $0.mtu = 1500 }
        let odd: [[UInt8]] = [
            [], mss(536), mss(1500 - 62 - 60), [1, 1, 1, 1], [0, 0, 0, 0] + mss(9000), [5, 0, 2, 4], [5, 1, 2, 4], [8, 200, 2, 4],
            [2, 3, 5, 180], [1, 2, 4, 9], Array(repeating: 1, count: 40), Array(repeating: 1, count: 37) + [2, 4, 9],
        ]
        for options in odd {
            let packet = Talk(family).tcp(.syn, out: true, options: options)
            #expect(try bench.run(.egress, packet).packet == packet, "\(options)")
        }
        let plain = Talk(family).tcp(.ack, out: true, options: mss(9000))
        #expect(try bench.run(.egress, plain).packet == plain)
        try bench.raiseEpoch { $0.mtu = 0 }
        let unclamped = Talk(family, localPort: 2).tcp(.syn, out: true, options: mss(9000))
        #expect(try bench.run(.egress, unclamped).packet == unclamped)
    }

    @Test("The copy for the daemon holds 2048 bytes at most and says when it is cut", arguments: families)
    func copies(_ family: IPFamily) throws {
        for size in [0, 1, 1400, 2048 - 48, 2500] {
            let bench = try Bench()
            let packet = Talk(family, IPProtocol.udp).udp(out: true, payload: Array(repeating: 6, count: size))
            // Behind it what a driver pads with.
            let event = try bench.run(.egress, packet + Array(repeating: 0xee, count: 20)).events.first
            #expect(event?.packet == Array(packet.prefix(2048)))
            #expect(event?.isComplete == (packet.count <= 2048))
        }
    }

    @Test("What ESP makes too big goes to the daemon for the kernel engine, and to nobody without one", arguments: families)
    func oversize(_ family: IPFamily) throws {
        let headers = family == .v4 ? 28 : 48
        for (flags, fragments, size, target) in [
            (ND_STATE_KERNEL_ENGINE, UInt32(77), 1450, UInt32(77)), (ND_STATE_KERNEL_ENGINE, 77, 1400, nil),
            (ND_STATE_KERNEL_ENGINE, 0, 1450, 0), (0, 77, 1450, nil),
        ] {
            let bench = try Bench()
            try bench.secure(family)
            try bench.raiseEpoch { ($0.flags, $0.mtu, $0.fragments) = (flags, 1500, fragments) }
            let packet = Talk(family, IPProtocol.udp).udp(out: true, payload: Array(repeating: 1, count: size - headers))
            for _ in 0..<2 {
                let before = bench.counter(.oversize)
                let outcome = try bench.run(.egress, packet)
                if target == 0 {
                    #expect(outcome.dropped?.description == "too_big")
                } else {
                    #expect(outcome.verdict == .redirect)
                    #expect(outcome.packet == packet)
                    #expect(bench.counter(.oversize) - before == (target == nil ? 0 : 1), "\(flags) \(size)")
                }
            }
        }
    }
}

@Suite("Malformed packets")
struct MalformedPacketTests {
    @Test("Cut at any length a packet never passes as protected, and is dropped where IP claims more than there is", arguments: families)
    func truncated(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundaryNoICMP)
        try bench.secure(family)
        let talk = Talk(family)
        let shapes = family == .v4
            ? [Talk.Shape(), Talk.Shape(options: Array(repeating: 1, count: 8))]
            : [Talk.Shape(), Talk.Shape(extensions: [(0, [1, 4, 0, 0, 0, 0]), (60, [1, 12] + Array(repeating: 0, count: 12))])]
        for hook in Hook.allCases {
            for shape in shapes {
                for packet in [talk.tcp(.syn, out: hook.isOutbound, options: [2, 4, 5, 180], shape), Talk(family, IPProtocol.udp).data(out: hook.isOutbound, shape), talk.echo(out: hook.isOutbound)] {
                    for length in (hook.isEthernet ? 1 : 14)..<packet.count {
                        let outcome: Bench.Outcome
                        do { outcome = try bench.run(hook, Array(packet.prefix(length))) } catch {
                            // The kernel refuses less than an Ethernet and an IP header.
                            #expect(length < 14 + (family == .v4 ? 20 : 40), "\(error)")
                            continue
                        }
                        #expect(outcome.dropped?.description == "malformed", "\(hook) \(length) of \(packet.count): \(outcome.verdict)")
                    }
                }
            }
        }
        #expect(bench.flows.entries().isEmpty)
    }

    @Test("An IP length that contradicts the packet is malformed", arguments: families)
    func claims(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundary)
        let talk = Talk(family)
        for hook in Hook.allCases {
            for claims in [1, 100, 10000, -13, -20, -32, -33] {
                let packet = talk.data(out: hook.isOutbound, Talk.Shape(claims: claims))
                #expect(try bench.run(hook, packet).dropped?.description == "malformed", "\(hook) \(claims)")
            }
            #expect(try bench.run(hook, talk.data(out: hook.isOutbound, Talk.Shape(claims: -12))).verdict == .pass)
        }
    }

    @Test("Header fields that make no sense are malformed", arguments: families)
    func nonsense(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.secure(family)
        let good = Talk(family).data(out: true)
        for first in 0..<16 as Range<UInt8> where first != (family == .v4 ? 4 : 6) {
            var packet = good
            packet[0] = first << 4 | packet[0] & 0xf
            let frame = Ethernet.frame(packet, type: family == .v4 ? 0x0800 : 0x86dd)
            #expect(try bench.runRaw(.egress, frame).dropped?.description == "malformed")
        }
        if family == .v4 {
            for words in 0..<5 as Range<UInt8> {
                var packet = good
                packet[0] = 0x40 | words
                #expect(try bench.run(.egress, packet).dropped?.description == "malformed")
            }
        }
        // The first fragment must hold the whole TCP header (RFC 1858).
        let tiny = Talk(family).packet(IPProtocol.tcp, Array(repeating: 0, count: 16), out: true, Talk.Shape(fragment: (0, true)))
        #expect(try bench.run(.egress, tiny).dropped?.description == "malformed")
    }

    @Test("Random bytes behind an IP header never harm: a verdict of the table comes out")
    func noise() throws {
        let bench = try Bench(Rules.boundaryNoICMP)
        var random = Seeded(Seeded.chosen)
        for _ in 0..<20000 {
            let hook = random.pick(Hook.allCases)
            var packet = random.pick([Talk(.v4), Talk(.v6), Talk(.v6, 0), Talk(.v6, 44), Talk(.v4, 1), Talk(.v6, 58)]).data(out: hook.isOutbound)
            for _ in 0..<random.below(6) {
                // A bare packet's source address carries the EtherType (see Hook).
                let at = random.below(packet.count)
                if at != 12 && at != 13 { packet[at] = UInt8(truncatingIfNeeded: random.next()) }
            }
            guard let outcome = try? bench.run(hook, packet) else { continue }
            #expect(outcome.verdict == .pass || outcome.dropped != nil, "\(hook) \(outcome.verdict) \(packet)")
        }
    }
}
