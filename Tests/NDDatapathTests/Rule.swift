import NDCore
import NDPolicy

/// A filter in plain form: no field has alternatives, and every condition that is present must hold.
struct Rule: Hashable, Sendable {
    /// The filter it was compiled from; the IPv4 one of a pair of twins.
    var id: UInt32
    var context: UInt32
    var layer: DatapathLayer
    var action: RuleAction
    var family: IPFamily?
    var proto: UInt8?
    var local: IPPrefix?
    var remote: IPPrefix?
    var localPort: ClosedRange<UInt16>?
    var remotePort: ClosedRange<UInt16>?
    var icmpType: ClosedRange<UInt8>?
    var icmpCode: ClosedRange<UInt8>?

    init(
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
    func rangeFilters(weight: UInt64) -> [RangeFilter] {
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
                verdict: verdict, isHard: action == .block)
        }
    }

    private static func range<T: BinaryInteger>(_ range: ClosedRange<T>) -> [ClosedRange<UInt128>] {
        [UInt128(range.lowerBound)...UInt128(range.upperBound)]
    }
}

extension [Rule] {
    /// The first rule that matches decides: earlier ones weigh more.
    var rangeFilters: [RangeFilter] {
        enumerated().flatMap { $1.rangeFilters(weight: UInt64(clamping: count - $0)) }
    }
}

extension IPPrefix {
    var family: IPFamily { address.isIPv4 ? .v4 : .v6 }

    /// Its addresses, as a field has them.
    var range: ClosedRange<UInt128> {
        let width = family == .v4 ? 32 : 128
        let host = width - length
        let rest = host >= 128 ? UInt128.max : UInt128(1) << UInt128(host) - 1
        let first = address.fieldValue(family) & ~rest
        return first...(first | rest)
    }
}
