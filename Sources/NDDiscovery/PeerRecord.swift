import NDCore

/// The peer states of nd.h (enum nd_peer_state), with the same numbers.
public enum PeerState: UInt32, Hashable, Sendable, CaseIterable {
    case unknown, negotiating, secured, lost, clear

    public var label: String {
        switch self {
        case .unknown: "unknown"
        case .negotiating: "negotiating"
        case .secured: "secured"
        case .lost: "lost"
        case .clear: "clear"
        }
    }
}

/// What BPF's peer table is to hold: the fields of struct nd_peer, nil for its 0.
public struct PeerRecord: Hashable, Sendable {
    public var state: PeerState
    /// ND_PEER_BOUNDARY: the peer said that it accepts clear inbound.
    public var isBoundary: Bool
    /// ND_PEER_ANSWERING: it may send on an SA whose outbound twin is not in use yet.
    public var isAnswering = false
    public var changedAt: Instant
    /// Start of the present protection.
    public var securedAt: Instant?
    /// The last instant an SA was valid; `stillSecured` while one is.
    public var securedUntil: Instant?
    public var clearUntil: Instant?

    /// nd.h's ~0.
    public static let stillSecured = Instant(nanoseconds: .max)

    public init(
        _ state: PeerState, changedAt: Instant, isBoundary: Bool = false, securedAt: Instant? = nil,
        securedUntil: Instant? = nil, clearUntil: Instant? = nil
    ) {
        self.state = state
        self.changedAt = changedAt
        self.isBoundary = isBoundary
        self.securedAt = securedAt
        self.securedUntil = securedUntil
        self.clearUntil = clearUntil
    }
}

/// Why a negotiation failed; few cases, since they are metric labels.
public enum FailureReason: String, Hashable, Sendable, CaseIterable, Codable {
    /// Nobody answered.
    case noAnswer = "no_answer"
    case noProposal = "no_proposal"
    case authentication
    /// The peer refused with a notify.
    case refused
    /// What the peer sent breaks the protocol.
    case malformed
    /// This host could not: no key, no room, an engine that refused the SAs.
    case local
    /// The keying module never came back.
    case abandoned
}

/// Why an SA pair went.
public enum RemovalReason: String, Hashable, Sendable, CaseIterable, Codable {
    case expired
    /// The peer sent a delete.
    case deletedByPeer = "deleted_by_peer"
    /// The operator or a policy change.
    case deletedLocally = "deleted_locally"
    /// Liveness: the peer is gone.
    case dead
    case replaced
}
