import CNDABI
import NDABI
import NDCore
import NDPolicy
import Testing

@testable import NDDatapath

let families: [IPFamily] = [.v4, .v6]

@Suite("Outbound table")
struct OutboundTableTests {
    @Test("Row 1: packets that are none of ours leave as they are, without flow, peer or event", arguments: families)
    func notOurs(_ family: IPFamily) throws {
        let bench = try Bench()
        var cases: [([UInt8], PassKind)] = []
        var talk = Talk(family)
        for remote in family == .v4 ? ["224.0.0.251", "255.255.255.255", "0.0.0.0", "8.0.255.255"] : ["ff02::fb"] {
            talk = Talk(family, IPProtocol.udp)
            talk.remote = Address.parsed(remote)
            cases.append((talk.udp(out: true), .outNotUnicast))
        }
        cases.append((Talk(family, IPProtocol.esp).data(out: true), .outIPsec))
        cases.append((Talk(family, IPProtocol.ah).data(out: true), .outIPsec))
        cases.append((Talk(family, IPProtocol.udp, localPort: 500, remotePort: 500).udp(out: true), .outIKE))
        cases.append((Talk(family, IPProtocol.udp, localPort: 4500, remotePort: 60000).udp(out: true), .outIKE))
        if family == .v4 {
            talk = Talk(family, IPProtocol.udp, localPort: 68, remotePort: 67)
            (talk.local, talk.remote) = (.init(high: 0, low: 0xffff_0000_0000), Address.parsed("255.255.255.255"))
            cases.append((talk.udp(out: true), .outNotUnicast))
            talk.remote = Address.remote4
            cases.append((talk.udp(out: true), .outUnaddressed))
        }
        for hook in [Hook.egress, .egressL3] {
            for (packet, kind) in cases where hook == .egress || packet[12] != 0 {
                let outcome = try bench.run(hook, packet)
                #expect(outcome.verdict == .pass && outcome.passed == kind, "\(hook) \(packet)")
                #expect(outcome.packet == packet && outcome.events.isEmpty)
            }
        }
        #expect(bench.flows.entries().isEmpty && bench.peers.entries().isEmpty)
        let arp = try bench.runRaw(.egress, Ethernet.frame(Array(repeating: 0, count: 28), type: 0x0806))
        #expect(arp.verdict == .pass && arp.passed == nil)
    }

    @Test("Without a main-mode filter the IKE ports are ordinary ports", arguments: families)
    func ikePorts(_ family: IPFamily) throws {
        let bench = try Bench { $0.exemptsIKE.remove(family) }
        let outcome = try bench.run(.egress, Talk(family, IPProtocol.udp, localPort: 500, remotePort: 500).udp(out: true))
        #expect(outcome.passed == .outClear && outcome.events.count == 1)
    }

    @Test("Row 2: a permitting filter exempts, a blocking one drops, also flows that are cached", arguments: families)
    func filters(_ family: IPFamily) throws {
        let permit = Rules.rule(.outboundTransport, .permit, proto: IPProtocol.tcp) { $0.remotePort = 443...443 }
        let block = Rules.rule(.outboundTransport, .block, proto: IPProtocol.tcp) { $0.remotePort = 443...443 }
        let bench = try Bench([permit] + Rules.discovery)
        let talk = Talk(family)
        #expect(try bench.run(.egress, talk.tcp(.syn, out: true)).passed == .outExempt)
        #expect(try bench.run(.egress, talk.data(out: true)).passed == .outExempt)
        #expect(bench.flow(talk.key)?.flags == .exempt)
        #expect(try bench.run(.ingress, talk.tcp([.syn, .ack], out: false)).passed == .inExempt)
        #expect(try bench.run(.egress, Talk(family, remotePort: 80).tcp(.syn, out: true)).events.count == 1)
        var policy = bench.policy
        policy.filters = ([block] + Rules.discovery).rangeFilters
        try bench.commit(policy)
        #expect(try bench.run(.egress, talk.data(out: true)).dropped == .blocked)
        #expect(try bench.run(.egress, talk.tcp(.syn, out: true)).dropped == .blocked)
    }

