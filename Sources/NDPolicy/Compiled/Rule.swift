import CNDABI
import NDCore

/// What BPF does with a packet that a rule matches (enum nd_action).
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

/// A filter in plain form: no field has alternatives, and every condition that is present must hold.
public struct Rule: Hashable, Sendable {
    /// The filter it was compiled from; the IPv4 one of a pair of twins.
    public var id: UInt32
    public var context: UInt32
    public var layer: DatapathLayer
    public var action: RuleAction
    public var family: IPFamily?
    public var proto: UInt8?
    public var local: IPPrefix?
    public var remote: IPPrefix?
    public var localPort: ClosedRange<UInt16>?
    public var remotePort: ClosedRange<UInt16>?
    public var icmpType: ClosedRange<UInt8>?
    public var icmpCode: ClosedRange<UInt8>?

    public init(
        id: UInt32, layer: DatapathLayer, action: RuleAction, context: UInt32 = 0, family: IPFamily? = nil,
        proto: UInt8? = nil, local: IPPrefix? = nil, remote: IPPrefix? = nil,
        localPort: ClosedRange<UInt16>? = nil, remotePort: ClosedRange<UInt16>? = nil,
        icmpType: ClosedRange<UInt8>? = nil, icmpCode: ClosedRange<UInt8>? = nil
    ) {
        self.id = id
        self.layer = layer
        self.action = action
        self.context = context
        self.family = family
        self.proto = proto
        self.local = local
        self.remote = remote
        self.localPort = localPort
        self.remotePort = remotePort
        self.icmpType = icmpType
        self.icmpCode = icmpCode
    }

    /// The filters it stands for: one, or one for each family.
    public func rangeFilters(weight: UInt64) -> [RangeFilter] {
        let families = (family ?? local?.family ?? remote?.family).map { [$0] } ?? IPFamily.allCases
        return families.map { family in
            var fields: [PacketField: [ClosedRange<UInt128>]] = [:]
            fields[.proto] = proto.map { [UInt128($0)...UInt128($0)] }
            fields[.localAddress] = local.map { $0.family == family ? [$0.range] : [] }
            fields[.remoteAddress] = remote.map { $0.family == family ? [$0.range] : [] }
            fields[.localPort] = localPort.map(Self.range)
            fields[.remotePort] = remotePort.map(Self.range)
            fields[.icmpType] = icmpType.map(Self.range)
            fields[.icmpCode] = icmpCode.map(Self.range)
            let verdict: RangeFilter.Verdict =
                switch action {
                case .permit: .permit
                case .block: .block
                default: .callout(action, context: context)
                }
            return RangeFilter(
                id: UInt64(id), layer: layer, family: family, sublayer: 0, weight: weight, fields: fields,
                verdict: verdict)
        }
    }

    private static func range<T: BinaryInteger>(_ range: ClosedRange<T>) -> [ClosedRange<UInt128>] {
        [UInt128(range.lowerBound)...UInt128(range.upperBound)]
    }
}

extension [Rule] {
    /// The first rule that matches decides: earlier ones weigh more.
    public var rangeFilters: [RangeFilter] {
        enumerated().flatMap { $1.rangeFilters(weight: UInt64(clamping: count - $0)) }
    }
}

extension IPPrefix {
    var family: IPFamily { address.isIPv4 ? .v4 : .v6 }

    /// Its addresses, as a field has them.
    public var range: ClosedRange<UInt128> {
        let width = family == .v4 ? 32 : 128
        let host = width - length
        let rest = host >= 128 ? UInt128.max : UInt128(1) << UInt128(host) - 1
        let first = address.fieldValue(family) & ~rest
        return first...(first | rest)
    }
}
