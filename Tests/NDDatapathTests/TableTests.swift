import CNDABI
import Foundation
import NDABI
import NDCore
import NDDatapath
import NDPolicy
import Testing

/// Rows of the decision tables and the shapes that packets come in, one by one, for both families.
@Suite("The decision tables in BPF", .serialized)
struct TableTests {
    private let bench: TestBench
    private static let pass: Int32 = -1
    private static let drop: Int32 = 2
    private static let redirect: Int32 = 7

    init() throws { bench = try TestBench() }

    private func policy(_ scenario: String, _ more: String = "") throws -> CompiledPolicy {
        try Policy.parse(
            "version: 1\nscenario: \(scenario)\nauthentication: { pre-shared-keys: [ { remote: any, file: /k } ] }\n\(more)\n",
            file: "p"
        ).compiled()
    }

    private func ends(_ family: Int) throws -> (local: IPAddress, remote: IPAddress) {
        family == 4
            ? (try ip(TestBench.local4), try ip("192.0.2.7")) : (try ip(TestBench.local6), try ip("2001:db8::7"))
    }

    private func key(_ frame: Frame, outbound: Bool) -> FlowKey {
        let source = Endpoint(frame.source, frame.sourcePort)
        let destination = Endpoint(frame.destination, frame.destinationPort)
        return FlowKey(
            local: outbound ? source : destination, remote: outbound ? destination : source, proto: frame.proto)
    }

    private func setPeer(_ key: FlowKey, _ state: PeerEntry.State, securedUntil: Instant? = nil) throws {
        var peer = PeerEntry(state, changedAt: .now())
        if state == .secured {
            peer.securedAt = .now()
            peer.securedUntil = PeerEntry.stillSecured
        } else {
            peer.securedUntil = securedUntil
        }
        if state == .clear { peer.clearUntil = Instant.now().advanced(by: .seconds(60)) }
        try bench.peers.update(nd_peer_key(key.peer), peer.abi)
        try bench.setState { _ in }
    }

    @Test("A SYN to an unknown peer leaves in clear with one event that carries it whole; the next flow is stashed", arguments: [4, 6])
    func firstPacket(family: Int) throws {
        try bench.commit(try policy("negotiation-discovery"))
        let (local, remote) = try ends(family)
        var syn = Frame(local, remote)
        syn.flags = 0x02
        let first = try bench.run(.egress, syn.bytes)
        #expect(first.verdict == Self.pass)
        #expect(first.events.map(\.type) == [ND_EVENT_NEGOTIATE.rawValue])
        let event = try #require(first.events.first)
        #expect(event.packet == Array(syn.bytes.dropFirst(14)) && event.length == event.packet.count)
        #expect(try bench.run(.egress, syn.bytes).events.isEmpty, "the retransmission asks for nothing")
        syn.sourcePort += 1
        #expect(try bench.run(.egress, syn.bytes).events.map(\.type) == [ND_EVENT_STASH.rawValue])
        for port in 0..<200 {
            syn.sourcePort = 50_000 + UInt16(port)
            let outcome = try bench.run(.egress, syn.bytes)
            #expect(outcome.events.allSatisfy { $0.type == ND_EVENT_STASH.rawValue })
        }
    }

    @Test("A cached clear verdict ends with the very next packet after the peer is secured, and never returns", arguments: [4, 6])
    func upgrade(family: Int) throws {
        try bench.commit(try policy("negotiation-discovery"))
        let (local, remote) = try ends(family)
        let out = Frame(local, remote)
        let flow = key(out, outbound: true)
        #expect(try bench.run(.egress, out.bytes).verdict == Self.pass)
        #expect(try bench.run(.egress, out.bytes).verdict == Self.pass, "from the cache")
        try setPeer(flow, .secured)
        #expect(try bench.run(.egress, out.bytes).verdict == Self.redirect)
        try setPeer(flow, .lost, securedUntil: .now())
        let before = bench.drops(ND_DROP_LATCHED)
        let latched = try bench.run(.egress, out.bytes)
        #expect(latched.verdict == Self.drop)
        #expect(latched.events.map(\.type) == [ND_EVENT_LATCHED.rawValue], "it asks for its peer")
        try setPeer(flow, .clear, securedUntil: .now())
        #expect(try bench.run(.egress, out.bytes).verdict == Self.drop)
        #expect(bench.drops(ND_DROP_LATCHED) == before + 2)
        // Without the entry, what opens nothing is held all the same; a SYN is a new connection.
        bench.flows.delete(nd_flow_key(flow))
        #expect(try bench.run(.egress, out.bytes).verdict == Self.drop)
        var syn = out
        syn.flags = 0x02
        #expect(try bench.run(.egress, syn.bytes).verdict == Self.pass)
    }