    @Test("ALE_AUTH_CONNECT blocks new flows and leaves those that are open", arguments: families)
    func connect(_ family: IPFamily) throws {
        let bench = try Bench()
        let (open, new) = (Talk(family), Talk(family, localPort: 40001))
        try bench.run(.egress, open.tcp(.syn, out: true))
        var policy = bench.policy
        policy.filters += [Rules.rule(.aleAuthConnect, .block)].rangeFilters
        try bench.commit(policy)
        #expect(try bench.run(.egress, open.data(out: true)).passed == .outClear)
        #expect(try bench.run(.egress, new.tcp(.syn, out: true)).dropped == .blocked)
    }

    @Test("Rows 3, 4: a peer that becomes secured upgrades the cached flow on the next packet; one that is lost latches it", arguments: families)
    func upgradeAndLatch(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        try bench.run(.egress, talk.tcp(.syn, out: true))
        #expect(try bench.run(.egress, talk.data(out: true)).passed == .outClear)
        try bench.secure(family)
        let upgrades = bench.counter(.upgrades)
        #expect(try bench.run(.egress, talk.data(out: true)).verdict == .redirect)
        #expect(bench.counter(.upgrades) == upgrades + 1)
        #expect(bench.flow(talk.key)?.isSecure == true)
        #expect(try bench.run(.egress, talk.data(out: true)).passed == .outProtected)
        try bench.lose(family)
        let first = try bench.run(.egress, talk.data(out: true))
        #expect(first.dropped == .latched)
        #expect(first.events.map(\.kind) == [ND_EVENT_LATCHED])
        #expect(first.verdict == .redirect && first.events.first?.packet == talk.data(out: true))
        for flags: TCPFlags in [.ack, [.fin, .ack], .syn] {
            try bench.forgetStored(talk.key)
            let next = try bench.run(.egress, talk.tcp(flags, out: true))
            // Lost, not dropped: to its sender it was sent. The daemon keeps the last one.
            #expect(next.verdict == .redirect && next.passed == nil && next.dropped == .latched)
            #expect(next.events.map(\.kind) == [ND_EVENT_WAIT])
        }
        for _ in 0..<50 { try bench.run(.egress, talk.data(out: true)) }
        #expect(try (0..<50).reduce(0) { sum, _ in try sum + bench.run(.egress, talk.data(out: true)).events.count } <= 3)
        // The failure of the new negotiation unlatches nothing.
        try bench.fail(family, clearFor: 60)
        try bench.raiseEpoch()
        #expect(try bench.run(.egress, talk.data(out: true)).dropped == .latched)
        try bench.secure(family)
        #expect(try bench.run(.egress, talk.data(out: true)).verdict == .redirect)
    }

    @Test("Row 5: without its entry a flow that may be secured is held for one; a SYN is not", arguments: families)
    func evicted(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.lose(family, secondsAgo: 5)
        #expect(try bench.run(.egress, Talk(family).data(out: true)).dropped == .latched)
        #expect(try bench.run(.egress, Talk(family, IPProtocol.udp).data(out: true)).dropped == .latched)
        #expect(try bench.run(.egress, Talk(family).tcp(.syn, out: true)).passed == .outClear)
        try bench.lose(family, secondsAgo: 61)
        #expect(try bench.run(.egress, Talk(family, IPProtocol.udp).data(out: true)).passed == .outClear)
        #expect(try bench.run(.egress, Talk(family, localPort: 1).data(out: true)).dropped == .latched)
    }

