import CNDABI
import NDCore

/// The executable specification of DESIGN §3. Pure, without cached verdicts, fragments and the
/// device; BPF must decide the same.
///
/// `flow` and `peer` are the entries found for `packet.flowKey`.
public enum DecisionTables {
    /// Row 1 of both tables: what ndbpf has no say in.
    static func isNotOurs(_ packet: Packet, _ policy: CompiledPolicy) -> Bool {
        guard packet.isIP else { return true }
        let proto = packet.key.proto
        if proto == IPProtocol.esp || proto == IPProtocol.ah { return true }
        let remote = packet.key.remote.address
        if packet.localAddress != .unicast || remote.isMulticast || packet.remoteIsBroadcast { return true }
        // 255.255.255.255 and 0.0.0.0.
        if remote.isIPv4, remote.isUnspecified || remote.low & 0xffff_ffff == 0xffff_ffff { return true }
        let port = packet.key.local.port
        return proto == IPProtocol.udp && policy.exemptsIKE.contains(packet.family)
            && (port == policy.ikePort || port == policy.natTraversalPort)
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

    /// The peer after a packet asked for a negotiation; nil when none is due.
    static func asked(
        _ packet: Packet, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> PeerEntry? {
        // Link-local peers come and go with the link, and their addresses mean nothing beyond it.
        guard !packet.key.remote.address.isLinkLocal else { return nil }
        guard var next = peer else { return PeerEntry(.negotiating, changedAt: now) }
        guard next.isDue(policy, now) else { return nil }
        next.state = .negotiating
        next.changedAt = now
        return next
    }
}
