import NDWire

/// Why a well-formed message had no effect. The raw value is a metric label.
public enum DropReason: String, Error, Sendable, CaseIterable {
    case notISAKMP = "not_isakmp"
    case badVersion = "bad_version"
    case badCookie = "bad_cookie"
    case badMessageID = "bad_message_id"
    case badFlags = "bad_flags"
    case unsupportedExchange = "unsupported_exchange"
    case unknownExchange = "unknown_exchange"
    case unexpectedMessage = "unexpected_message"
    case addressMismatch = "address_mismatch"
    case reflected
    case missingPayload = "missing_payload"
    case duplicatePayload = "duplicate_payload"
    case unexpectedPayload = "unexpected_payload"
    case trailingBytes = "trailing_bytes"
    case badSecurityAssociation = "bad_sa"
    case badNonce = "bad_nonce"
    case badKeyExchange = "bad_key_exchange"
    case badIdentity = "bad_identity"
    case badSelector = "bad_selector"
    case badSPI = "bad_spi"
    case badCiphertext = "bad_ciphertext"
    case hashMismatch = "hash_mismatch"
    case noProposal = "no_proposal"
    case noCredential = "no_credential"
    case noPolicy = "no_policy"
    case replayedMessageID = "replayed_message_id"
    case collision
    case halfOpenLimit = "half_open_limit"
    case sourceLimit = "source_limit"
    case limit
    case rateLimited = "rate_limited"
    case replayedProbe = "replayed_probe"
    case cryptography
}

/// Monotone counters; all exist from the start.
public struct KeyingCounters: Sendable {
    public enum Name: String, Sendable, CaseIterable {
        case datagramsReceived = "datagrams_received"
        case datagramsSent = "datagrams_sent"
        case keepalivesReceived = "keepalives_received"
        case retransmissionsSent = "retransmissions_sent"
        case retransmissionsReceived = "retransmissions_received"
        case repliesRepeated = "replies_repeated"
        case negotiationsStarted = "negotiations_started"
        case negotiationsSucceeded = "negotiations_succeeded"
        case negotiationsFailed = "negotiations_failed"
        case mainModesInitiated = "main_modes_initiated"
        case mainModesAnswered = "main_modes_answered"
        case mainModesEstablished = "main_modes_established"
        case quickModesInitiated = "quick_modes_initiated"
        case quickModesAnswered = "quick_modes_answered"
        case quickModesEstablished = "quick_modes_established"
        case pairsRemoved = "pairs_removed"
        case deletesSent = "deletes_sent"
        case deletesReceived = "deletes_received"
        case notifiesReceived = "notifies_received"
        case hintsReceived = "hints_received"
        case errorNotifiesSent = "error_notifies_sent"
        case cookieDemandsSent = "cookie_demands_sent"
        case cookieDemandsReceived = "cookie_demands_received"
        case initialContacts = "initial_contacts"
        case halfOpenExpired = "half_open_expired"
        case collisions
        case rekeysStarted = "rekeys_started"
        case rekeysCompleted = "rekeys_completed"
        case rekeysFailed = "rekeys_failed"
        case mainModesRekeyed = "main_modes_rekeyed"
        case deadPeerProbesSent = "dead_peer_probes_sent"
        case deadPeerProbesReceived = "dead_peer_probes_received"
        case deadPeers = "dead_peers"
    }

    private var values = [Name: UInt64](uniqueKeysWithValues: Name.allCases.map { ($0, 0) })
    /// Datagrams that are no ISAKMP messages, or whose plaintext is none, by cause.
    public private(set) var malformed =
        [WireError: UInt64](uniqueKeysWithValues: WireError.allCases.map { ($0, 0) })
    public private(set) var dropped =
        [DropReason: UInt64](uniqueKeysWithValues: DropReason.allCases.map { ($0, 0) })

    public init() {}

    public subscript(_ name: Name) -> UInt64 { values[name, default: 0] }
    public subscript(_ error: WireError) -> UInt64 { malformed[error, default: 0] }
    public subscript(_ reason: DropReason) -> UInt64 { dropped[reason, default: 0] }

    public var all: [(name: Name, value: UInt64)] { Name.allCases.map { ($0, self[$0]) } }

    mutating func count(_ name: Name, _ amount: UInt64 = 1) { values[name, default: 0] &+= amount }
    mutating func count(_ error: WireError) { malformed[error, default: 0] &+= 1 }
    mutating func count(_ reason: DropReason) { dropped[reason, default: 0] &+= 1 }
}