    @Test("Row 6: the first packet leaves in clear and asks once, with its whole copy", arguments: families)
    func firstPacket(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        let packet = talk.tcp(.syn, out: true, options: [2, 4, 5, 0xb4])
        let first = try bench.run(.egress, packet)
        #expect(first.verdict == .pass && first.passed == .outClear && first.packet == packet)
        #expect(first.events.map(\.kind) == [ND_EVENT_NEGOTIATE])
        #expect(first.events.first?.packet == packet)
        #expect(first.events.first?.flow == talk.key)
        #expect(first.events.first?.isComplete == true)
        #expect(bench.peer(family)?.state == .negotiating)
        #expect(bench.flow(talk.key)?.flags == .trigger)
        for _ in 0..<20 {
            let next = try bench.run(.egress, talk.tcp(.ack, out: true))
            #expect(next.passed == .outClear && next.events.isEmpty)
        }
    }

    @Test("A burst to one peer is one negotiation; first packets of other flows are stashed", arguments: families)
    func burst(_ family: IPFamily) throws {
        let bench = try Bench()
        var kinds: [nd_event_type] = []
        for port in 0..<10 as Range<UInt16> {
            for _ in 0..<3 { kinds += try bench.run(.egress, Talk(family, localPort: 5000 + port).tcp(.syn, out: true)).events.map(\.kind) }
        }
        #expect(kinds == [ND_EVENT_NEGOTIATE] + Array(repeating: ND_EVENT_STASH, count: 9))
    }

    @Test("Row 7: a busy clear flow asks again when its negative cache has ended, without anybody raising the epoch", arguments: families)
    func negativeCache(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        try bench.run(.egress, talk.tcp(.syn, out: true))
        try bench.fail(family, clearFor: 1)
        let start = Bench.now()
        var asked: Instant?
        while asked == nil, Bench.now().since(start) < .seconds(4) {
            let outcome = try bench.run(.egress, talk.data(out: true))
            #expect(outcome.passed == .outClear)
            if outcome.events.contains(where: { $0.kind == ND_EVENT_NEGOTIATE }) { asked = Bench.now() }
        }
        let waited = asked?.since(start) ?? .seconds(99)
        #expect(waited >= .seconds(0.9) && waited < .seconds(2.5), "\(waited)")
    }

    @Test("A negotiation that nobody finished is asked for again after the interval", arguments: families)
    func stuck(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.setPeer(PeerEntry(.negotiating, changedAt: Bench.ago(11)), family)
        #expect(try bench.run(.egress, Talk(family).tcp(.syn, out: true)).events.map(\.kind) == [ND_EVENT_NEGOTIATE])
        #expect(try bench.run(.egress, Talk(family, localPort: 2).tcp(.syn, out: true)).events.map(\.kind) == [ND_EVENT_STASH])
    }

