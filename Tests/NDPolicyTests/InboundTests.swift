import NDCore
import NDPolicy
import Testing

@Suite("Decision table, inbound")
struct InboundTests {
    @Test("Row 1: what is not for this host passes")
    func notOurs() throws {
        var world = try World(.secure)
        var packets = [World.proto(IPProtocol.esp), World.proto(IPProtocol.ah), World.udp(localPort: 500), World.udp(localPort: 4500)]
        var packet = World.tcp(.syn)
        packet.localAddress = .foreign
        packets.append(packet)
        packet.localAddress = .broadcast
        packets.append(packet)
        packet = World.tcp(.syn)
        packet.isIP = false
        packets.append(packet)
        for packet in packets {
            #expect(world.in(packet) == Decision(.pass(.inExempt), .notOurs, flow: nil, peer: nil))
        }
    }

    @Test("Row 2: permitted ICMP passes without a flow, other permitted traffic with an exempt one")
    func permitted() throws {
        var world = try World(.secure) { $0.exemptions = [Exemption(proto: IPProtocol.tcp, localPorts: [40000...40000])] }
        #expect(world.in(World.proto(IPProtocol.icmp)) == Decision(.pass(.inExempt), .permitted, flow: nil, peer: nil))
        let decision = world.in(World.tcp(.syn))
        #expect(decision.verdict == .pass(.inExempt) && decision.flow?.flags == .exempt)
        #expect(world.out(World.tcp([.syn, .ack])).verdict == .pass(.outExempt))
    }

    @Test("Row 2: a blocking filter drops, at the transport layer and at accept")
    func blocked() throws {
        for layer in [DatapathLayer.inboundTransport, .aleAuthRecvAccept] {
            var world = try World(.boundary)
            world.policy.ask(first: layer, .block, proto: IPProtocol.tcp)
            #expect(world.in(World.tcp(.syn)) == Decision(.drop(.blocked), .blocked, flow: nil, peer: nil))
            #expect(world.decrypted(World.tcp(.syn)).verdict == .drop(.blocked))
        }
    }

    @Test("Row 3: the answer to a clear flow passes, and the first one is reported once")
    func knownClearFlow() throws {
        var world = try World(.negotiationDiscovery)
        _ = world.out(World.tcp(.syn))
        let first = world.in(World.tcp([.syn, .ack]))
        #expect(first.verdict == .pass(.inClear) && first.row == .knownClearFlow && first.event == .clearReply)
        #expect(first.flow?.flags == [.trigger, .clearReply])
        #expect(world.in(World.tcp(.ack)).event == nil)
    }

    @Test("Row 3: a clear answer is not reported once the negotiation is over")
    func clearReplyTooLate() throws {
        var world = try World(.negotiationDiscovery)
        _ = world.out(World.tcp(.syn))
        world.failed(clearFor: 60)
        #expect(world.in(World.tcp([.syn, .ack])).event == nil)
    }