    @Test("Clear inbound: new flows are refused, answers to our clear flows pass, boundary accepts", arguments: [4, 6])
    func inbound(family: Int) throws {
        try bench.commit(try policy("negotiation-discovery"))
        let (local, remote) = try ends(family)
        for proto in [IPProtocol.tcp, IPProtocol.udp] {
            var packet = Frame(remote, local)
            packet.proto = proto
            packet.flags = 0x02
            (packet.sourcePort, packet.destinationPort) = (443, 41_000)
            let before = bench.drops(ND_DROP_CLEAR_INBOUND)
            #expect(try bench.run(.ingress, packet.bytes).verdict == Self.drop)
            #expect(bench.drops(ND_DROP_CLEAR_INBOUND) == before + 1)
            var own = Frame(local, remote)
            own.proto = proto
            own.flags = 0x02
            (own.sourcePort, own.destinationPort) = (41_000, 443)
            #expect(try bench.run(.egress, own.bytes).verdict == Self.pass)
            packet.flags = 0x12
            #expect(try bench.run(.ingress, packet.bytes).verdict == Self.pass)
        }
        try bench.commit(try policy("boundary"))
        var packet = Frame(remote, local)
        packet.flags = 0x02
        packet.destinationPort = 22
        #expect(try bench.run(.ingress, packet.bytes).verdict == Self.pass)
    }

    @Test("A decrypted packet secures its flow; clear packets of it are dropped, RST included", arguments: [4, 6])
    func decrypted(family: Int) throws {
        try bench.commit(try policy("negotiation-discovery"))
        let (local, remote) = try ends(family)
        var packet = Frame(remote, local)
        (packet.sourcePort, packet.destinationPort) = (50_123, 443)
        #expect(try bench.run(.decrypted, packet.bytes).verdict == Self.pass)
        for flags: UInt8 in [0x10, 0x18, 0x04, 0x14, 0x11] {
            packet.flags = flags
            #expect(try bench.run(.ingress, packet.bytes).verdict == Self.drop)
        }
        let flow = try #require(bench.flows.lookup(nd_flow_key(key(packet, outbound: false))))
        #expect(flow.flags & (ND_FLOW_RESET | ND_FLOW_FIN_IN) == 0, "what was dropped ends nothing")
    }

    @Test("The strict policy holds the first packet back and hands it over", arguments: [4, 6])
    func held(family: Int) throws {
        try bench.commit(try policy("secure"))
        let (local, remote) = try ends(family)
        var syn = Frame(local, remote)
        syn.flags = 0x02
        let outcome = try bench.run(.egress, syn.bytes)
        #expect(outcome.verdict == Self.drop)
        #expect(outcome.events.map(\.type) == [ND_EVENT_NEGOTIATE.rawValue])
        #expect(bench.flows.lookup(nd_flow_key(key(syn, outbound: true))) == nil)
    }

    @Test("VLAN tags, IPv4 options and IPv6 extension headers change no verdict")
    func shapes() throws {
        try bench.commit(try policy("negotiation-discovery"))
        let (local, remote) = try ends(4)
        let (local6, remote6) = try ends(6)
        var plain = Frame(local, remote)
        try setPeer(key(plain, outbound: true), .secured)
        var six = Frame(local6, remote6)
        try setPeer(key(six, outbound: true), .secured)
        #expect(try bench.run(.egress, plain.bytes).verdict == Self.redirect)
        plain.vlan = [10]
        #expect(try bench.run(.egress, plain.bytes).verdict == Self.redirect)
        plain.vlan = [10, 20]
        #expect(try bench.run(.egress, plain.bytes).verdict == Self.redirect)
        plain.vlan = []
        plain.ipOptions = [UInt8](repeating: 1, count: 40)
        #expect(try bench.run(.egress, plain.bytes).verdict == Self.redirect)
        let padding: [UInt8] = [0, 1, 4, 0, 0, 0, 0]
        for types: [UInt8] in [[0], [60], [43], [0, 60, 43], [0, 60, 60, 60]] {
            six.extensions = types.map { ($0, padding) }
            #expect(try bench.run(.egress, six.bytes).verdict == Self.redirect, "extension headers \(types)")
        }
        six.extensions = []
        six.fragment = (0, false)
        #expect(try bench.run(.egress, six.bytes).verdict == Self.redirect, "an atomic fragment is a whole packet")
    }