    @Test("Row 8: where protection is required nothing leaves, however often it is tried", arguments: families)
    func held(_ family: IPFamily) throws {
        let bench = try Bench(Rules.secure)
        let talk = Talk(family)
        #expect(try bench.run(.egress, talk.tcp(.syn, out: true)).events.map(\.kind) == [ND_EVENT_NEGOTIATE])
        for _ in 0..<3 {
            let again = try bench.run(.egress, talk.tcp(.syn, out: true))
            #expect(again.dropped == .held && again.verdict == .redirect && again.events.map(\.kind) == [ND_EVENT_WAIT])
        }
        #expect(bench.flow(talk.key) == nil)
        // Neither does a clear flow from the time of another policy.
        try bench.putFlow(talk.key, FlowEntry(direction: .inbound, firstSeen: Bench.now()))
        for _ in 0..<3 { #expect(try bench.run(.egress, talk.data(out: true)).dropped == .held) }
        try bench.secure(family)
        #expect(try bench.run(.egress, talk.tcp(.syn, out: true)).verdict == .redirect)
    }

    @Test("A link-local peer is passed in clear and not asked for", arguments: families)
    func linkLocal(_ family: IPFamily) throws {
        let bench = try Bench()
        var talk = Talk(family)
        talk.remote = Address.linkLocal(family)
        let outcome = try bench.run(.egress, talk.tcp(.syn, out: true))
        #expect(outcome.passed == .outClear && outcome.events.isEmpty && bench.peers.entries().isEmpty)
    }

    @Test("VLAN tags in the data, IPv4 options and IPv6 extension headers are looked behind", arguments: families)
    func encapsulations(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.secure(family)
        let talk = Talk(family)
        for vlans: [UInt16] in [[], [5], [5, 6], [0, 0, 0], [0, 0, 0, 0], Array(repeating: 0, count: 8)] {
            #expect(try bench.run(.egress, talk.tcp(.syn, out: true), vlans: vlans).verdict == .redirect)
        }
        let options = Talk.Shape(options: Array(repeating: 1, count: 40))
        let chains: [[(UInt8, [UInt8])]] = [
            [(0, [1, 4, 0, 0, 0, 0])], [(43, [0, 0, 0, 0, 0, 0])], [(60, [1, 12] + Array(repeating: 0, count: 12))],
            [(0, [1, 4, 0, 0, 0, 0]), (60, [1, 4, 0, 0, 0, 0]), (43, [0, 0, 0, 0, 0, 0])],
        ]
        for shape in family == .v4 ? [options] : chains.map({ Talk.Shape(extensions: $0) }) {
            #expect(try bench.run(.egress, talk.data(out: true, shape)).verdict == .redirect)
        }
        if family == .v6 {
            let endless = Talk.Shape(extensions: Array(repeating: (60, [1, 4, 0, 0, 0, 0]), count: 9))
            #expect(try bench.run(.egress, talk.data(out: true, endless)).dropped?.description == "malformed")
        }
        #expect(bench.secured.entries().count == 1 && bench.flows.entries().isEmpty)
        // More than the parser follows: what the stack would still find behind them is dropped, both ways.
        let deep = Array(repeating: UInt16(0), count: 9)
        for hook in [Hook.egress, .ingress] {
            #expect(try bench.run(hook, talk.data(out: hook.isOutbound), vlans: deep).dropped == .malformed)
        }
    }

    @Test("A SYN on a flow that ended starts fresh; on one that has not it stays latched", arguments: families)
    func reuse(_ family: IPFamily) throws {
        for end: [TCPFlags] in [[[.fin, .ack], [.fin, .ack]], [.rst]] {
            let bench = try Bench()
            let talk = Talk(family)
            try bench.secure(family)
            try bench.run(.egress, talk.tcp(.syn, out: true))
            try bench.run(.decrypted, talk.tcp([.syn, .ack], out: false))
            try bench.run(.egress, talk.tcp(end[0], out: true))
            if end.count > 1 {
                try bench.run(.decrypted, talk.tcp(end[1], out: false))
            }
            #expect(bench.flow(talk.key)?.hasEnded == true)
            try bench.lose(family)
            #expect(try bench.run(.egress, talk.data(out: true)).dropped == .latched)
            #expect(try bench.run(.egress, talk.tcp(.syn, out: true)).passed == .outClear)
            #expect(bench.flow(talk.key)?.isSecure == false)
        }
    }

    @Test("An idle flow ends after its protocol's time", arguments: families)
    func idle(_ family: IPFamily) throws {
        // The clock runs from the boot, so a machine that just started has no long past.
        let bench = try Bench(Rules.discovery) {
            $0.idle = .seconds(5)
            $0.securedIdle = .seconds(20)
        }
        let talk = Talk(family, IPProtocol.udp)
        try bench.secure(family)
        try bench.run(.egress, talk.data(out: true))
        try bench.lose(family, secondsAgo: 10)
        // Packets that wait keep it alive.
        for _ in 0..<3 {
            try bench.age(talk.key, by: 18)
            #expect(try bench.run(.egress, talk.data(out: true)).dropped == .latched)
        }
        try bench.age(talk.key, by: 22)
        #expect(try bench.run(.egress, talk.data(out: true)).passed == .outClear)
    }

    @Test("A full table of secured flows opens nothing: what can't be latched is not begun", arguments: families)
    func full(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundary)
        try bench.secure(family)
        var made = 0
        for port in 0..<6000 as Range<UInt16> {
            try bench.runUnread(.egress, Talk(family, IPProtocol.udp, localPort: 1000 + port).data(out: true), times: 1)
            made += 1
        }
        #expect(bench.secured.entries().count == 4096 && made == 6000)
        bench.forgetCounts()
        // Lost, not protected without a latch: later packets of it could leave in clear.
        let late = Talk(family, IPProtocol.udp, localPort: 6999)
        let outcome = try bench.run(.egress, late.data(out: true))
        #expect(outcome.verdict == .redirect && outcome.passed == nil && outcome.dropped == .securedFull)
        #expect(bench.flow(late.key) == nil)
        #expect(try bench.run(.decrypted, Talk(family, localPort: 7777).data(out: false)).dropped == .securedFull)
        // Also a running clear connection.
        let open = Talk(family, localPort: 8888)
        try bench.putFlow(open.key, FlowEntry(direction: .outbound, firstSeen: Bench.ago(5), lastSeen: Bench.now()))
        #expect(try bench.run(.egress, open.data(out: true)).dropped == .securedFull)
        // With room again it goes on, protected.
        for key in bench.secured.entries().prefix(100).map(\.key) { bench.secured.delete(key) }
        #expect(try bench.run(.egress, late.data(out: true)).passed == .outProtected)
        #expect(try bench.run(.egress, open.data(out: true)).passed == .outProtected)
    }

