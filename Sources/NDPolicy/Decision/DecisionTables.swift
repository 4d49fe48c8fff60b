import CNDABI
import NDCore

/// The executable specification of DESIGN §3. Pure, without cached verdicts, fragments and the
/// device; BPF must decide the same.
///
/// `flow` and `peer` are the entries found for `packet.flowKey`.
public enum DecisionTables {
    /// Row 1 outbound: the reason why a packet of no secured flow leaves as it is; nil: there is none.
    static func reasonOutbound(_ packet: Packet, _ policy: CompiledPolicy) -> PassKind? {
        if isIPsec(packet) { return .outIPsec }
        if isGroup(packet.key.remote.address) || packet.remoteIsBroadcast { return .outNotUnicast }
        if packet.localAddress == .foreign { return .outForwarded }
        if packet.key.local.address.isUnspecified { return .outUnaddressed }
        return isIKE(packet, policy) ? .outIKE : nil
    }

    enum Arrival: Hashable {
        case pass(PassKind), badSource, ours
    }

    /// Row 1 inbound.
    static func reasonInbound(_ packet: Packet, _ policy: CompiledPolicy) -> Arrival {
        if isIPsec(packet) { return .pass(.inIPsec) }
        let isUnicast = packet.localAddress != .broadcast && !isGroup(packet.key.local.address)
        if isUnicast, packet.localAddress == .foreign { return .pass(.inForwarded) }
        let remote = packet.key.remote.address
        if remote.isUnspecified {
            // Without an address a host may look for one.
            if isUnicast { return .badSource }
        } else if isGroup(remote) || packet.remoteIsBroadcast || (isUnicast && packet.remoteIsOwn) {
            return .badSource
        }
        if !isUnicast { return .pass(.inNotUnicast) }
        return isIKE(packet, policy) ? .pass(.inIKE) : .ours
    }

    private static func isIPsec(_ packet: Packet) -> Bool {
        packet.key.proto == IPProtocol.esp || packet.key.proto == IPProtocol.ah
    }

    /// Multicast, 255.255.255.255 and IPv4's 0.0.0.0, an old form of it.
    private static func isGroup(_ address: IPAddress) -> Bool {
        address.isMulticast
            || (address.isIPv4 && (address.isUnspecified || address.low & 0xffff_ffff == 0xffff_ffff))
    }

    private static func isIKE(_ packet: Packet, _ policy: CompiledPolicy) -> Bool {
        let port = packet.key.local.port
        return packet.key.proto == IPProtocol.udp && policy.exemptsIKE.contains(packet.family)
            && (port == policy.ikePort || port == policy.natTraversalPort) && packet.isOfDaemon
    }

    /// A packet without a flow entry may belong to a flow that was secured and whose entry was
    /// lost. What opens a connection can't; for protocols without that sign the idle time tells.
    static func mayBeSecure(
        _ packet: Packet, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> Bool {
        guard let until = peer?.securedUntil else { return false }
        if packet.key.proto == IPProtocol.tcp { return !packet.opensConnection }
        return until == PeerEntry.stillSecured || now < until.advanced(by: policy.idle)
    }

    /// Whether an outbound packet may go on in clear because of a clear flow's entry. One that an inbound packet
    /// made proves nothing about a peer that was secured, before this host accepted the connection.
    static func trusts(_ flow: FlowEntry?, _ packet: Packet, _ peer: PeerEntry?) -> Bool {
        guard let flow else { return false }
        return flow.direction == .outbound || peer?.securedUntil == nil
            || !flow.flags.isDisjoint(with: [.accepted, .exempt]) || packet.tcpFlags.contains(.syn)
    }

    /// The peer after a packet asked for a negotiation; nil when none is due.
    static func asked(
        _ packet: Packet, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant, waits: Bool = false
    ) -> PeerEntry? {
        // Link-local peers come and go with the link, and their addresses mean nothing beyond it.
        guard !packet.key.remote.address.isLinkLocal else { return nil }
        guard var next = peer else { return PeerEntry(.negotiating, changedAt: now) }
        guard next.isDue(policy, now, waits: waits) else { return nil }
        next.state = .negotiating
        next.changedAt = now
        return next
    }
}
