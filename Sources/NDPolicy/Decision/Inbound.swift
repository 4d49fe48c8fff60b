import NDCore

extension DecisionTables {
    /// TC ingress of a protected interface: what arrives in clear.
    public static func inbound(
        _ arrived: Packet, flow found: FlowEntry?, peer: PeerEntry?, policy: CompiledPolicy, now: Instant
    ) -> Decision {
        if isNotOurs(arrived, policy) {
            return Decision(.pass(.inExempt), .notOurs, flow: found, peer: peer)
        }
        let action = policy.decide(.inboundTransport, arrived)?.action
        if action == .block { return Decision(.drop(.blocked), .blocked, flow: found, peer: peer) }
        if action == .permit, arrived.isICMP {
            // It leaves no flow, so each is a new one. An error belongs to what it quotes; WFP shows it to no ALE layer.
            if !arrived.isICMPError, let refused = refusal(policy.decide(.aleAuthRecvAccept, arrived)) {
                return Decision(.drop(refused.reason), refused.row, flow: found, peer: peer)
            }
            return Decision(.pass(.inExempt), .permitted, flow: found, peer: peer)
        }
        let packet = arrived.following()
        let flow = found?.alive(for: packet, policy, now)
        let accept = flow == nil ? policy.decide(.aleAuthRecvAccept, packet) : nil
        if let refused = refusal(accept) { return Decision(.drop(refused.reason), refused.row, flow: nil, peer: peer) }
        if action == .permit, !(flow?.isSecure ?? false) {
            var kept = flow ?? FlowEntry(direction: .inbound, firstSeen: now)
            kept.flags.insert(.exempt)
            return accepted(.permitted, packet, kept, peer, now)
        }
        // Where no filter of the layer has a say nothing asks that connections stay secure. A permit does
        // not unlatch: it exempts what isn't protected.
        let persists = action != nil
        guard var flow else {
            if persists, mayBeSecure(packet, peer, policy, now) {
                return Decision(.drop(.clearOnSecured), .maybeSecure, flow: nil, peer: peer)
            }
            let flow = FlowEntry(direction: .inbound, firstSeen: now, context: accept?.context ?? 0)
            return accepted(.newInboundClear, packet, flow, peer, now)
        }
        guard flow.isSecure else { return accepted(.knownClearFlow, packet, flow, peer, now) }
        let grace = isInGrace(flow, peer, policy, now)
        guard grace || !persists else {
            return Decision(.drop(.clearOnSecured), .clearOnSecured, flow: flow, peer: peer)
        }
        flow.note(packet, outbound: false)
        return Decision(.pass(.inClear), grace ? .grace : .notPersistent, flow: flow, peer: peer)
    }

    /// Packets that were on the way when the flow was upgraded, and nothing else.
    private static func isInGrace(
        _ flow: FlowEntry, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> Bool {
        guard flow.protectedReceivedAt == nil, let upgraded = flow.securedAt,
            now <= upgraded.advanced(by: policy.grace), let peerSecured = peer?.securedAt
        else { return false }
        return flow.firstSeen < peerSecured
    }

    private static func accepted(
        _ row: Decision.Row, _ packet: Packet, _ flow: FlowEntry, _ peer: PeerEntry?, _ now: Instant
    ) -> Decision {
        var kept = flow
        var event: DecisionEvent?
        if kept.flags.contains(.trigger), !kept.flags.contains(.clearReply) {
            kept.flags.insert(.clearReply)
            if peer?.state == .negotiating { event = .clearReply }
        }
        kept.note(packet, outbound: false)
        kept.lastSeen = now
        let kind: PassKind = kept.flags.contains(.exempt) ? .inExempt : .inClear
        return Decision(.pass(kind), row, flow: kept, peer: peer, event: event)
    }

    /// Row 5: what ALE_AUTH_RECV_ACCEPT has against a new clear flow. It is asked whatever INBOUND_TRANSPORT
    /// permits: WFP's layers decide each for itself.
    private static func refusal(_ accept: FilterDecision?) -> (reason: DropReason, row: Decision.Row)? {
        switch accept?.action {
        case .block: (.blocked, .blocked)
        case .initiateSecure: (.clearInbound, .newInboundRefused)
        default: nil
        }
    }

    /// Ingress of nd0: what an SA authenticated.
    public static func decrypted(
        _ packet: Packet, flow found: FlowEntry?, peer: PeerEntry?, policy: CompiledPolicy, now: Instant
    ) -> Decision {
        guard packet.localAddress == .unicast else {
            return Decision(.drop(.wrongAddress), .notOurs, flow: found, peer: peer)
        }
        let action = policy.decide(.inboundTransport, packet, flags: .isIPsecSecured)?.action
        if action == .block { return Decision(.drop(.blocked), .blocked, flow: found, peer: peer) }
        if action == .permit, packet.isICMP {
            if !packet.isICMPError,
                policy.decide(.aleAuthRecvAccept, packet, flags: .isIPsecSecured)?.action == .block
            {
                return Decision(.drop(.blocked), .blocked, flow: found, peer: peer)
            }
            return Decision(.pass(.inProtected), .permitted, flow: found, peer: peer)
        }
        var kept: FlowEntry
        if let flow = found?.alive(for: packet, policy, now) {
            kept = flow
        } else {
            let rule = policy.decide(.aleAuthRecvAccept, packet, flags: .isIPsecSecured)
            if rule?.action == .block { return Decision(.drop(.blocked), .blocked, flow: nil, peer: peer) }
            kept = FlowEntry(direction: .inbound, firstSeen: now, context: rule?.context ?? 0)
        }
        kept.secure(now)
        kept.protectedReceivedAt = kept.protectedReceivedAt ?? now
        kept.note(packet, outbound: false)
        kept.lastSeen = now
        return Decision(.pass(.inProtected), .decrypted, flow: kept, peer: peer)
    }
}
