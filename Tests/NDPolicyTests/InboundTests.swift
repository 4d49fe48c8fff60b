import NDCore
import NDPolicy
import Testing

@Suite("Decision table, inbound")
struct InboundTests {
    @Test("Row 1: what is not for this host passes")
    func notOurs() throws {
        var world = try World(.secure)
        var cases: [(Packet, PassKind)] = [
            (World.proto(IPProtocol.esp), .inIPsec), (World.proto(IPProtocol.ah), .inIPsec),
            (World.udp(localPort: 500), .inIKE), (World.udp(localPort: 4500), .inIKE),
        ]
        var packet = World.tcp(.syn)
        packet.localAddress = .foreign
        cases.append((packet, .inForwarded))
        packet.localAddress = .broadcast
        cases.append((packet, .inNotUnicast))
        packet = World.tcp(.syn)
        packet.isIP = false
        cases.append((packet, .inClear))
        for (packet, kind) in cases {
            #expect(world.in(packet) == Decision(.pass(kind), .notOurs, flow: nil, peer: nil))
        }
    }

    @Test("Row 1: a source that no packet may have is refused, on a boundary host too")
    func badSource() throws {
        var world = try World(.boundary)
        for remote in ["255.255.255.255", "224.0.0.1", "0.0.0.0", "ff02::1", "::"] {
            #expect(world.in(World.udp(Endpoint(address(remote), 9))).verdict == .drop(.badSource), "\(remote)")
        }
        var packet = World.tcp(.syn)
        packet.remoteIsBroadcast = true
        #expect(world.in(packet).verdict == .drop(.badSource))
        packet = World.tcp(.syn)
        packet.remoteIsOwn = true
        #expect(world.in(packet).verdict == .drop(.badSource))
        // Without an address a host may ask for one.
        packet = World.udp(Endpoint(address("0.0.0.0"), 68))
        packet.localAddress = .broadcast
        #expect(world.in(packet).verdict == .pass(.inNotUnicast))
    }

    @Test("Row 0: a clear ICMP error about a secured connection is dropped; the strict reading passes it")
    func icmpErrors() throws {
        for isStrict in [false, true] {
            var world = try World(.negotiationDiscovery)
            world.policy.exemptsICMPErrors = isStrict
            world.secured()
            _ = world.out(World.tcp(.syn))
            let before = world.flow
            var error = World.proto(IPProtocol.icmp)
            error.quoted = World.tcp([]).key
            for (type, code) in [(3, 3), (3, 1), (3, 4), (11, 0), (12, 0), (5, 0)] as [(UInt8, UInt8)] {
                (error.icmpType, error.icmpCode) = (type, code)
                let expected: Decision.Verdict = isStrict ? .pass(.inExempt) : .drop(.icmpError)
                let decision = world.in(error)
                #expect(decision.verdict == expected && decision.flow == before, "\(type) \(code)")
                // One that this host sends quotes plaintext.
                #expect(world.out(error).verdict == (isStrict ? .pass(.outExempt) : .redirect))
            }
        }
    }

    @Test("Row 2: permitted packets pass and make no flow")
    func permitted() throws {
        var world = try World(.secure) { $0.exemptions = [Exemption(proto: IPProtocol.tcp, localPorts: [40000...40000])] }
        #expect(world.in(World.proto(IPProtocol.icmp)) == Decision(.pass(.inExempt), .permitted, flow: nil, peer: nil))
        let decision = world.in(World.tcp(.syn))
        #expect(decision.verdict == .pass(.inExempt) && decision.flow == nil)
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

    @Test("Row 0: a connection stays secure without a filter of INBOUND_TRANSPORT, and with one that permits")
    func noFilterUnlatches() throws {
        var world = try World(.negotiationDiscovery)
        world.secured()
        _ = world.out(World.tcp(.syn))
        let filters = world.policy.filters
        world.policy.filters = filters.filter { $0.layer != .inboundTransport }
        #expect(world.in(World.tcp(.ack)).verdict == .drop(.clearOnSecured))
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
        let before = world.flow
        #expect(world.in(World.tcp(.rst)).verdict == .pass(.inGrace) && world.flow == before)
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

    @Test("A SYN in clear on an ended secure flow opens nothing; a protected one does")
    func freshStart() throws {
        for scenario in [Scenario.negotiationDiscovery, .boundary] {
            var world = try World(scenario)
            world.secured()
            _ = world.decrypted(World.tcp(.syn))
            _ = world.decrypted(World.tcp(.rst))
            #expect(world.in(World.tcp(.syn)).verdict == .drop(.clearOnSecured))
            #expect(world.decrypted(World.tcp(.syn)).flow?.hasEnded == false)
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
        #expect(world.out(World.tcp(.ack)).verdict == .wait(.latched))
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