    @Test("Later fragments follow their first one, out and in", arguments: [4, 6])
    func fragments(family: Int) throws {
        try bench.commit(try policy("negotiation-discovery"))
        let (local, remote) = try ends(family)
        var first = Frame(local, remote)
        first.proto = IPProtocol.udp
        first.payload = [UInt8](repeating: 1, count: 64)
        first.fragment = (0, true)
        var later = first
        later.fragment = (9, false)
        try setPeer(key(first, outbound: true), .secured)
        #expect(try bench.run(.egress, later.bytes).verdict == Self.drop, "without a first one, to a secured peer")
        #expect(try bench.run(.egress, first.bytes).verdict == Self.redirect)
        #expect(try bench.run(.egress, later.bytes).verdict == Self.redirect)
        bench.peers.delete(nd_peer_key(key(first, outbound: true).peer))
        bench.flows.delete(nd_flow_key(key(first, outbound: true)))
        (first.identification, later.identification) = (8, 8)
        try bench.setState { _ in }
        #expect(try bench.run(.egress, first.bytes).verdict == Self.pass)
        #expect(try bench.run(.egress, later.bytes).verdict == Self.pass)
        var inFirst = Frame(remote, local)
        inFirst.proto = IPProtocol.udp
        inFirst.destinationPort = 9
        inFirst.payload = first.payload
        inFirst.fragment = (0, true)
        var inLater = inFirst
        inLater.fragment = (9, false)
        #expect(try bench.run(.ingress, inFirst.bytes).verdict == Self.drop)
        #expect(try bench.run(.ingress, inLater.bytes).verdict == Self.drop)
        inFirst.payload = [1, 2]
        var tiny = inFirst.bytes
        tiny.removeLast(6)
        #expect(try bench.run(.ingress, tiny).verdict == Self.drop, "ports must be in the first fragment")
    }

    @Test("Exempt: ICMP, ESP, AH, IKE, DHCP, multicast, broadcast, foreign sources")
    func exempt() throws {
        try bench.commit(try policy("negotiation-discovery"))
        let (local, remote) = try ends(4)
        var frames: [Frame] = []
        for proto in [IPProtocol.icmp, IPProtocol.esp, IPProtocol.ah] {
            var frame = Frame(local, remote)
            frame.proto = proto
            frames.append(frame)
        }
        for port: UInt16 in [500, 4500] {
            var frame = Frame(local, remote)
            frame.proto = IPProtocol.udp
            frame.sourcePort = port
            frames.append(frame)
        }
        var dhcp = Frame(local, remote)
        dhcp.proto = IPProtocol.udp
        (dhcp.sourcePort, dhcp.destinationPort) = (68, 67)
        frames.append(dhcp)
        for text in ["224.0.0.1", "255.255.255.255", "10.1.0.255"] {
            var frame = Frame(local, try ip(text))
            frame.proto = IPProtocol.udp
            frames.append(frame)
        }
        frames.append(Frame(try ip("10.99.0.1"), remote))
        for frame in frames {
            let outcome = try bench.run(.egress, frame.bytes)
            #expect(outcome.verdict == Self.pass && outcome.events.isEmpty, "\(frame.proto) to \(frame.destination)")
            #expect(bench.peers.lookup(nd_peer_key(PeerKey(local: frame.source, remote: frame.destination))) == nil)
            bench.forget(key(frame, outbound: true))
        }
        var ping = Frame(remote, local)
        ping.proto = IPProtocol.icmp
        #expect(try bench.run(.ingress, ping.bytes).verdict == Self.pass)
    }

