import NDCore
import NDPolicy
import Testing

@Suite("Decision table, outbound")
struct OutboundTests {
    @Test("Row 1: each reason to pass is its own, and leaves nothing behind")
    func notOurs() throws {
        var world = try World(.secure)
        var cases: [(Packet, PassKind)] = []
        var packet = World.tcp(.syn)
        packet.isIP = false
        cases.append((packet, .outClear))
        packet = World.tcp(.syn)
        packet.localAddress = .foreign
        cases.append((packet, .outForwarded))
        packet = World.udp()
        packet.remoteIsBroadcast = true
        cases.append((packet, .outNotUnicast))
        for remote in ["224.0.0.251", "255.255.255.255", "0.0.0.0"] {
            cases.append((World.udp(Endpoint(address(remote), 5353)), .outNotUnicast))
        }
        cases += [(World.proto(IPProtocol.esp), .outIPsec), (World.proto(IPProtocol.ah), .outIPsec)]
        cases += [(World.udp(localPort: 500), .outIKE), (World.udp(localPort: 4500), .outIKE)]
        for (packet, kind) in cases {
            #expect(world.out(packet) == Decision(.pass(kind), .notOurs, flow: nil, peer: nil))
        }
    }

    @Test("Row 1: an IKE port that somebody else holds is an ordinary port")
    func strangerOnIKEPort() throws {
        var world = try World(.secure)
        var packet = World.udp(localPort: 4500)
        packet.isOfDaemon = false
        #expect(world.out(packet).verdict == .wait(.held))
        #expect(world.in(packet).verdict == .drop(.clearInbound))
    }

    @Test("Row 0: no address, exemption or missing filter comes before the latch")
    func latchFirst() throws {
        for change in 0..<4 {
            var world = try World(.negotiationDiscovery)
            world.secured()
            world.flow = FlowEntry(direction: .outbound, firstSeen: world.now, securedAt: world.now, flags: .secure)
            var packet = World.udp()
            switch change {
            case 0: packet.localAddress = .foreign
            case 1: packet.remoteIsBroadcast = true
            case 2: world.policy.filters = []
            default: world.policy.ask(first: .outboundTransport, .permit)
            }
            #expect(world.out(packet).verdict == .redirect, "\(change)")
            world.lost()
            #expect(world.out(packet).verdict == .wait(.latched), "\(change)")
            #expect(world.in(packet).verdict == .drop(.clearOnSecured), "\(change)")
        }
    }

    @Test("An entry that an inbound packet made is not trusted once the peer was secured, before a SYN-ACK of this host")
    func inboundEntry() throws {
        var world = try World(.boundary)
        _ = world.in(World.tcp(.syn))
        world.secured()
        world.lost()
        #expect(world.flow?.direction == .inbound)
        #expect(world.out(World.tcp(.ack)).verdict == .wait(.latched))
        #expect(world.out(World.tcp([.syn, .ack])).verdict == .pass(.outClear))
        #expect(world.out(World.tcp(.ack)).verdict == .pass(.outClear))
    }

    @Test("Row 1: IKE ports are ordinary ports while no main-mode filter exists")
    func ikeWithoutMainMode() throws {
        var world = try World(.secure)
        world.policy.exemptsIKE = [.v6]
        #expect(world.out(World.udp(localPort: 500)).verdict == .wait(.held))
    }

    @Test("A packet that no filter matches passes")
    func noFilter() throws {
        var world = try World(.secure)
        world.policy.filters = []
        let decision = world.out(World.tcp(.syn))
        #expect(decision.verdict == .pass(.outExempt) && decision.row == .noFilter && decision.flow == nil)
    }

    @Test("Row 2: permitted ICMP leaves no flow, other permitted traffic an exempt one")
    func permitted() throws {
        var world = try World(.secure) { $0.exemptions = [Exemption(proto: IPProtocol.tcp, remotePorts: [443...443])] }
        #expect(world.out(World.proto(IPProtocol.icmp)) == Decision(.pass(.outExempt), .permitted, flow: nil, peer: nil))
        #expect(world.out(World.tcp([.syn, .ack])).flow == nil && world.out(World.tcp(.rst)).flow == nil)
        let decision = world.out(World.tcp(.syn))
        #expect(decision.verdict == .pass(.outExempt) && decision.event == nil)
        #expect(decision.flow?.flags == .exempt)
        #expect(world.in(World.tcp([.syn, .ack])).verdict == .pass(.inExempt))
    }

    @Test("Row 2: a blocking filter drops, at the transport layer and at connect")
    func blocked() throws {
        for layer in [DatapathLayer.outboundTransport, .aleAuthConnect] {
            var world = try World(.negotiationDiscovery)
            world.policy.ask(first: layer, .block, proto: IPProtocol.tcp)
            let decision = world.out(World.tcp(.syn))
            #expect(decision == Decision(.drop(.blocked), .blocked, flow: nil, peer: nil))
        }
    }

