import CNDABI

/// What BPF does with a packet that a filter matches (enum nd_action).
public struct RuleAction: Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt8

    public init?(rawValue: UInt8) {
        guard UInt32(rawValue) < ND_ACTION_COUNT.rawValue else { return nil }
        self.rawValue = rawValue
    }

    private init(_ action: nd_action) { rawValue = UInt8(truncatingIfNeeded: action.rawValue) }

    public static let permit = RuleAction(ND_ACTION_PERMIT)
    public static let block = RuleAction(ND_ACTION_BLOCK)
    public static let negotiateDiscover = RuleAction(ND_ACTION_NEGOTIATE_DISCOVER)
    public static let requireOutbound = RuleAction(ND_ACTION_REQUIRE_OUTBOUND)
    public static let persistSecurity = RuleAction(ND_ACTION_PERSIST_SECURITY)
    public static let initiateSecure = RuleAction(ND_ACTION_INITIATE_SECURE)

    public static var all: [RuleAction] {
        (0..<UInt8(truncatingIfNeeded: ND_ACTION_COUNT.rawValue)).compactMap(RuleAction.init)
    }

    public var description: String { nd_action_label(UInt32(rawValue)).map { String(cString: $0) } ?? "?" }
}