    @Test("The sweep removes no entry that a packet touched since it was read; one that leaves lets nothing out", arguments: families)
    func sweep(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        try bench.secure(family)
        try bench.run(.egress, talk.data(out: true))
        let key = nd_flow_key(talk.key)
        let seen = try #require(bench.secured.lookup(key)).last_seen
        #expect(try bench.sweep(key, seen: seen - 1) == false && bench.secured.lookup(key) != nil)
        // Somebody has marked it and not removed it yet.
        var leaving = try #require(bench.secured.lookup(key))
        leaving.last_seen = 0
        try bench.secured.update(key, leaving)
        for _ in 0..<2 {
            let outcome = try bench.run(.egress, talk.data(out: true))
            #expect(outcome.verdict == .redirect && outcome.passed == nil && outcome.dropped == .latched)
            #expect(try bench.run(.ingress, talk.data(out: false)).dropped == .clearOnSecured)
            #expect(try bench.run(.decrypted, talk.data(out: false)).verdict == .drop)
        }
        #expect(try bench.sweep(key, seen: 0) == false)
        leaving.last_seen = seen
        try bench.secured.update(key, leaving)
        #expect(try bench.sweep(key, seen: seen) && bench.secured.lookup(key) == nil)
    }

    @Test("Clear traffic pushes no secured flow out, however much of it comes", arguments: families)
    func flood(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundary)
        let talk = Talk(family)
        try bench.secure(family)
        try bench.run(.egress, talk.data(out: true))
        for port in 0..<20000 as Range<UInt16> {
            var other = Talk(family, localPort: 22, remotePort: port)
            other.remote = Address.router(family)
            try bench.runUnread(.ingress, other.tcp(.syn, out: false), times: 1)
        }
        #expect(bench.flow(talk.key)?.isSecure == true)
        try bench.lose(family)
        #expect(try bench.run(.egress, talk.data(out: true)).dropped == .latched)
        #expect(try bench.run(.ingress, talk.tcp(.syn, out: false)).dropped == .clearOnSecured)
    }

    @Test("An address or a port that ceases to be this host's changes nothing of a secured flow", arguments: families)
    func addressGone(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        try bench.secure(family)
        try bench.run(.egress, talk.data(out: true))
        for address in Address.local { bench.local.delete(nd_addr(bytesOf: address)) }
        try bench.raiseEpoch()
        #expect(try bench.run(.egress, talk.data(out: true)).verdict == .redirect)
        #expect(try bench.run(.ingress, talk.data(out: false)).dropped == .clearOnSecured)
        try bench.lose(family)
        #expect(try bench.run(.egress, talk.data(out: true)).dropped == .latched)
        // What the kernel delivers is this host's, whatever the map says.
        #expect(try bench.run(.ingress, Talk(family, localPort: 1).tcp(.syn, out: false)).dropped == .clearInbound)
    }

    @Test("A unicast answer to a clear broadcast lets nothing in", arguments: [IPFamily.v4])
    func answersBroadcast(_ family: IPFamily) throws {
        let bench = try Bench()
        var heard = Talk(family, IPProtocol.udp, localPort: 137, remotePort: 4000)
        heard.local = Address.broadcast
        #expect(try bench.run(.ingress, heard.udp(out: false)).passed == .inNotUnicast)
        let answer = Talk(family, IPProtocol.udp, localPort: 137, remotePort: 4000)
        #expect(try bench.run(.egress, answer.udp(out: true)).passed == .outClear)
        for _ in 0..<3 {
            #expect(try bench.run(.ingress, answer.udp(out: false)).dropped == .clearInbound)
            #expect(try bench.run(.egress, answer.udp(out: true)).passed == .outClear)
        }
        // A flow of this host's own lets its answers in.
        let own = Talk(family, IPProtocol.udp, localPort: 137, remotePort: 4001)
        try bench.run(.egress, own.udp(out: true))
        #expect(try bench.run(.ingress, own.udp(out: false)).passed == .inClear)
    }

    @Test("Without nd0 what must be protected is dropped", arguments: families)
    func noDevice(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.secure(family)
        try bench.raiseEpoch { $0.nd0 = 0 }
        for _ in 0..<3 { #expect(try bench.run(.egress, Talk(family).data(out: true)).dropped == .redirectFailed) }
    }

    @Test("Every drop is reported where that is asked for", arguments: families)
    func sampled(_ family: IPFamily) throws {
        let bench = try Bench([Rules.rule(.outboundTransport, .block)])
        try bench.raiseEpoch { $0.drop_sample = 1 }
        let packet = Talk(family, IPProtocol.udp).udp(out: true, payload: Array(repeating: 1, count: 600))
        let event = try bench.run(.egress, packet).events.first
        #expect(event?.kind == ND_EVENT_DROP && event?.packet == Array(packet.prefix(128)) && event?.length == packet.count)
    }
}