    @Test("Row 2: a filter that comes to permit a secured flow does not unlatch it")
    func permitKeepsLatch() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        #expect(world.out(World.tcp(.syn)).verdict == .redirect)
        world.policy.ask(first: .outboundTransport, .permit)
        #expect(world.out(World.tcp(.ack)).verdict == .redirect)
        world.lost()
        #expect(world.out(World.tcp(.ack)).verdict == .wait(.latched))
    }

    @Test("Row 3: with a secured peer the packet is redirected and the flow latched")
    func peerSecured() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        let decision = world.out(World.tcp(.syn))
        #expect(decision.verdict == .redirect && decision.row == .peerSecured && decision.event == nil)
        #expect(decision.flow?.isSecure == true && decision.flow?.securedAt == world.now)
    }

    @Test("Row 3: a clear flow is upgraded in mid-connection, once")
    func upgrade() throws {
        var world = try World(.negotiationDiscovery)
        _ = world.out(World.tcp(.syn))
        world.wait(1)
        world.secured()
        let at = world.now
        #expect(world.out(World.tcp(.ack)).verdict == .redirect)
        world.wait(1)
        _ = world.out(World.tcp(.ack))
        #expect(world.flow?.securedAt == at)
    }

    @Test("Row 4: a secure flow without SA is dropped, and asks once an interval")
    func latched() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        _ = world.out(World.tcp(.syn))
        world.lost()
        let first = world.out(World.tcp(.ack))
        #expect(first.verdict == .wait(.latched) && first.row == .flowSecure && first.event == .latched)
        #expect(first.peer?.state == .negotiating && first.peer?.securedUntil == world.now)
        #expect(world.out(World.tcp(.ack)).event == .wait)
        world.wait(10)
        #expect(world.out(World.tcp(.ack)).event == .latched)
        world.failed(clearFor: 30)
        let during = world.out(World.tcp(.ack))
        #expect(during.verdict == .wait(.latched) && during.event == .wait)
        world.wait(30)
        #expect(world.out(World.tcp(.ack)).event == .latched)
    }

    @Test("Row 4: a secure flow whose peer entry is gone is dropped and asks")
    func latchedWithoutPeer() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        _ = world.out(World.tcp(.syn))
        world.peer = nil
        let decision = world.out(World.tcp(.ack))
        #expect(decision.verdict == .wait(.latched) && decision.event == .latched)
        #expect(decision.peer?.state == .negotiating)
    }

    @Test("Row 5: without a flow entry, whatever opens nothing is dropped once the peer was secured")
    func maybeSecure() throws {
        for flags: TCPFlags in [.ack, [.syn, .ack], .rst, [.fin, .ack], []] {
            var world = try World(.negotiationDiscovery)
            world.secured()
            world.lost()
            world.wait(100_000)
            let decision = world.out(World.tcp(flags))
            #expect(decision.verdict == .wait(.latched) && decision.row == .maybeSecure && decision.flow == nil)
            #expect(decision.event == .latched)
        }
    }

    @Test("Row 5: protocols without connections are held for the idle time after the SA went")
    func maybeSecureDatagrams() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        world.lost()
        world.wait(59.9)
        #expect(world.out(World.udp()).verdict == .wait(.latched))
        world.wait(0.1)
        let decision = world.out(World.udp())
        #expect(decision.verdict == .pass(.outClear))
    }

    @Test("A new connection to a lost peer goes in clear and negotiates again, remembering the protection")
    func lostPeerOpens() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        world.wait(5)
        world.lost()
        let until = world.now
        world.wait(1)
        let decision = world.out(World.tcp(.syn))
        #expect(decision.verdict == .pass(.outClear) && decision.event == .negotiate)
        #expect(decision.peer?.state == .negotiating && decision.peer?.securedUntil == until)
    }

    @Test("Row 6: the first packet to an unknown peer passes in clear and negotiates once")
    func unknownPeer() throws {
        for scenario in [Scenario.negotiationDiscovery, .boundary] {
            var world = try World(scenario)
            let decision = world.out(World.tcp(.syn))
            #expect(decision.verdict == .pass(.outClear) && decision.row == .clearAsks && decision.event == .negotiate)
            #expect(decision.flow?.flags == .trigger && decision.flow?.direction == .outbound)
            #expect(decision.peer == PeerEntry(.negotiating, changedAt: world.now))
            #expect(world.out(World.tcp(.ack)).event == nil)
        }
    }

    @Test("Row 6: the end of the negative cache negotiates again, for new and for open flows")
    func negativeCacheOver() throws {
        for hasFlow in [true, false] {
            var world = try World(.negotiationDiscovery)
            _ = world.out(World.udp())
            world.failed(clearFor: 30)
            if !hasFlow { world.flow = nil }
            world.wait(29)
            let during = world.out(World.udp())
            #expect(during.verdict == .pass(.outClear) && during.event == nil && during.peer?.state == .clear)
            world.wait(1)
            let after = world.out(World.udp())
            #expect(after.verdict == .pass(.outClear) && after.event == .negotiate)
        }
    }

    @Test("Row 7: while the peer negotiates, first packets of other flows are stashed and pass")
    func stash() throws {
        var world = try World(.negotiationDiscovery)
        _ = world.out(World.tcp(.syn))
        world.flow = nil
        let decision = world.out(World.udp())
        #expect(decision.verdict == .pass(.outClear) && decision.row == .clear && decision.event == .stash)
        #expect(world.out(World.udp()).event == nil)
    }

    @Test("Row 7: a negotiation that nobody ends is asked for again")
    func stuck() throws {
        var world = try World(.negotiationDiscovery)
        _ = world.out(World.udp())
        world.wait(9.9)
        #expect(world.out(World.udp()).event == nil)
        world.wait(0.1)
        #expect(world.out(World.udp()).event == .negotiate)
        #expect(world.peer?.changedAt == world.now)
    }

    @Test("Row 8: secure holds the packet, keeps no flow, and offers every packet to the store")
    func held() throws {
        var world = try World(.secure)
        let first = world.out(World.tcp(.syn))
        #expect(first.verdict == .wait(.held) && first.row == .held && first.event == .negotiate && first.flow == nil)
        let second = world.out(World.tcp(.syn))
        #expect(second.verdict == .wait(.held) && second.event == .wait)
        world.failed(clearFor: 60)
        let third = world.out(World.tcp(.syn))
        #expect(third.verdict == .wait(.held) && third.event == nil)
        world.secured()
        #expect(world.out(World.tcp(.syn)).verdict == .redirect)
    }

    @Test("Link-local peers are never negotiated with: clear in discovery, held in secure")
    func linkLocal() throws {
        for remote in ["fe80::1", "169.254.7.7"] {
            var world = try World(.negotiationDiscovery)
            let decision = world.out(World.udp(Endpoint(address(remote), 9)))
            #expect(decision.verdict == .pass(.outClear) && decision.event == nil && decision.peer == nil)
            #expect(decision.flow != nil)
            world = try World(.secure)
            let held = world.out(World.udp(Endpoint(address(remote), 9)))
            #expect(held == Decision(.wait(.held), .held, flow: nil, peer: nil))
        }
    }

    @Test("A flow idle for too long counts as absent: datagrams by the idle time, TCP much later")
    func idle() throws {
        var world = try World(.negotiationDiscovery)
        _ = world.out(World.udp())
        let first = world.flow?.firstSeen
        world.wait(60)
        _ = world.out(World.udp())
        #expect(world.flow?.firstSeen == first)
        world.wait(60.1)
        _ = world.out(World.udp())
        #expect(world.flow?.firstSeen == world.now)
        world.flow = nil
        _ = world.out(World.tcp(.syn))
        world.wait(100_000)
        _ = world.out(World.tcp(.ack))
        #expect(world.flow?.firstSeen != world.now)
    }

    @Test("A SYN on an ended flow starts afresh; on a living one it stays latched")
    func freshStart() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        _ = world.out(World.tcp(.syn))
        world.lost()
        #expect(world.out(World.tcp(.syn)).verdict == .wait(.latched))
        for ending in [[TCPFlags.rst], [.fin, .fin]] {
            world.flow = FlowEntry(direction: .outbound, firstSeen: world.now, securedAt: world.now, flags: .secure)
            world.secured()
            _ = world.out(World.tcp([ending[0], .ack]))
            if ending.count == 2 { _ = world.decrypted(World.tcp([.fin, .ack])) }
            #expect(world.flow?.hasEnded == true)
            world.lost()
            #expect(world.out(World.tcp(.ack)).verdict == .wait(.latched))
            world.wait(1)
            let fresh = world.out(World.tcp(.syn))
            #expect(fresh.verdict == .pass(.outClear) && fresh.flow?.isSecure == false)
        }
    }

    @Test("An ICMP error follows the flow that it quotes where no filter exempts it")
    func icmpError() throws {
        var world = try World(.negotiationDiscovery) { $0.exemptsICMP = false }
        world.secured()
        _ = world.out(World.tcp(.syn))
        world.lost()
        var error = World.proto(IPProtocol.icmp)
        error.icmpType = 3
        error.quoted = World.tcp([]).key
        #expect(world.out(error).verdict == .wait(.latched))
        #expect(world.in(error).verdict == .drop(.icmpError))
    }
}
