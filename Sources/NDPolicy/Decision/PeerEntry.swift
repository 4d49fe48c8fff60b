import CNDABI
import NDCore

/// What the peer table knows (struct nd_peer).
public struct PeerEntry: Hashable, Sendable {
    /// enum nd_peer_state
    public enum State: UInt32, Hashable, Sendable, CaseIterable {
        case unknown, negotiating, secured, lost, clear

        public var label: String { nd_peer_state_label(rawValue).map { String(cString: $0) } ?? "?" }
    }

    public var state: State
    /// The peer said that it accepts clear inbound.
    public var isBoundary: Bool
    /// It may send on an SA whose outbound twin is not in use yet.
    public var isAnswering = false
    public var changedAt: Instant
    public var securedAt: Instant?
    /// The last instant an SA was valid; `stillSecured` while one is.
    public var securedUntil: Instant?
    public var clearUntil: Instant?

    public static let stillSecured = Instant(nanoseconds: .max)

    public init(
        _ state: State, changedAt: Instant, isBoundary: Bool = false, securedAt: Instant? = nil,
        securedUntil: Instant? = nil, clearUntil: Instant? = nil
    ) {
        self.state = state
        self.changedAt = changedAt
        self.isBoundary = isBoundary
        self.securedAt = securedAt
        self.securedUntil = securedUntil
        self.clearUntil = clearUntil
    }

    /// nil for a state outside the list.
    public init?(abi peer: nd_peer) {
        guard let state = State(rawValue: peer.state) else { return nil }
        self.init(
            state, changedAt: Instant(nanoseconds: peer.changed_at), isBoundary: peer.flags & ND_PEER_BOUNDARY != 0,
            securedAt: Instant(orNever: peer.secured_at), securedUntil: Instant(orNever: peer.secured_until),
            clearUntil: Instant(orNever: peer.clear_until))
        isAnswering = peer.flags & ND_PEER_ANSWERING != 0
    }

    public var abi: nd_peer {
        var peer = nd_peer()
        peer.state = state.rawValue
        peer.flags = (isBoundary ? ND_PEER_BOUNDARY : 0) | (isAnswering ? ND_PEER_ANSWERING : 0)
        peer.changed_at = changedAt.nanoseconds
        peer.secured_at = securedAt?.nanoseconds ?? 0
        peer.secured_until = securedUntil?.nanoseconds ?? 0
        peer.clear_until = clearUntil?.nanoseconds ?? 0
        return peer
    }

    /// Whether a negotiation is due: nobody runs one, or whoever did was not heard of for long.
    /// `waits`: for a packet that does not leave before there are keys.
    func isDue(_ policy: CompiledPolicy, _ now: Instant, waits: Bool = false) -> Bool {
        switch state {
        case .unknown, .lost: true
        case .clear: clearUntil.map { now >= $0 } ?? true || (waits && now >= changedAt.advanced(by: policy.askAgain))
        case .negotiating: now >= changedAt.advanced(by: policy.askAgain)
        case .secured: false
        }
    }
}
