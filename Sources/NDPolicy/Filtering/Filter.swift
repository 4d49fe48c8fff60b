import NDCore

public enum FilterAction: Hashable, Sendable {
    case permit
    case block
    /// The filter asks a callout, by its key.
    case callout(CalloutUse, GUID)

    public static func callout(_ callout: BuiltInCallout, _ family: IPFamily) -> FilterAction {
        .callout(.terminating, callout.key(family))
    }
}

/// What a callout may answer (FWP_ACTION_CALLOUT_*).
public enum CalloutUse: String, Hashable, Sendable, CaseIterable {
    /// "always returns block or permit"
    case terminating = "CALLOUT_TERMINATING"
    /// "never returns block or permit"
    case inspection = "CALLOUT_INSPECTION"
    /// "may return block or permit"
    case unknown = "CALLOUT_UNKNOWN"
}

/// FWPM_FILTER0 has one place for both.
public enum FilterContext: Hashable, Sendable {
    case none
    case raw(RawContext)
    case provider(GUID)

    public var providerKey: GUID? {
        if case .provider(let key) = self { return key }
        return nil
    }

    public var raw: RawContext {
        if case .raw(let context) = self { return context }
        return .none
    }
}

public struct Filter: Hashable, Sendable {
    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT: the action is hard.
        public static let clearActionRight = Flags(rawValue: 0x8)
    }

    /// Given by the engine in the order of adding; 0 before that.
    public var id: UInt32
    public var key: GUID
    public var name: String
    public var provider: GUID?
    public var layer: Layer
    public var sublayer: GUID
    public var weight: FilterWeight
    public var conditions: [Condition]
    public var action: FilterAction
    public var context: FilterContext
    public var flags: Flags

    public init(
        id: UInt32 = 0, key: GUID? = nil, name: String, provider: GUID? = nil, layer: Layer,
        sublayer: GUID = Sublayer.universal.key, weight: FilterWeight = .automatic, conditions: [Condition] = [],
        action: FilterAction, context: FilterContext = .none, flags: Flags = []
    ) {
        self.id = id
        self.key = key ?? GUID(named: "\(layer.shortName)/\(name)", kind: "filter")
        self.name = name
        self.provider = provider
        self.layer = layer
        self.sublayer = sublayer
        self.weight = weight
        self.conditions = conditions
        self.action = action
        self.context = context
        self.flags = flags
    }

    /// The built-in callout that it asks.
    public var builtInCallout: BuiltInCallout? {
        if case .callout(_, let key) = action { return BuiltInCallout.find(key)?.callout }
        return nil
    }

    public var isHard: Bool { flags.contains(.clearActionRight) }

    /// Conditions by field, in the order of the fields' first appearance.
    var conditionGroups: [(field: Condition.Field, conditions: [Condition])] {
        var groups: [(field: Condition.Field, conditions: [Condition])] = []
        for condition in conditions {
            if let at = groups.firstIndex(where: { $0.field == condition.field }) {
                groups[at].conditions.append(condition)
            } else {
                groups.append((condition.field, [condition]))
            }
        }
        return groups
    }

    /// "IP_PROTOCOL = udp and IP_LOCAL_PORT = 53, 5000-5010".
    public var conditionText: String {
        guard !conditions.isEmpty else { return "always" }
        return conditionGroups.map { field, group in
            let positive = [Condition.Match.equal, .range, .prefix]
            let listed = group.allSatisfy { positive.contains($0.match) }
            guard listed, group.count > 1 else { return group.map(\.text).joined(separator: " or ") }
            return "\(field.rawValue) in \(group.map(\.valueText).joined(separator: ", "))"
        }.joined(separator: " and ")
    }
}
