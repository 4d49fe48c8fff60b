import NDCore

extension DecisionTables {
    /// TC egress of a protected interface.
    ///
    /// The latch is asked first: a packet of a secured flow goes into nd0 or waits, and nothing but a block
    /// changes that.
    public static func outbound(
        _ arrived: Packet, flow found: FlowEntry?, peer: PeerEntry?, policy: CompiledPolicy, now: Instant
    ) -> Decision {
        guard arrived.isIP else { return Decision(.pass(.outClear), .notOurs, flow: found, peer: peer) }
        var isLatched = false
        var standing = found
        if let flow = found, flow.isSecure, arrived.quoted == nil {
            isLatched = flow.alive(for: arrived, policy, now) != nil
            if !isLatched { standing = nil }
        }
        if !isLatched, let reason = reasonOutbound(arrived, policy) {
            return Decision(.pass(reason), .notOurs, flow: standing, peer: peer)
        }
        let rule = policy.decide(.outboundTransport, arrived)
        if rule?.action == .block { return Decision(.drop(.blocked), .blocked, flow: standing, peer: peer) }
        let isPermitted = rule == nil || rule?.action == .permit
        // An error about a secured connection quotes its plaintext.
        if arrived.quoted != nil, found?.isSecure == true, !(isPermitted && policy.exemptsICMPErrors) { isLatched = true }
        if !isLatched, rule == nil || (isPermitted && arrived.isICMP) {
            return Decision(.pass(.outExempt), rule == nil ? .noFilter : .permitted, flow: standing, peer: peer)
        }
        let packet = arrived.following()
        let flow = isLatched ? found : standing?.alive(for: packet, policy, now)
        if flow == nil, policy.decide(.aleAuthConnect, packet)?.action == .block {
            return Decision(.drop(.blocked), .blocked, flow: nil, peer: peer)
        }
        // A filter that comes to permit a flow does not unlatch it: the latch ends with the flow.
        if isPermitted, !isLatched { return permitted(packet, flow, peer, now) }
        let context = isPermitted ? flow?.context ?? 0 : rule?.context ?? 0
        if peer?.state == .secured {
            var kept = flow ?? FlowEntry(direction: .outbound, firstSeen: now)
            kept.secure(context: context, now)
            kept.note(packet, outbound: true)
            kept.lastSeen = now
            return Decision(.redirect, .peerSecured, flow: kept, peer: peer)
        }
        if isLatched { return waits(.flowSecure, packet, flow, peer, policy, now) }
        if !trusts(flow, packet, peer), mayBeSecure(packet, peer, policy, now) {
            return waits(.maybeSecure, packet, flow, peer, policy, now)
        }
        let mayAnswerESP = flow == nil && peer?.isAnswering ?? false && !packet.opensConnection
        if rule?.action == .requireOutbound || mayAnswerESP { return held(packet, flow, peer, policy, now) }
        return clear(packet, flow, peer, context, policy, now)
    }

    /// What may answer a stranger's packet makes no entry.
    private static func permitted(_ packet: Packet, _ flow: FlowEntry?, _ peer: PeerEntry?, _ now: Instant) -> Decision {
        let answers = packet.tcpFlags.contains(.rst) || packet.tcpFlags.isSuperset(of: [.syn, .ack])
        guard flow != nil || packet.key.proto != IPProtocol.tcp || !answers else {
            return Decision(.pass(.outExempt), .permitted, flow: nil, peer: peer)
        }
        var kept = flow ?? FlowEntry(direction: .outbound, firstSeen: now)
        kept.flags.insert(.exempt)
        kept.note(packet, outbound: true)
        kept.lastSeen = now
        return Decision(.pass(.outExempt), .permitted, flow: kept, peer: peer)
    }

    /// Rows 6 and 7.
    private static func clear(
        _ packet: Packet, _ flow: FlowEntry?, _ peer: PeerEntry?, _ context: UInt32,
        _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        var kept = flow ?? FlowEntry(direction: .outbound, firstSeen: now, context: context)
        if kept.direction == .inbound, packet.tcpFlags.isSuperset(of: [.syn, .ack]) { kept.flags.insert(.accepted) }
        kept.note(packet, outbound: true)
        kept.lastSeen = now
        let next = asked(packet, peer, policy, now)
        // While the negative cache stands nobody waits for an answer.
        let quiet = peer.map { $0.state == .clear && !$0.isDue(policy, now) } ?? false
        if next != nil || (flow == nil && !quiet) { kept.flags.insert(.trigger) }
        if let next {
            return Decision(.pass(.outClear), .clearAsks, flow: kept, peer: next, event: .negotiate)
        }
        let negotiating = peer?.state == .negotiating && !packet.key.remote.address.isLinkLocal
        return Decision(
            .pass(.outClear), .clear, flow: kept, peer: peer, event: flow == nil && negotiating ? .stash : nil)
    }

    /// Rows 4 and 5. The packet keeps a secured flow's entry alive, and is offered to the store.
    private static func waits(
        _ row: Decision.Row, _ packet: Packet, _ flow: FlowEntry?, _ peer: PeerEntry?,
        _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        var kept = flow
        let isSecure = flow?.isSecure ?? false
        if isSecure {
            kept?.note(packet, outbound: true)
            kept?.lastSeen = now
        }
        if let next = asked(packet, peer, policy, now, waits: true) {
            return Decision(.wait(.latched), row, flow: kept, peer: next, event: .latched)
        }
        // What answers a peer that was secured before looks latched too.
        let answers = peer?.state == .negotiating && peer?.isAnswering == true
        let stores = (isSecure || answers) && !packet.key.remote.address.isLinkLocal
        return Decision(.wait(.latched), row, flow: kept, peer: peer, event: stores ? .wait : nil)
    }

    /// Row 8, and what may answer a packet that came protected. No flow is made: it would let a clear
    /// answer in. So every held packet is offered to the store, which keeps one a flow.
    private static func held(
        _ packet: Packet, _ flow: FlowEntry?, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        if let next = asked(packet, peer, policy, now, waits: true) {
            return Decision(.wait(.held), .held, flow: flow, peer: next, event: .negotiate)
        }
        let negotiating = peer?.state == .negotiating && !packet.key.remote.address.isLinkLocal
        return Decision(.wait(.held), .held, flow: flow, peer: peer, event: negotiating ? .wait : nil)
    }
}