    @Test("Row 4: clear on a secure flow is dropped and changes nothing, a forged reset included")
    func clearOnSecured() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        _ = world.out(World.tcp(.syn))
        let before = world.flow
        for flags: TCPFlags in [[.syn, .ack], .ack, .rst, [.fin, .ack]] {
            let decision = world.in(World.tcp(flags))
            #expect(decision.verdict == .drop(.clearOnSecured) && decision.row == .clearOnSecured)
            #expect(decision.flow == before)
        }
    }

    @Test("Row 4: without a filter of INBOUND_TRANSPORT nothing asks that a connection stays secure; a permit does not unlatch it")
    func notPersistent() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        _ = world.out(World.tcp(.syn))
        let filters = world.policy.filters
        world.policy.filters = filters.filter { $0.layer != .inboundTransport }
        let decision = world.in(World.tcp(.ack))
        #expect(decision.verdict == .pass(.inClear) && decision.row == .notPersistent)
        #expect(decision.flow?.isSecure == true)
        world.policy.filters = filters
        world.policy.ask(first: .inboundTransport, .permit, proto: IPProtocol.tcp)
        #expect(world.in(World.tcp(.ack)).verdict == .drop(.clearOnSecured))
    }

    @Test("Row 5: what INBOUND_TRANSPORT permits ALE_AUTH_RECV_ACCEPT may refuse, ICMP errors excepted")
    func layersDecideEach() throws {
        var world = try World(.negotiationDiscovery) { $0.exemptions = [Exemption(proto: IPProtocol.tcp, localPorts: [40000...40000])] }
        world.policy.filters.removeAll { $0.layer == .aleAuthRecvAccept && $0.verdict == .permit }
        #expect(world.in(World.tcp(.syn)).verdict == .drop(.clearInbound))
        var ping = World.proto(IPProtocol.icmp)
        ping.icmpType = 8
        #expect(world.in(ping).verdict == .drop(.clearInbound))
        #expect(world.decrypted(ping).verdict == .pass(.inProtected))
        ping.icmpType = 3
        #expect(world.in(ping).verdict == .pass(.inExempt))
        world.policy.ask(first: .aleAuthRecvAccept, .block)
        ping.icmpType = 8
        #expect(world.in(ping).verdict == .drop(.blocked) && world.decrypted(ping).verdict == .drop(.blocked))
    }

    @Test("Row 4: packets in flight at the upgrade pass within the grace time, until one comes protected")
    func grace() throws {
        var world = try World(.negotiationDiscovery)
        _ = world.out(World.tcp(.syn))
        world.wait(1)
        world.secured()
        _ = world.out(World.tcp(.ack))
        world.wait(10)
        #expect(world.in(World.tcp(.ack)).row == .grace)
        world.wait(0.001)
        #expect(world.in(World.tcp(.ack)).verdict == .drop(.clearOnSecured))

        world = try World(.negotiationDiscovery)
        _ = world.out(World.tcp(.syn))
        world.wait(1)
        world.secured()
        _ = world.out(World.tcp(.ack))
        #expect(world.in(World.tcp(.ack)).verdict == .pass(.inClear))
        #expect(world.decrypted(World.tcp(.ack)).verdict == .pass(.inProtected))
        #expect(world.in(World.tcp(.ack)).verdict == .drop(.clearOnSecured))
    }

    @Test("Row 4: a flow that began after the peer was secured has no grace")
    func noGrace() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        world.wait(1)
        _ = world.out(World.udp())
        #expect(world.in(World.udp()).verdict == .drop(.clearOnSecured))
    }

    @Test("Row 5: discovery and secure refuse new clear flows silently")
    func refused() throws {
        for scenario in [Scenario.negotiationDiscovery, .secure] {
            var world = try World(scenario)
            for packet in [World.tcp(.syn), World.tcp(.ack), World.udp()] {
                let decision = world.in(packet)
                #expect(decision == Decision(.drop(.clearInbound), .newInboundRefused, flow: nil, peer: nil))
            }
        }
    }

    @Test("Row 5: boundary takes a new clear flow, and its answer negotiates")
    func boundary() throws {
        var world = try World(.boundary)
        let decision = world.in(World.tcp(.syn))
        #expect(decision.verdict == .pass(.inClear) && decision.row == .newInboundClear && decision.event == nil)
        #expect(decision.flow?.direction == .inbound && decision.peer == nil)
        let answer = world.out(World.tcp([.syn, .ack]))
        #expect(answer.verdict == .pass(.outClear) && answer.event == .negotiate)
    }

    @Test("Row 5: boundary refuses what opens nothing once the peer was secured")
    func boundaryAfterProtection() throws {
        var world = try World(.boundary)
        world.secured()
        #expect(world.in(World.tcp(.ack)).verdict == .drop(.clearOnSecured))
        #expect(world.in(World.udp()).verdict == .drop(.clearOnSecured))
        world.lost()
        world.wait(61)
        #expect(world.in(World.udp()).verdict == .pass(.inClear))
        world.flow = nil
        #expect(world.in(World.tcp(.ack)).verdict == .drop(.clearOnSecured))
        #expect(world.in(World.tcp(.syn)).verdict == .pass(.inClear))
    }

    @Test("A SYN in clear on an ended secure flow is a new flow: refused in discovery, taken by boundary")
    func freshStart() throws {
        for (scenario, verdict) in [
            (Scenario.negotiationDiscovery, Decision.Verdict.drop(.clearInbound)), (.boundary, .pass(.inClear)),
        ] {
            var world = try World(scenario)
            world.secured()
            _ = world.decrypted(World.tcp(.syn))
            _ = world.decrypted(World.tcp(.rst))
            #expect(world.in(World.tcp(.syn)).verdict == verdict)
        }
    }

    @Test("A decrypted packet latches its flow, new or known")
    func decrypted() throws {
        for scenario in Scenario.allCases {
            var world = try World(scenario)
            world.secured()
            let new = world.decrypted(World.tcp(.syn))
            #expect(new.verdict == .pass(.inProtected) && new.flow?.isSecure == true)
            #expect(new.flow?.protectedReceivedAt == world.now)
            #expect(world.out(World.tcp([.syn, .ack])).verdict == .redirect)
        }
        var world = try World(.negotiationDiscovery)
        _ = world.out(World.tcp(.syn))
        _ = world.decrypted(World.tcp([.syn, .ack]))
        // Our outbound SA is not up: nothing of the flow leaves in clear any more.
        #expect(world.out(World.tcp(.ack)).verdict == .drop(.latched))
    }

    @Test("A decrypted packet for an address that isn't ours is dropped; exempt ICMP needs no flow")
    func decryptedEdges() throws {
        var world = try World(.negotiationDiscovery)
        var packet = World.tcp(.syn)
        packet.localAddress = .foreign
        #expect(world.decrypted(packet).verdict == .drop(.wrongAddress))
        let icmp = world.decrypted(World.proto(IPProtocol.icmp))
        #expect(icmp.verdict == .pass(.inProtected) && icmp.flow == nil)
    }
}
