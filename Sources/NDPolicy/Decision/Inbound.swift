import NDCore

extension DecisionTables {
    /// TC ingress of a protected interface: what arrives in clear.
    public static func inbound(
        _ arrived: Packet, flow found: FlowEntry?, peer: PeerEntry?, policy: CompiledPolicy, now: Instant
    ) -> Decision {
        if isNotOurs(arrived, policy) {
            return Decision(.pass(.inExempt), .notOurs, flow: found, peer: peer)
        }
        let action = policy.decide(.inboundTransport, arrived)?.action ?? .persistSecurity
        if action == .block { return Decision(.drop(.blocked), .blocked, flow: found, peer: peer) }
        if action == .permit, arrived.isICMP {
            return Decision(.pass(.inExempt), .permitted, flow: found, peer: peer)
        }
        let packet = arrived.following()
        let flow = found?.alive(for: packet, policy, now)
        if action == .permit, !(flow?.isSecure ?? false) {
            var kept = flow ?? FlowEntry(direction: .inbound, firstSeen: now)
            kept.flags.insert(.exempt)
            return accepted(.permitted, packet, kept, peer, now)
        }
        guard var flow else { return newInbound(packet, peer, policy, now) }
        guard flow.isSecure else { return accepted(.knownClearFlow, packet, flow, peer, now) }
        guard isInGrace(flow, peer, policy, now) else {
            return Decision(.drop(.clearOnSecured), .clearOnSecured, flow: flow, peer: peer)
        }
        flow.note(packet, outbound: false)
        return Decision(.pass(.inClear), .grace, flow: flow, peer: peer)
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

    /// Row 5.
    private static func newInbound(
        _ packet: Packet, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        let rule = policy.decide(.aleAuthRecvAccept, packet)
        switch rule?.action {
        case .block:
            return Decision(.drop(.blocked), .blocked, flow: nil, peer: peer)
        case .initiateSecure:
            return Decision(.drop(.clearInbound), .newInboundRefused, flow: nil, peer: peer)
        default:
            break
        }
        if mayBeSecure(packet, peer, policy, now) {
            return Decision(.drop(.clearOnSecured), .maybeSecure, flow: nil, peer: peer)
        }
        let flow = FlowEntry(direction: .inbound, firstSeen: now, context: rule?.context ?? 0)
        return accepted(.newInboundClear, packet, flow, peer, now)
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
