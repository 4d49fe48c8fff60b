import NDCore

extension DecisionTables {
    /// TC ingress of a protected interface: what arrives in clear.
    ///
    /// The latch is asked first: a clear packet of a secured flow is dropped, but for the grace time of an
    /// upgrade, and changes nothing of it.
    public static func inbound(
        _ arrived: Packet, flow found: FlowEntry?, peer: PeerEntry?, policy: CompiledPolicy, now: Instant
    ) -> Decision {
        guard arrived.isIP else { return Decision(.pass(.inClear), .notOurs, flow: found, peer: peer) }
        var standing = found
        if let flow = found, flow.isSecure, arrived.quoted == nil {
            guard flow.isOver(arrived, policy, now) else { return latched(arrived, flow, peer, policy, now) }
            standing = nil
        }
        switch reasonInbound(arrived, policy) {
        case .pass(let kind): return Decision(.pass(kind), .notOurs, flow: standing, peer: peer)
        case .badSource: return Decision(.drop(.badSource), .badSource, flow: standing, peer: peer)
        case .ours: break
        }
        let action = policy.decide(.inboundTransport, arrived)?.action
        if action == .block { return Decision(.drop(.blocked), .blocked, flow: standing, peer: peer) }
        let isExempt = action == .permit && arrived.isICMP
        if arrived.quoted != nil, let flow = found, flow.isSecure, !(isExempt && policy.exemptsICMPErrors) {
            guard flow.isOver(arrived.following(), policy, now) else { return latched(arrived, flow, peer, policy, now) }
            standing = nil
        }
        if isExempt {
            // It leaves no flow, so each is a new one. An error belongs to what it quotes; WFP shows it to no ALE layer.
            if !arrived.isICMPError, let refused = refusal(policy.decide(.aleAuthRecvAccept, arrived)) {
                return Decision(.drop(refused.reason), refused.row, flow: standing, peer: peer)
            }
            return Decision(.pass(.inExempt), .permitted, flow: standing, peer: peer)
        }
        let packet = arrived.following()
        standing = standing?.alive(for: packet, policy, now)
        // A unicast answer to a clear broadcast lets nothing in.
        let flow = standing?.flags.contains(.answer) == true ? nil : standing
        let accept = flow == nil ? policy.decide(.aleAuthRecvAccept, packet) : nil
        // A filter that asks for persistence asks too whether an entry may have been lost.
        if flow == nil, action != nil, action != .permit, mayBeSecure(packet, peer, policy, now) {
            return Decision(.drop(.clearOnSecured), .maybeSecure, flow: standing, peer: peer)
        }
        if let refused = refusal(accept) { return Decision(.drop(refused.reason), refused.row, flow: standing, peer: peer) }
        if action == .permit {
            // A stranger's packet makes no entry.
            guard var kept = flow else { return Decision(.pass(.inExempt), .permitted, flow: standing, peer: peer) }
            kept.flags.insert(.exempt)
            return accepted(.permitted, packet, kept, peer, now)
        }
        if let flow { return accepted(.knownClearFlow, packet, flow, peer, now) }
        var made = standing ?? FlowEntry(direction: .inbound, firstSeen: now, context: accept?.context ?? 0)
        if made.flags.remove(.answer) != nil { made.context = accept?.context ?? 0 }
        return accepted(.newInboundClear, packet, made, peer, now)
    }

    /// Row 0: a clear packet of a secured flow. Packets that were on the way when it was upgraded pass.
    private static func latched(
        _ arrived: Packet, _ flow: FlowEntry, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        // On the wire it is ESP, so an honest router's error quotes ESP.
        if arrived.quoted != nil { return Decision(.drop(.icmpError), .icmpError, flow: flow, peer: peer) }
        let securedAt = flow.securedAt ?? Instant(nanoseconds: 0)
        guard let peerSecured = peer?.securedAt, flow.firstSeen < peerSecured, flow.firstSeen < securedAt,
            flow.protectedReceivedAt == nil, now <= securedAt.advanced(by: policy.grace)
        else {
            return Decision(.drop(.clearOnSecured), .clearOnSecured, flow: flow, peer: peer)
        }
        return Decision(.pass(.inGrace), .grace, flow: flow, peer: peer)
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
        var context: UInt32
        if let flow = found?.alive(for: packet, policy, now) {
            kept = flow
            context = flow.context
        } else {
            let rule = policy.decide(.aleAuthRecvAccept, packet, flags: .isIPsecSecured)
            if rule?.action == .block { return Decision(.drop(.blocked), .blocked, flow: nil, peer: peer) }
            context = rule?.context ?? 0
            kept = FlowEntry(direction: .inbound, firstSeen: now, context: context)
        }
        kept.secure(context: context, now)
        kept.protectedReceivedAt = kept.protectedReceivedAt ?? now
        kept.note(packet, outbound: false)
        kept.lastSeen = now
        return Decision(.pass(.inProtected), .decrypted, flow: kept, peer: peer)
    }
}
