import CNDABI
import NDCore

/// enum nd_drop_reason
public struct DropReason: Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt32

    public init?(rawValue: UInt32) {
        guard rawValue < ND_DROP_COUNT.rawValue else { return nil }
        self.rawValue = rawValue
    }

    private init(_ reason: nd_drop_reason) { rawValue = reason.rawValue }

    public static let latched = DropReason(ND_DROP_LATCHED)
    public static let held = DropReason(ND_DROP_HELD)
    public static let clearInbound = DropReason(ND_DROP_CLEAR_INBOUND)
    public static let clearOnSecured = DropReason(ND_DROP_CLEAR_ON_SECURED)
    public static let blocked = DropReason(ND_DROP_BLOCKED)
    public static let wrongAddress = DropReason(ND_DROP_WRONG_ADDRESS)
    public static let calloutHeader = DropReason(ND_DROP_CALLOUT_HEADER)
    public static let policyChanged = DropReason(ND_DROP_POLICY_CHANGED)
    public static let malformed = DropReason(ND_DROP_MALFORMED)
    public static let badSource = DropReason(ND_DROP_BAD_SOURCE)
    public static let icmpError = DropReason(ND_DROP_ICMP_ERROR)
    public static let securedFull = DropReason(ND_DROP_SECURED_FULL)
    public static let redirectFailed = DropReason(ND_DROP_REDIRECT_FAILED)

    public var description: String { nd_drop_label(rawValue).map { String(cString: $0) } ?? "?" }
}

/// enum nd_pass_kind
public enum PassKind: UInt32, Hashable, Sendable, CaseIterable {
    case outClear, outProtected, outExempt, inClear, inProtected, inExempt
    case outNotUnicast, outForwarded, outUnaddressed, outIPsec, outIKE, outFragment
    case inNotUnicast, inForwarded, inIPsec, inIKE, inFragment, inGrace

    public var label: String { nd_pass_label(rawValue).map { String(cString: $0) } ?? "?" }
}

/// What the datapath tells the daemon (enum nd_event_type, without sampled drops).
public enum DecisionEvent: UInt32, Hashable, Sendable, CaseIterable {
    case negotiate, stash, clearReply, latched
    case wait = 6

    public var label: String { nd_event_label(rawValue).map { String(cString: $0) } ?? "?" }
}

/// What happens to one packet, and what it leaves behind.
public struct Decision: Hashable, Sendable {
    public enum Verdict: Hashable, Sendable {
        case pass(PassKind)
        /// Into nd0: it leaves as ESP or not at all.
        case redirect
        /// Lost as if on the wire: it waits for its SA, and to its sender it was sent.
        case wait(DropReason)
        case drop(DropReason)
    }

    /// Rows of the tables in DESIGN §3, for `explain`.
    public enum Row: String, Hashable, Sendable, CaseIterable {
        case notOurs = "not ours"
        case noFilter = "no filter"
        case permitted = "permitted by a filter"
        case blocked = "blocked by a filter"
        case peerSecured = "peer secured"
        case flowSecure = "flow secure, peer not"
        case maybeSecure = "no flow entry, peer was secured, opens nothing"
        case clearAsks = "clear, negotiation due"
        case clear = "clear"
        case held = "protection required, no SA"
        case knownClearFlow = "known clear flow"
        case clearOnSecured = "clear on secured"
        case grace = "clear on secured, in flight at the upgrade"
        case icmpError = "clear ICMP error about a secured flow"
        case badSource = "a source that no packet may have"
        case newInboundRefused = "new clear inbound flow, protection required"
        case newInboundClear = "new clear inbound flow"
        case decrypted = "decrypted"
    }

    public var verdict: Verdict
    public var row: Row
    /// The entries that stand afterwards.
    public var flow: FlowEntry?
    public var peer: PeerEntry?
    public var event: DecisionEvent?

    public init(
        _ verdict: Verdict, _ row: Row, flow: FlowEntry?, peer: PeerEntry?, event: DecisionEvent? = nil
    ) {
        self.verdict = verdict
        self.row = row
        self.flow = flow
        self.peer = peer
        self.event = event
    }
}
