import NDCore

/// What the filter engine holds: the objects of one policy, by key. Built-in providers, sublayers and
/// callouts are always there and not listed.
public struct ExpandedPolicy: Hashable, Sendable {
    /// The scenario that it was made from.
    public var scenario: Scenario?
    public var providers: [Provider]
    public var sublayers: [Sublayer]
    public var callouts: [Callout]
    public var providerContexts: [ProviderContext]
    public var filters: [Filter]

    public init(
        scenario: Scenario? = nil, providers: [Provider] = [], sublayers: [Sublayer] = [], callouts: [Callout] = [],
        providerContexts: [ProviderContext] = [], filters: [Filter] = []
    ) {
        self.scenario = scenario
        self.providers = providers
        self.sublayers = sublayers
        self.callouts = callouts
        self.providerContexts = providerContexts
        self.filters = filters
    }

    public func filter(id: UInt32) -> Filter? { filters.first { $0.id == id } }
    public func filter(key: GUID) -> Filter? { filters.first { $0.key == key } }
    public func callout(key: GUID) -> Callout? { callouts.first { $0.key == key } }
    public func providerContext(key: GUID) -> ProviderContext? { providerContexts.first { $0.key == key } }

    public func provider(key: GUID) -> Provider? { (Provider.builtIn + providers).first { $0.key == key } }

    public func sublayer(key: GUID) -> Sublayer? { (Sublayer.builtIn + sublayers).first { $0.key == key } }

    /// From heavy to light.
    public var allSublayers: [Sublayer] { (Sublayer.builtIn + sublayers).sorted { $0.isAsked(before: $1) } }

    public func context(of filter: Filter) -> ProviderContext? {
        filter.context.providerKey.flatMap { providerContext(key: $0) }
    }

    /// The filters of a layer in the order they are asked: heavier sublayer, heavier filter, older filter. One
    /// whose sublayer doesn't exist is asked last.
    public func filters(at layer: Layer) -> [(sublayer: Sublayer?, filter: Filter)] {
        let sublayers = allSublayers
        let ranks = Dictionary(
            sublayers.enumerated().map { ($0.element.key, $0.offset) }, uniquingKeysWith: { first, _ in first })
        return filters.filter { $0.layer == layer }
            .map { (rank: ranks[$0.sublayer] ?? sublayers.count, weight: $0.effectiveWeight, filter: $0) }
            .sorted { a, b in
                if a.rank != b.rank { return a.rank < b.rank }
                return a.weight != b.weight ? a.weight > b.weight : a.filter.id < b.filter.id
            }
            .map { (sublayers.indices.contains($0.rank) ? sublayers[$0.rank] : nil, $0.filter) }
    }
}