    @Test("The MSS is clamped so that segments fit after ESP, with a right checksum, wherever the option stands", arguments: [4, 6])
    func mss(family: Int) throws {
        let compiled = try policy("negotiation-discovery")
        try bench.commit(compiled)
        let (local, remote) = try ends(family)
        let overhead = Int(family == 4 ? compiled.overheadV4 : compiled.overheadV6)
        let most = 1500 - overhead - (family == 4 ? 40 : 60)
        for (options, at) in [
            ([2, 4, 0x05, 0xb4], 2), ([1, 2, 4, 0x05, 0xb4], 3), ([4, 2, 1, 1, 2, 4, 0x05, 0xb4], 6),
            ([8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 0x05, 0xb4], 13),
        ] as [([UInt8], Int)] {
            for outbound in [true, false] {
                var syn = outbound ? Frame(local, remote) : Frame(remote, local)
                syn.flags = 0x02
                syn.tcpOptions = options
                syn.payload = []
                if !outbound { try bench.commit(try policy("boundary")) }
                let outcome = try bench.run(outbound ? .egress : .ingress, syn.bytes)
                if !outbound { try bench.commit(compiled) }
                #expect(outcome.verdict == Self.pass)
                let l4 = 14 + (family == 4 ? 20 : 40)
                let segment = Array(outcome.frame[l4...])
                let value = Int(segment[20 + at]) << 8 | Int(segment[20 + at + 1])
                #expect(value == most, "option at \(at): \(value)")
                #expect(Frame.checksum(syn.pseudo(segment.count) + segment) == 0, "checksum with the option at \(at)")
                bench.forget(key(syn, outbound: outbound))
            }
        }
        var small = Frame(local, remote)
        small.flags = 0x02
        small.tcpOptions = [2, 4, 0x02, 0x18]
        #expect(try bench.run(.egress, small.bytes).frame == small.bytes, "a small one is left alone")
    }

    @Test("Where ICMP is not exempt, an error follows the flow that it quotes")
    func quoted() throws {
        try bench.commit(try policy("negotiation-discovery", "icmp: protect"))
        let (local, remote) = try ends(4)
        let own = Frame(local, remote)
        let flow = key(own, outbound: true)
        #expect(try bench.run(.egress, own.bytes).verdict == Self.pass)
        var error = Frame(remote, local)
        error.proto = IPProtocol.icmp
        (error.icmpType, error.icmpCode) = (3, 3)
        error.payload = Array(own.bytes.dropFirst(14).prefix(28))
        #expect(try bench.run(.ingress, error.bytes).verdict == Self.pass, "about a clear flow")
        try setPeer(flow, .secured)
        #expect(try bench.run(.egress, own.bytes).verdict == Self.redirect)
        var entry = try #require(bench.flows.lookup(nd_flow_key(flow)))
        entry.protected_rx_at = entry.secured_at
        try bench.flows.update(nd_flow_key(flow), entry)
        #expect(try bench.run(.ingress, error.bytes).verdict == Self.drop, "about a secured flow")
        error.payload[20] ^= 0xff
        #expect(try bench.run(.ingress, error.bytes).verdict == Self.drop, "about no flow of ours")
    }

    @Test("With the kernel engine DF is cleared where ESP makes a packet too big, and fragments are dropped")
    func kernelEngine() throws {
        try bench.commit(try policy("negotiation-discovery"))
        try bench.setState { $0.flags = ND_STATE_KERNEL_ENGINE }
        let (local, remote) = try ends(4)
        var big = Frame(local, remote)
        big.proto = IPProtocol.udp
        big.df = true
        big.payload = [UInt8](repeating: 3, count: 1472)
        try setPeer(key(big, outbound: true), .secured)
        let outcome = try bench.run(.egress, big.bytes)
        #expect(outcome.verdict == Self.redirect)
        #expect(outcome.frame[20] & 0x40 == 0, "DF")
        #expect(Frame.checksum(Array(outcome.frame[14..<34])) == 0)
        big.payload = [1]
        #expect(try bench.run(.egress, big.bytes).frame[20] & 0x40 != 0, "a small packet keeps it")
        big.fragment = (0, true)
        #expect(try bench.run(.egress, big.bytes).verdict == Self.drop)
    }

    @Test("Truncated headers never pass as protected", arguments: [4, 6])
    func truncated(family: Int) throws {
        try bench.commit(try policy("negotiation-discovery"))
        let (local, remote) = try ends(family)
        var packet = Frame(remote, local)
        packet.flags = 0x02
        let whole = packet.bytes
        let header = 14 + (family == 4 ? 20 : 40) + 20
        // The kernel's test run refuses frames without a whole IP header itself.
        for length in (header - 20)..<header {
            for program in [TestBench.Program.ingress, .decrypted] {
                #expect(try bench.run(program, Array(whole.prefix(length))).verdict == Self.drop, "\(length) bytes")
            }
        }
        #expect(bench.flows.lookup(nd_flow_key(key(packet, outbound: false))) == nil)
    }
}
