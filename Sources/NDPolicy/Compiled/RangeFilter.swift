import NDCore

/// What a layer that BPF serves can test of a packet. Values are unsigned numbers in host order;
/// an IPv4 address is its 32 bits, an IPv6 address its 128.
public enum PacketField: UInt8, Hashable, Sendable, CaseIterable, Comparable {
    case localAddress, remoteAddress
    /// A host's NL_ADDRESS_TYPE: unspecified 0, unicast 1, anycast 2, multicast 3, broadcast 4.
    case localAddressType, remoteAddressType
    case proto
    /// Absent where the protocol has no ports; a filter that tests an absent value doesn't match.
    case localPort, remotePort
    case icmpType, icmpCode
    /// The interface's index.
    case interface
    /// 0 outbound, 1 inbound.
    case direction
    /// FWP_CONDITION_FLAG_*, renumbered from bit 0 (`PacketFlags`).
    case flags
    /// The number of the machine that authenticated (`MachineNumbers`); absent in clear, and of a machine that no
    /// filter names.
    case remoteMachine

    /// Bits of the largest value.
    public func width(_ family: IPFamily) -> Int {
        switch self {
        case .localAddress, .remoteAddress: family == .v4 ? 32 : 128
        case .localPort, .remotePort, .remoteMachine: 16
        case .interface: 32
        case .localAddressType, .remoteAddressType, .proto, .icmpType, .icmpCode, .direction, .flags: 8
        }
    }

    public static func < (a: PacketField, b: PacketField) -> Bool { a.rawValue < b.rawValue }
}

/// A filter of a layer that BPF serves, in the form that every match type comes down to: for each
/// field that it tests, the values it takes as ranges that are sorted and don't touch. Alternatives
/// inside a field are a union, fields are joined by AND.
public struct RangeFilter: Hashable, Sendable {
    /// What it says when it matches.
    public enum Verdict: Hashable, Sendable {
        case permit, block
        /// A built-in callout's part in the decision (`RuleAction` other than permit and block) and
        /// the quick-mode context it works with.
        case callout(RuleAction, context: UInt32)
        /// A third party's program, by its number (`CalloutNumbers`). Inspection never decides; after one that
        /// changes packets the header is looked at.
        case program(UInt32, inspection: Bool, changes: Bool)
        /// A callout that nobody registered: blocks where it terminates (FWP_ACTION_CALLOUT_TERMINATING),
        /// goes on where it doesn't.
        case unregistered(terminating: Bool)
    }

    public var id: UInt64
    public var layer: DatapathLayer
    public var family: IPFamily
    /// 0 is the heaviest sublayer.
    public var sublayer: Int
    public var weight: UInt64
    /// A field that is not here is not tested; one with no range never matches.
    public var fields: [PacketField: [ClosedRange<UInt128>]]
    public var verdict: Verdict
    /// FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT: no lighter sublayer may change the verdict (a hard one).
    public var isHard: Bool

    public init(
        id: UInt64, layer: DatapathLayer, family: IPFamily, sublayer: Int, weight: UInt64,
        fields: [PacketField: [ClosedRange<UInt128>]], verdict: Verdict, isHard: Bool = false
    ) {
        self.id = id
        self.layer = layer
        self.family = family
        self.sublayer = sublayer
        self.weight = weight
        self.fields = fields
        self.verdict = verdict
        self.isHard = isHard
    }

    /// The order in which filters of one layer are asked: heavier sublayer, heavier filter, older filter.
    public func isAsked(before other: RangeFilter) -> Bool {
        if sublayer != other.sublayer { return sublayer < other.sublayer }
        if weight != other.weight { return weight > other.weight }
        return id < other.id
    }

    public func matches(_ values: [PacketField: UInt128]) -> Bool {
        fields.allSatisfy { field, ranges in
            guard let value = values[field] else { return false }
            return ranges.contains { $0.contains(value) }
        }
    }
}
