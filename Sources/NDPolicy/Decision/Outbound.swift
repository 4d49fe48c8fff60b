import NDCore

extension DecisionTables {
    /// TC egress of a protected interface.
    public static func outbound(
        _ arrived: Packet, flow found: FlowEntry?, peer: PeerEntry?, policy: CompiledPolicy, now: Instant
    ) -> Decision {
        if isNotOurs(arrived, policy) {
            return Decision(.pass(.outExempt), .notOurs, flow: found, peer: peer)
        }
        guard let rule = policy.decide(.outboundTransport, arrived) else {
            return Decision(.pass(.outExempt), .noFilter, flow: found, peer: peer)
        }
        if rule.action == .block { return Decision(.drop(.blocked), .blocked, flow: found, peer: peer) }
        if rule.action == .permit, arrived.isICMP {
            return Decision(.pass(.outExempt), .permitted, flow: found, peer: peer)
        }
        let packet = arrived.following()
        let flow = found?.alive(for: packet, policy, now)
        if flow == nil, policy.decide(.aleAuthConnect, packet)?.action == .block {
            return Decision(.drop(.blocked), .blocked, flow: nil, peer: peer)
        }
        // A filter that comes to permit a flow does not unlatch it: the latch ends with the flow.
        if rule.action == .permit, !(flow?.isSecure ?? false) {
            var kept = flow ?? FlowEntry(direction: .outbound, firstSeen: now)
            kept.flags.insert(.exempt)
            kept.note(packet, outbound: true)
            kept.lastSeen = now
            return Decision(.pass(.outExempt), .permitted, flow: kept, peer: peer)
        }
        if peer?.state == .secured {
            var kept = flow ?? FlowEntry(direction: .outbound, firstSeen: now, context: rule.context)
            kept.secure(now)
            kept.note(packet, outbound: true)
            kept.lastSeen = now
            return Decision(.redirect, .peerSecured, flow: kept, peer: peer)
        }
        if let flow {
            if flow.isSecure { return latched(.flowSecure, packet, flow, peer, policy, now) }
        } else if mayBeSecure(packet, peer, policy, now) {
            return latched(.maybeSecure, packet, nil, peer, policy, now)
        }
        let mayAnswerESP = flow == nil && peer?.isAnswering ?? false && !packet.opensConnection
        if rule.action == .requireOutbound || mayAnswerESP { return held(packet, flow, peer, policy, now) }
        return clear(packet, flow, peer, rule.context, policy, now)
    }

    /// Rows 6 and 7.
    private static func clear(
        _ packet: Packet, _ flow: FlowEntry?, _ peer: PeerEntry?, _ context: UInt32,
        _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        var kept = flow ?? FlowEntry(direction: .outbound, firstSeen: now, context: context)
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

    /// Rows 4 and 5.
    private static func latched(
        _ row: Decision.Row, _ packet: Packet, _ flow: FlowEntry?, _ peer: PeerEntry?,
        _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        var kept = flow
        kept?.note(packet, outbound: true)
        if let next = asked(packet, peer, policy, now) {
            return Decision(.drop(.latched), row, flow: kept, peer: next, event: .latched)
        }
        // What answers a peer that was secured before looks latched too.
        let answers = peer?.state == .negotiating && peer?.isAnswering == true && !packet.key.remote.address.isLinkLocal
        return Decision(.drop(.latched), row, flow: kept, peer: peer, event: answers ? .stash : nil)
    }

    /// Row 8, and what may answer a packet that came protected. No flow is made: it would let a clear
    /// answer in. So every held packet is offered to the store, which keeps one a flow.
    private static func held(
        _ packet: Packet, _ flow: FlowEntry?, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        var kept = flow
        kept?.note(packet, outbound: true)
        if let next = asked(packet, peer, policy, now) {
            return Decision(.drop(.held), .held, flow: kept, peer: next, event: .negotiate)
        }
        let negotiating = peer?.state == .negotiating && !packet.key.remote.address.isLinkLocal
        return Decision(.drop(.held), .held, flow: kept, peer: peer, event: negotiating ? .stash : nil)
    }
}
