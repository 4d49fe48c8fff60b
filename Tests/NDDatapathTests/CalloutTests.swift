import CNDABI
import NDABI
import NDCore
import NDPolicy
import Testing

@testable import NDDatapath

@Suite("Callouts' programs")
struct CalloutTests {
    private static let payload = Array("FORBIDDEN fruit".utf8)

    @Test("A program sees the packet's flow, headers and payload, and the filter that asks", arguments: families)
    func metadata(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .datagramData, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_CONTINUE)
        let talk = Talk(family, IPProtocol.udp)
        let outcome = try callouts.bench.run(.egress, talk.udp(out: true, payload: Self.payload))
        #expect(outcome.passed == .outClear)
        let witness = try callouts.witness()
        #expect(witness.seen == 1)
        #expect(witness.told.size == UInt32(MemoryLayout<nd_callout_metadata>.size))
        #expect(witness.told.layer == DatapathLayer.datagramData.rawValue && witness.told.family == family.rawValue)
        #expect(witness.told.flow.key == talk.key && witness.told.inbound == 0)
        #expect(witness.told.filter == 900)
        #expect(witness.told.l3 == 14 && witness.told.l4 == (family == .v4 ? 34 : 54))
        #expect(witness.told.payload == witness.told.l4 + 8)
        #expect(witness.told.payload_length == UInt32(Self.payload.count))
        #expect(witness.payload.starts(with: Self.payload))
        #expect(witness.told.flags & ND_CALLOUT_SECURED == 0 && witness.told.spi == 0)
    }

    @Test("Payload length is the datagram's: what is behind the packet in the frame is not in it", arguments: families)
    func padding(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .datagramData, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_CONTINUE)
        let packet = Talk(family, IPProtocol.udp).udp(out: true, payload: [1, 2, 3, 4])
        // As an ESP trailer that was not cut off would be: padding, its length, the next header.
        try callouts.bench.runRaw(.egress, Ethernet.frame(packet + [1, 2, 3, 4, 5, 6, 6, 17]), headers: 14)
        #expect(try callouts.witness().told.payload_length == 4)
    }

    @Test("Protection is told: the SA's SPI, transport mode, the peer's identity; inbound and outbound", arguments: families)
    func protection(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .stream, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_CONTINUE)
        try callouts.bench.secure(family)
        var protection = nd_protection()
        protection.spi_in = 0x1111
        protection.spi_out = 0x2222
        protection.in_udp = 1
        protection.identity_type = 2
        protection.identity_length = 4
        withUnsafeMutableBytes(of: &protection.identity) { $0.copyBytes(from: Array("beta".utf8)) }
        try callouts.bench.protections.update(Address.peer(family), protection)
        defer { callouts.bench.protections.delete(Address.peer(family)) }
        let talk = Talk(family)

        #expect(try callouts.bench.run(.egress, talk.data(out: true)).verdict == .redirect)
        var told = try callouts.witness().told
        #expect(told.flags & ND_CALLOUT_SECURED != 0 && told.spi == 0x2222)
        #expect(UInt32(told.mode) == ND_CALLOUT_MODE_TRANSPORT.rawValue && told.in_udp == 1)
        #expect(told.identity_type == 2 && told.identity_length == 4)
        #expect(withUnsafeBytes(of: told.identity) { Array($0.prefix(5)) } == Array("beta\0".utf8))

        #expect(try callouts.bench.run(.decrypted, talk.data(out: false)).verdict == .pass)
        told = try callouts.witness().told
        #expect(told.flags & ND_CALLOUT_SECURED != 0 && told.spi == 0x1111 && told.inbound == 1)
        #expect(try callouts.witness().seen == 2)

        // The same at the socket, where the kernel's ESP shows it.
        #expect(try callouts.atSocket(talk.data(out: false)) == .pass)
        told = try callouts.witness().told
        #expect(try callouts.witness().seen == 3)
        #expect(told.flags & ND_CALLOUT_AT_SOCKET != 0 && told.flags & ND_CALLOUT_SECURED != 0 && told.spi == 0x1111)
        #expect(told.l3 == 0)
    }

    @Test("Answers decide: continue, permit, block; one that says nothing blocks, and is counted", arguments: families)
    func answers(_ family: IPFamily) throws {
        let callouts = try CalloutBench(
            [.asks(0, at: .stream, family), .asks(1, at: .datagramData, family)], programs: ["witness", "silent"])
        let talk = Talk(family)
        for (answer, verdict) in [
            (ND_CALLOUT_CONTINUE, Verdict.pass), (ND_CALLOUT_PERMIT, .pass), (ND_CALLOUT_BLOCK, .drop), (ND_CALLOUT_VETO, .drop),
        ] {
            try callouts.answer(answer)
            #expect(try callouts.bench.run(.egress, talk.data(out: true)).verdict == verdict, "\(answer)")
        }
        let before = callouts.stats().callouts_missing
        let outcome = try callouts.bench.run(.egress, Talk(family, IPProtocol.udp).udp(out: true))
        #expect(outcome.dropped == .blocked)
        #expect(callouts.stats().callouts_missing == before + 1)
        // Nobody is there at all.
        let none = try CalloutBench([.asks(5, at: .datagramData, family)], programs: [])
        #expect(try none.bench.run(.egress, Talk(family, IPProtocol.udp).udp(out: true)).dropped == .blocked)
    }

    @Test("Every packet of a flow is shown, also when the flow is cached for others; an empty one is not", arguments: families)
    func everyPacket(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .stream, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_CONTINUE)
        let talk = Talk(family)
        try callouts.bench.run(.egress, talk.tcp(.syn, out: true))
        try callouts.bench.run(.ingress, talk.tcp([.syn, .ack], out: false))
        #expect(try callouts.witness().seen == 0)
        for _ in 0..<5 {
            try callouts.bench.run(.egress, talk.data(out: true))
            try callouts.bench.run(.ingress, talk.data(out: false))
        }
        #expect(try callouts.witness().seen == 10)
    }

    @Test("A drop at STREAM or DATAGRAM_DATA raises one DISCARD event, with layer and filter", arguments: families)
    func discard(_ family: IPFamily) throws {
        let callouts = try CalloutBench(
            [.asks(0, at: .stream, family), .asks(1, at: .datagramData, family)], programs: ["witness", "second_witness"])
        try callouts.answer(ND_CALLOUT_BLOCK)
        try callouts.answer(ND_CALLOUT_BLOCK, from: 1)
        let before = callouts.stats()
        let stream = try callouts.bench.run(.egress, Talk(family).data(out: true))
        let datagram = try callouts.bench.run(.egress, Talk(family, IPProtocol.udp).udp(out: true))
        for (outcome, layer, filter) in [(stream, DatapathLayer.stream, UInt64(900)), (datagram, .datagramData, 901)] {
            #expect(outcome.dropped == .blocked)
            let discards = outcome.events.filter { $0.kind == ND_EVENT_DISCARD }
            #expect(discards.count == 1)
            #expect(discards.first?.layer == UInt32(layer.rawValue) && discards.first?.filter == filter)
        }
        let after = callouts.stats()
        #expect(after.discards.4 == before.discards.4 + 1 && after.discards.5 == before.discards.5 + 1)
    }

    @Test("However much is discarded, half of the event ring is left to those who negotiate", arguments: families)
    func flood(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .datagramData, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_BLOCK)
        let before = callouts.stats()
        try callouts.bench.runUnread(.egress, Talk(family, IPProtocol.udp).udp(out: true), times: 5000)
        let after = callouts.stats()
        #expect(after.discards.5 - before.discards.5 == 5000)
        let lost = after.events_lost - before.events_lost
        #expect(lost > 2000 && lost < 5000)
        let events = try callouts.bench.run(.egress, Talk(family).tcp(.syn, out: true)).events
        #expect(events.filter { $0.kind == ND_EVENT_NEGOTIATE }.count == 1)
        #expect(events.filter { $0.kind == ND_EVENT_DISCARD }.count == 5000 - Int(lost))
    }

    @Test("At the transport layers a packet that ALE must classify is marked, and a block of it is overridden and counted", arguments: families)
    func aleClassifyRequired(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .outboundTransport, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_BLOCK)
        let talk = Talk(family)
        let before = callouts.stats().callouts_overridden
        let first = try callouts.bench.run(.egress, talk.tcp(.syn, out: true))
        #expect(first.passed == .outClear)
        #expect(try callouts.witness().told.flags & ND_CALLOUT_ALE_CLASSIFY_REQUIRED != 0)
        #expect(callouts.stats().callouts_overridden == before + 1)
        // ALE has classified the flow: now the callout's word counts.
        let second = try callouts.bench.run(.egress, talk.data(out: true))
        #expect(second.dropped == .blocked)
        #expect(try callouts.witness().told.flags & ND_CALLOUT_ALE_CLASSIFY_REQUIRED == 0)
        #expect(callouts.stats().callouts_overridden == before + 1)
    }

    @Test("Where ALE has no say a block at the transport layers stands", arguments: families)
    func withoutALE(_ family: IPFamily) throws {
        let callouts = try CalloutBench(
            [.asks(0, at: .outboundTransport, family), .asks(0, at: .inboundTransport, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_BLOCK)
        let icmp = Talk(family, family == .v4 ? IPProtocol.icmp : IPProtocol.icmpv6)
        // Exempt when it leaves: nobody asks ALE_AUTH_CONNECT.
        #expect(try callouts.bench.run(.egress, icmp.echo(out: true)).dropped == .blocked)
        // ALE is asked about what comes in, and permits it.
        #expect(try callouts.bench.run(.ingress, icmp.echo(out: false)).passed == .inExempt)
        let error = icmp.icmpError(quoting: Talk(family).tcp(.syn, out: true), out: false)
        #expect(try callouts.bench.run(.ingress, error).dropped == .blocked)
    }

    @Test("Inbound too a block gives way to ALE, which decides", arguments: families)
    func overriddenInbound(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .inboundTransport, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_VETO)
        try callouts.bench.secure(family)
        let before = callouts.stats().callouts_overridden
        let talk = Talk(family)
        #expect(try callouts.bench.run(.decrypted, talk.tcp(.syn, out: false)).passed == .inProtected)
        #expect(callouts.stats().callouts_overridden == before + 1)
        #expect(try callouts.bench.run(.decrypted, talk.data(out: false)).dropped == .blocked)
        // In clear ALE refuses it, for being clear.
        #expect(try callouts.bench.run(.ingress, Talk(family, localPort: 81).tcp(.syn, out: false)).dropped == .clearInbound)
    }

    @Test("What leaves in clear is not told to be secured, though the peer is", arguments: families)
    func exemptIsNotSecured(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .datagramData, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_CONTINUE)
        try callouts.bench.secure(family)
        let icmp = Talk(family, family == .v4 ? IPProtocol.icmp : IPProtocol.icmpv6)
        #expect(try callouts.bench.run(.egress, icmp.echo(out: true)).passed == .outExempt)
        #expect(try callouts.witness().seen == 1)
        #expect(try callouts.witness().told.flags & ND_CALLOUT_SECURED == 0)
        #expect(try callouts.bench.run(.egress, Talk(family, IPProtocol.udp).udp(out: true)).verdict == .redirect)
        #expect(try callouts.witness().told.flags & ND_CALLOUT_SECURED != 0)
    }

    @Test("An empty datagram is shown; behind a short UDP length nothing counts as payload", arguments: families)
    func emptyDatagrams(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .datagramData, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_BLOCK)
        let talk = Talk(family, IPProtocol.udp)
        #expect(try callouts.bench.run(.egress, talk.udp(out: true, payload: [])).dropped == .blocked)
        var packet = talk.udp(out: true, payload: Array(repeating: 9, count: 30))
        let length = (family == .v4 ? 20 : 40) + 4
        (packet[length], packet[length + 1]) = (0, 8 + 12)
        #expect(try callouts.bench.run(.egress, packet).dropped == .blocked)
        #expect(try callouts.witness().told.payload_length == 12)
    }

    @Test("A block at IPPACKET discards ESP and everything else, with an event each", arguments: families)
    func discardAtIPPacket(_ family: IPFamily) throws {
        let layers: [(DatapathLayer, Hook, Bool)] = [(.inboundIPPacket, .ingress, false), (.outboundIPPacket, .egress, true)]
        let callouts = try CalloutBench(layers.map { .asks(0, at: $0.0, family) }, programs: ["headers_only"])
        try callouts.answer(ND_CALLOUT_BLOCK, from: 2)
        for (layer, hook, out) in layers {
            for proto in [IPProtocol.esp, IPProtocol.udp] {
                let outcome = try callouts.bench.run(hook, Talk(family, proto).data(out: out))
                #expect(outcome.dropped == .blocked, "\(layer) \(proto)")
                #expect(outcome.events.filter { $0.kind == ND_EVENT_DISCARD && $0.layer == UInt32(layer.rawValue) && $0.filter == 900 }.count == 1)
            }
        }
    }

    @Test("At ALE a callout's block refuses the flow, in both directions", arguments: families)
    func ale(_ family: IPFamily) throws {
        let callouts = try CalloutBench(
            [.asks(0, at: .aleAuthConnect, family), .asks(1, at: .aleAuthRecvAccept, family)],
            programs: ["witness", "second_witness"])
        try callouts.answer(ND_CALLOUT_BLOCK)
        try callouts.answer(ND_CALLOUT_VETO, from: 1)
        #expect(try callouts.bench.run(.egress, Talk(family).tcp(.syn, out: true)).dropped == .blocked)
        try callouts.bench.secure(family)
        #expect(try callouts.bench.run(.decrypted, Talk(family).tcp(.syn, out: false)).dropped == .blocked)
        #expect(try callouts.atSocket(Talk(family).tcp(.syn, out: false)) == .drop)
        #expect(try callouts.witness(1).told.layer == DatapathLayer.aleAuthRecvAccept.rawValue)
        #expect(callouts.bench.flows.entries().isEmpty)
    }

    @Test("ESP that is not decrypted yet is shown to nobody but at IPPACKET, where it has no payload", arguments: families)
    func tunnelMode(_ family: IPFamily) throws {
        let layers: [DatapathLayer] = [.inboundTransport, .aleAuthRecvAccept, .datagramData, .outboundTransport]
        let callouts = try CalloutBench(
            layers.map { .asks(0, at: $0, family) }
                + [.asks(1, at: .inboundIPPacket, family), .asks(1, at: .outboundIPPacket, family)],
            programs: ["witness", "headers_only"])
        try callouts.answer(ND_CALLOUT_BLOCK)
        try callouts.answer(ND_CALLOUT_CONTINUE, from: 2)
        let esp = Talk(family, IPProtocol.esp)
        #expect(try callouts.bench.run(.ingress, esp.data(out: false)).passed == .inIPsec)
        #expect(try callouts.bench.run(.egress, esp.data(out: true)).passed == .outIPsec)
        let ah = Talk(family, IPProtocol.ah)
        #expect(try callouts.bench.run(.ingress, ah.data(out: false)).passed == .inIPsec)
        let inUDP = Talk(family, IPProtocol.udp, localPort: 4500, remotePort: 4500)
        #expect(try callouts.bench.run(.ingress, inUDP.udp(out: false)).passed == .inIKE)
        #expect(try callouts.witness().seen == 0)
        #expect(try callouts.witness(2).seen == 4)
        #expect(try callouts.witness(2).told.flags & ND_CALLOUT_SECURED == 0)
    }

    @Test("A sublayer's soft block by a program is lifted by a lighter permit, a veto is not", arguments: families)
    func lifting(_ family: IPFamily) throws {
        let permit = RangeFilter(
            id: 950, layer: .datagramData, family: family, sublayer: 2, weight: 1, fields: [:], verdict: .permit, isHard: false)
        let callouts = try CalloutBench([.asks(0, at: .datagramData, family), permit], programs: ["witness"])
        let packet = Talk(family, IPProtocol.udp).udp(out: true)
        try callouts.answer(ND_CALLOUT_BLOCK)
        #expect(try callouts.bench.run(.egress, packet).passed == .outClear)
        try callouts.answer(ND_CALLOUT_VETO)
        #expect(try callouts.bench.run(.egress, packet).dropped == .blocked)
    }

    @Test("Of several programs each is asked in its turn, until one decides", arguments: families)
    func several(_ family: IPFamily) throws {
        var heavier = RangeFilter.asks(0, at: .datagramData, family)
        heavier.weight = 9
        let callouts = try CalloutBench(
            [heavier, .asks(1, at: .datagramData, family)], programs: ["witness", "second_witness"])
        let packet = Talk(family, IPProtocol.udp).udp(out: true)
        for (answer, asked, verdict) in [
            (ND_CALLOUT_CONTINUE, UInt64(1), Verdict.drop), (ND_CALLOUT_PERMIT, 0, .pass), (ND_CALLOUT_BLOCK, 0, .drop),
        ] {
            try callouts.answer(answer)
            try callouts.answer(ND_CALLOUT_BLOCK, from: 1)
            #expect(try callouts.bench.run(.egress, packet).verdict == verdict)
            #expect(try callouts.witness().seen == 1)
            #expect(try callouts.witness(1).seen == asked, "\(answer)")
        }
    }

    @Test("An inspection never decides, whatever it answers", arguments: families)
    func inspection(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .datagramData, family, inspection: true)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_VETO)
        #expect(try callouts.bench.run(.egress, Talk(family, IPProtocol.udp).udp(out: true)).passed == .outClear)
        #expect(try callouts.witness().seen == 1)
    }

    @Test("A program may change the packet if it rebuilds the header; otherwise the packet is dropped and counted")
    func changes() throws {
        let programs = ["cut_only", "cut_and_rebuild", "send_elsewhere"]
        let packet = Talk(.v4, IPProtocol.udp).udp(out: true, payload: Array(repeating: 7, count: 40))
        for (number, dropped) in [(UInt32(0), DropReason.calloutHeader), (1, nil), (2, .calloutHeader)] {
            let callouts = try CalloutBench(
                [.asks(number, at: .datagramData, changes: true)], programs: programs, object: "changing")
            let outcome = try callouts.bench.run(.egress, packet)
            #expect(outcome.dropped == dropped, "\(programs[Int(number)])")
            guard dropped == nil else { continue }
            #expect(outcome.passed == .outClear && outcome.packet.count == packet.count - 10)
            #expect(outcome.packet[2...3].elementsEqual([0, UInt8(packet.count - 10)]))
        }
    }

    @Test("At the socket only what nd0 decrypted is classified; the rest passes unseen", arguments: families)
    func otherInterfaces(_ family: IPFamily) throws {
        let callouts = try CalloutBench([.asks(0, at: .stream, family)], programs: ["witness"])
        try callouts.answer(ND_CALLOUT_BLOCK)
        try callouts.bench.secure(family)
        #expect(try callouts.atSocket(Talk(family).data(out: false), decrypted: false) == .pass)
        #expect(try callouts.witness().seen == 0)
        #expect(try callouts.atSocket(Talk(family).data(out: false)) == .drop)
        #expect(try callouts.witness().seen == 1)
    }

    @Test("Filters without programs hold at the socket too, and what arrives there keeps the flow secure", arguments: families)
    func filtersAtSocket(_ family: IPFamily) throws {
        let block = RangeFilter(
            id: 960, layer: .inboundTransport, family: family, sublayer: 0, weight: 1 << 60,
            fields: [.localPort: [9...9]], verdict: .block, isHard: true)
        let callouts = try CalloutBench([block], programs: [])
        try callouts.bench.secure(family)
        #expect(try callouts.atSocket(Talk(family, localPort: 9).tcp(.syn, out: false)) == .drop)
        let talk = Talk(family)
        #expect(try callouts.atSocket(talk.tcp(.syn, out: false)) == .pass)
        #expect(callouts.bench.flow(talk.key)?.isSecure == true)
    }
}

