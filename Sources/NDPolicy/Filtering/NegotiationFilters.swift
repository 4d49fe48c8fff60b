import NDCore

/// The filters of IKEEXT and IPSEC as a negotiation asks them. It knows two addresses, and its SAs carry
/// whatever runs between these: a filter's other conditions are not asked, and a block with such
/// conditions refuses only a part and is left out. Filters that name an AuthIP context speak to
/// another keying module.
public struct NegotiationFilters: Sendable {
    private let policy: ExpandedPolicy

    public init(_ policy: ExpandedPolicy) {
        var asked = policy
        asked.filters = policy.filters.compactMap { filter in
            guard filter.layer.kind == .ikeext || filter.layer.kind == .ipsec else { return nil }
            var plain = filter
            plain.conditions = filter.conditions.filter { [.localAddress, .remoteAddress].contains($0.field) }
            // Its weight must not change with its conditions.
            plain.weight = .explicit(filter.effectiveWeight)
            if filter.action == .block { return plain.conditions == filter.conditions ? plain : nil }
            return policy.context(of: filter)?.isIKE ?? false ? plain : nil
        }
        self.policy = asked
    }

    /// What main mode (IKEEXT) or quick mode (IPSEC) between two addresses goes by; nil: it is not spoken.
    public func context(_ layer: Layer.Kind, local: IPAddress, remote: IPAddress) -> ProviderContext? {
        policy.providerContext(layer, Packet(key: FlowKey(local: Endpoint(local, 0), remote: Endpoint(remote, 0), proto: 0)))
    }
}

extension ProviderContext {
    var isIKE: Bool { kind == .ikeMainMode || kind == .ikeQuickModeTransport }
}

extension ExpandedPolicy {
    /// Where IKE is spoken at all.
    var familiesWithIKE: Set<IPFamily> {
        Set(filters.filter { $0.layer.kind == .ikeext && context(of: $0)?.isIKE ?? false }.map(\.layer.family))
    }
}
