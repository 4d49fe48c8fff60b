import NDCore

/// The executable specification of what BPF's tables say: every filter of the layer is looked at, one
/// after the other.
public struct LinearClassifier: Hashable, Sendable {
    private var groups: [[RangeFilter]]

    public init(_ filters: [RangeFilter]) {
        groups = Array(repeating: [], count: DatapathLayer.all.count * 2)
        for filter in filters { groups[Self.group(filter.layer, filter.family)].append(filter) }
        for index in groups.indices { groups[index].sort { $0.isAsked(before: $1) } }
    }

    /// nd_policy.tables: by layer, IPv4 before IPv6.
    static func group(_ layer: DatapathLayer, _ family: IPFamily) -> Int {
        Int(layer.rawValue) * 2 + (family == .v4 ? 0 : 1)
    }

    /// In the order they are asked.
    public func filters(_ layer: DatapathLayer, _ family: IPFamily) -> [RangeFilter] { groups[Self.group(layer, family)] }

    public var filters: [RangeFilter] { groups.flatMap { $0 } }

    /// nil: no filter of the layer has a say.
    public func decide(
        _ layer: DatapathLayer, _ family: IPFamily, _ values: FieldValues,
        callout: (UInt32) -> CalloutAnswer? = { _ in nil }
    ) -> FilterDecision? {
        arbitrate(layer, family, values, callout: callout).decision
    }

    func arbitrate(
        _ layer: DatapathLayer, _ family: IPFamily, _ values: FieldValues, callout: (UInt32) -> CalloutAnswer?
    ) -> RangeArbitration {
        var arbitration = RangeArbitration()
        var done: Int?
        for filter in groups[Self.group(layer, family)] {
            if filter.sublayer == done { continue }
            guard filter.matches(values) else { continue }
            switch arbitration.consider(filter.id, filter.verdict, isHard: filter.isHard, callout: callout) {
            case .nextFilter: continue
            case .nextSublayer: done = filter.sublayer
            case .end: return arbitration
            }
        }
        return arbitration
    }
}