@Suite("Machines that authenticated")
struct MachineTests {
    @Test("ALE_REMOTE_MACHINE_ID judges a new flow by the SA's identity; clear packets have none", arguments: families)
    func machine(_ family: IPFamily) throws {
        let block = RangeFilter(
            id: 970, layer: .aleAuthRecvAccept, family: family, sublayer: 0, weight: 1 << 60,
            fields: [.remoteMachine: [7...7]], verdict: .block, isHard: true)
        let callouts = try CalloutBench([block], programs: [])
        let bench = callouts.bench
        try bench.secure(family)
        defer { bench.protections.delete(Address.peer(family)) }
        for (machine, dropped) in [(UInt16(7), DropReason.blocked), (8, nil), (0, nil)] {
            var protection = nd_protection()
            protection.machine = machine
            try bench.protections.update(Address.peer(family), protection)
            let talk = Talk(family, localPort: 1000 + machine)
            #expect(try bench.run(.decrypted, talk.tcp(.syn, out: false)).dropped == dropped, "machine \(machine)")
            #expect(try callouts.atSocket(Talk(family, localPort: 2000 + machine).tcp(.syn, out: false)) == (dropped == nil ? .pass : .drop))
        }
    }

    @Test("Identities are known by the names that policies write")
    func names() {
        #expect(MachineName.text(type: 1, [192, 0, 2, 7]) == "192.0.2.7")
        #expect(MachineName.text(type: 5, [0x20, 1, 0xd, 0xb8] + Array(repeating: 0, count: 11) + [7]) == "2001:db8::7")
        #expect(MachineName.text(type: 2, Array("beta.example".utf8)) == "beta.example")
        #expect(MachineName.text(type: 3, Array("ops@example".utf8)) == "ops@example")
        // Wrong sizes, an embedded end, too long, another type.
        for (type, data) in [
            (UInt8(1), [UInt8](repeating: 1, count: 5)), (5, [1]), (2, [65, 0, 66]), (2, []),
            (2, [UInt8](repeating: 65, count: 65)), (11, [65]),
        ] { #expect(MachineName.text(type: type, data) == nil) }
        #expect(nd_machine("beta.example").text == "beta.example")
        // What is kept of a longer identity is another machine's name.
        var protection = nd_protection()
        protection.identity_type = 2
        withUnsafeMutableBytes(of: &protection.identity) { $0.copyBytes(from: Array(repeating: 65, count: $0.count)) }
        protection.identity_length = UInt16(ND_IDENTITY_MAX)
        #expect(MachineName.text(protection) == String(repeating: "A", count: Int(ND_IDENTITY_MAX)))
        protection.identity_length += 1
        #expect(MachineName.text(protection) == nil)
    }

    @Test("A name keeps its number, new ones get the next")
    func numbers() {
        var machines = MachineNumbers(["a": 1, "b": 5])
        let added = machines.add(["b", "c", "a", "d"])
        #expect(added.map(\.number) == [6, 7] && added.map(\.name) == ["c", "d"])
        #expect(machines["b"] == 5 && machines["d"] == 7 && machines["e"] == nil)
    }
}

@Suite("Callouts' objects")
struct CalloutObjectTests {
    private func abilities(_ object: String, _ entry: String) throws -> CalloutObject.Abilities {
        try CalloutObject(path: CalloutBench.path(object)).check(entry)
    }