@Suite("Inbound table")
struct InboundTableTests {
    @Test("Row 1: what is not for this host, ESP, AH and IKE pass", arguments: families)
    func notOurs(_ family: IPFamily) throws {
        let bench = try Bench()
        var talk = Talk(family)
        talk.local = Address.parsed(family == .v4 ? "224.0.0.1" : "ff02::1")
        var cases: [([UInt8], PassKind)] = [
            (talk.packet(IPProtocol.udp, Array(repeating: 0, count: 24), out: false, Talk.Shape()), .inNotUnicast)
        ]
        cases += [IPProtocol.esp, IPProtocol.ah].map { (Talk(family, $0).data(out: false), .inIPsec) }
        cases += [500, 4500].map { (Talk(family, IPProtocol.udp, localPort: $0, remotePort: 1024).udp(out: false), .inIKE) }
        for (packet, kind) in cases {
            for hook in [Hook.ingress, .ingressL3] { #expect(try bench.run(hook, packet).passed == kind) }
        }
        #expect(bench.flows.entries().isEmpty)
    }

    @Test("Row 1: a source that no packet may have is refused, on a boundary host too", arguments: families)
    func badSource(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundary)
        var talk = Talk(family)
        for remote in family == .v4 ? ["224.0.0.1", "255.255.255.255", "0.0.0.0", "8.0.255.255"] : ["ff02::1", "::"] {
            talk.remote = Address.parsed(remote)
            #expect(try bench.run(.ingress, talk.tcp(.syn, out: false)).dropped == .badSource, "\(remote)")
        }
        talk.remote = talk.local
        #expect(try bench.run(.ingress, talk.tcp(.syn, out: false)).dropped == .badSource)
        #expect(bench.flows.entries().isEmpty)
    }

