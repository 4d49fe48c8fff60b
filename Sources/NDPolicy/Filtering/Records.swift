import NDCore

/// The JSON form; names and GUIDs instead of this module's cases, so the form is stable.
extension ExpandedPolicy: Encodable {
    private enum Keys: String, CodingKey { case scenario, providers, sublayers, callouts, providerContexts, filters }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Keys.self)
        try container.encodeIfPresent(scenario, forKey: .scenario)
        if !providers.isEmpty { try container.encode(providers, forKey: .providers) }
        if !sublayers.isEmpty { try container.encode(sublayers, forKey: .sublayers) }
        if !callouts.isEmpty { try container.encode(callouts, forKey: .callouts) }
        try container.encode(providerContexts, forKey: .providerContexts)
        try container.encode(filters.map { FilterRecord($0, in: self) }, forKey: .filters)
    }
}

extension Callout: Encodable {
    private enum Keys: String, CodingKey { case key, name, layer, layerKey, provider, program }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Keys.self)
        try container.encode(key, forKey: .key)
        try container.encode(name, forKey: .name)
        try container.encode(layer.name, forKey: .layer)
        try container.encode(layer.key, forKey: .layerKey)
        try container.encodeIfPresent(provider, forKey: .provider)
        try container.encodeIfPresent(program, forKey: .program)
    }
}

extension ProviderContext: Encodable {
    private enum Keys: String, CodingKey { case key, name, kind, id, flags, proposals, lifetime, extendedMode }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Keys.self)
        try container.encode(key, forKey: .key)
        try container.encode(name, forKey: .name)
        try container.encode(kind.rawValue, forKey: .kind)
        try container.encode(id, forKey: .id)
        try container.encode(flags.names, forKey: .flags)
        try container.encode(proposals, forKey: .proposals)
        try container.encodeIfPresent(lifetime.map(DurationText.text), forKey: .lifetime)
        try container.encodeIfPresent(extendedMode?.methods.map(\.rawValue), forKey: .extendedMode)
    }
}

/// A filter with the names of what it points to.
public struct FilterRecord: Encodable, Hashable, Sendable {
    public struct Term: Encodable, Hashable, Sendable {
        public var field: String
        public var match: String
        public var value: String
    }

    public var id: UInt32
    public var key: GUID
    public var name: String
    public var layer: String
    public var layerKey: GUID
    public var sublayer: String
    public var sublayerKey: GUID
    public var sublayerWeight: UInt16
    public var weight: String
    public var weightForm: String
    public var conditions: [Term]
    public var action: String
    public var isHard: Bool
    public var callout: String?
    public var calloutKey: GUID?
    public var program: CalloutProgram?
    public var rawContext: String?
    public var providerContext: String?
    public var providerContextKey: GUID?

    public init(_ filter: Filter, in policy: ExpandedPolicy) {
        id = filter.id
        key = filter.key
        name = filter.name
        layer = filter.layer.name
        layerKey = filter.layer.key
        let found = policy.sublayer(key: filter.sublayer)
        sublayer = found?.name ?? "?"
        sublayerKey = filter.sublayer
        sublayerWeight = found?.weight ?? 0
        weight = hex(filter.effectiveWeight, 16)
        weightForm = filter.weightText
        conditions = filter.conditions.map { Term(field: $0.field.rawValue, match: $0.match.rawValue, value: $0.valueText) }
        isHard = filter.isHard
        switch filter.action {
        case .permit: action = "PERMIT"
        case .block: action = "BLOCK"
        case .callout(let use, let key):
            action = use.rawValue
            callout = BuiltInCallout.name(of: key) ?? policy.callout(key: key)?.name
            calloutKey = key
            program = policy.callout(key: key)?.program
            rawContext = filter.context.raw.name(for: filter.builtInCallout)
        }
        providerContextKey = filter.context.providerKey
        providerContext = policy.context(of: filter)?.name
    }
}