    @Test("What a program may do is read from its instructions")
    func abilities() throws {
        #expect(try abilities("count_payload", "count_payload") == [])
        #expect(try abilities("block_word", "block_word") == .readsPayload)
        #expect(try abilities("mask_word", "mask_word") == [.readsPayload, .changesPackets])
        #expect(try abilities("witness", "headers_only") == [])
        #expect(try CalloutObject(path: CalloutBench.path("known_peer")).entries() == ["known_peer_accept", "known_peer_transport"])
    }

    @Test("Programs that go round the verdict are refused, with the way that is right")
    func refusals() throws {
        func message(_ body: () throws -> Void) -> String {
            do {
                try body()
                return "accepted"
            } catch { return "\(error)" }
        }
        let sends = message { _ = try abilities("changing", "clone_away") }
        #expect(sends.contains("program 'clone_away'") && sends.contains("would go round the filters and the SAs"), "\(sends)")
        #expect(sends.contains("reinject the packet: change it, rebuild its header, and answer CONTINUE or PERMIT"), "\(sends)")
        let calls = message { _ = try abilities("changing", "call_another") }
        #expect(calls.contains("bpf_tail_call") && calls.contains("call a function instead"), "\(calls)")
        let unknown = message { _ = try abilities("witness", "nobody") }
        #expect(unknown.contains("has no program 'nobody'") && unknown.contains("headers_only"), "\(unknown)")
        #expect(message { _ = try abilities("missing", "x") }.contains("can't read the callout's object"))
        #expect(message { _ = try CalloutObject(path: "/dev/zero") }.contains("not a regular file"))
        #expect(message { _ = try CalloutObject(path: #filePath).check("x") }.contains("is no BPF object"))
    }
}