    @Test("Rows 2, 5: exempt rules let in, INITIATE_SECURE keeps out silently, boundary accepts", arguments: families)
    func newFlows(_ family: IPFamily) throws {
        let talk = Talk(family, localPort: 22)
        let refused = try Bench()
        #expect(try refused.run(.ingress, talk.tcp(.syn, out: false)).dropped == .clearInbound)
        #expect(refused.flow(talk.key) == nil)
        let boundary = try Bench(Rules.boundary)
        #expect(try boundary.run(.ingress, talk.tcp(.syn, out: false)).passed == .inClear)
        #expect(boundary.flow(talk.key)?.direction == .inbound)
        let answer = try boundary.run(.egress, talk.tcp([.syn, .ack], out: true))
        #expect(answer.passed == .outClear && answer.events.map(\.kind) == [ND_EVENT_NEGOTIATE])
        let block = Rules.rule(.inboundTransport, .block, proto: IPProtocol.tcp) { $0.localPort = 22...22 }
        #expect(try Bench([block] + Rules.boundary).run(.ingress, talk.tcp(.syn, out: false)).dropped == .blocked)
        let exempt = Rules.rule(.inboundTransport, .permit, proto: IPProtocol.tcp) { $0.localPort = 22...22 }
        let accept = Rules.rule(.aleAuthRecvAccept, .permit, proto: IPProtocol.tcp)
        #expect(try Bench([exempt, accept] + Rules.discovery).run(.ingress, talk.tcp(.syn, out: false)).passed == .inExempt)
        // The layers decide each for itself: what the first permits the second may refuse.
        #expect(try Bench([exempt] + Rules.discovery).run(.ingress, talk.tcp(.syn, out: false)).dropped == .clearInbound)
        let ping = [IPProtocol.icmp, IPProtocol.icmpv6].map { Rules.rule(.inboundTransport, .permit, proto: $0) }
        #expect(try Bench(ping + Rules.discoveryNoICMP).run(.ingress, talk.echo(out: false)).dropped == .clearInbound)
        #expect(try Bench(ping + Rules.boundaryNoICMP).run(.ingress, talk.echo(out: false)).passed == .inExempt)
        #expect(try Bench(Rules.boundary + [accept]).run(.ingress, talk.tcp(.syn, out: false)).passed == .inClear)
    }

    @Test("What only the inbound layer exempts is counted as clear on its way out, cached or not", arguments: families)
    func exemptInboundOnly(_ family: IPFamily) throws {
        let permit = Rules.rule(.inboundTransport, .permit, proto: IPProtocol.tcp) { $0.remotePort = 443...443 }
        let bench = try Bench([permit] + Rules.discovery)
        let talk = Talk(family)
        #expect(try bench.run(.egress, talk.tcp(.syn, out: true)).passed == .outClear)
        #expect(try bench.run(.ingress, talk.tcp([.syn, .ack], out: false)).passed == .inExempt)
        for _ in 0..<2 { #expect(try bench.run(.egress, talk.data(out: true)).passed == .outClear) }
    }

    @Test("Row 0: a connection stays secure where no filter of INBOUND_TRANSPORT has a say", arguments: families)
    func noFilterUnlatches(_ family: IPFamily) throws {
        let bench = try Bench(Rules.discovery.filter { $0.layer != .inboundTransport })
        let talk = Talk(family)
        try bench.secure(family)
        try bench.run(.egress, talk.tcp(.syn, out: true))
        #expect(try bench.run(.ingress, talk.tcp([.syn, .ack], out: false)).dropped == .clearOnSecured)
        #expect(bench.flow(talk.key)?.isSecure == true)
        try bench.lose(family)
        #expect(try bench.run(.egress, talk.data(out: true)).dropped == .latched)
    }

    @Test("Row 3: the clear answer to a clear flow comes in and is reported once", arguments: families)
    func answer(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        try bench.run(.egress, talk.tcp(.syn, out: true))
        let first = try bench.run(.ingress, talk.tcp([.syn, .ack], out: false))
        #expect(first.passed == .inClear && first.events.map(\.kind) == [ND_EVENT_CLEAR_REPLY])
        for _ in 0..<3 {
            let next = try bench.run(.ingress, talk.data(out: false))
            #expect(next.passed == .inClear && next.events.isEmpty)
        }
    }

    @Test("Row 4: clear on a secured flow is dropped but for what was in flight, within the grace time", arguments: families)
    func grace(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        try bench.run(.egress, talk.tcp(.syn, out: true))
        try bench.age(talk.key, by: 1)
        try bench.secure(family)
        try bench.run(.egress, talk.data(out: true))
        let before = bench.flow(talk.key)
        for flags: TCPFlags in [.ack, .rst, [.fin, .ack], .syn] {
            #expect(try bench.run(.ingress, talk.tcp(flags, out: false)).passed == .inGrace)
        }
        #expect(bench.flow(talk.key) == before)
        try bench.run(.decrypted, talk.data(out: false))
        #expect(try bench.run(.ingress, talk.data(out: false)).dropped == .clearOnSecured)
        // A forged reset does not end it either.
        #expect(try bench.run(.ingress, talk.tcp(.rst, out: false)).dropped == .clearOnSecured)
        #expect(bench.flow(talk.key)?.hasEnded == false)

        let late = Talk(family, localPort: 2)
        try bench.putFlow(
            late.key,
            FlowEntry(direction: .outbound, firstSeen: Bench.ago(50), lastSeen: Bench.now(), securedAt: Bench.ago(11), flags: .secure))
        #expect(try bench.run(.ingress, late.data(out: false)).dropped == .clearOnSecured)
        let young = Talk(family, localPort: 3)
        try bench.run(.egress, young.tcp(.syn, out: true))
        #expect(try bench.run(.ingress, young.data(out: false)).dropped == .clearOnSecured)
    }

    @Test("Without its entry a clear packet of a secured peer does not open a flow, except by SYN", arguments: families)
    func evicted(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundary)
        try bench.lose(family, secondsAgo: 1)
        #expect(try bench.run(.ingress, Talk(family).data(out: false)).dropped == .clearOnSecured)
        #expect(try bench.run(.ingress, Talk(family, IPProtocol.udp).data(out: false)).dropped == .clearOnSecured)
        #expect(try bench.run(.ingress, Talk(family).tcp(.syn, out: false)).passed == .inClear)
    }

    @Test("What comes out of nd0 latches its flow, must be for this host and whole", arguments: families)
    func decrypted(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        for _ in 0..<2 { #expect(try bench.run(.decrypted, talk.data(out: false)).passed == .inProtected) }
        #expect(bench.flow(talk.key)?.isSecure == true)
        try bench.setPeer(nil, family)
        #expect(try bench.run(.egress, talk.data(out: true)).dropped == .latched)
        var foreign = talk
        foreign.local = Address.foreign(family)
        #expect(try bench.run(.decrypted, foreign.data(out: false)).dropped == .wrongAddress)
        #expect(try bench.run(.decrypted, talk.data(out: false, Talk.Shape(fragment: (0, true)))).dropped?.description == "fragment")
    }

    @Test("Nothing is decided without a policy", arguments: families)
    func noPolicy(_ family: IPFamily) throws {
        let bench = try Bench([])
        #expect(try bench.run(.egress, Talk(family).tcp(.syn, out: true)).passed == .outExempt)
        #expect(try bench.run(.ingress, Talk(family).tcp(.syn, out: false)).passed == .inClear)
    }
}
