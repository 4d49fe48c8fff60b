import NDCore

extension ExpandedPolicy {
    /// The listing of `ndbpf policy show --expanded`.
    public var listing: String {
        var lines = ["scenario \(scenario.rawValue)", ""]
        for context in providerContexts {
            let flags = context.flags.names.isEmpty ? "" : "  [\(context.flags.names.joined(separator: " "))]"
            lines.append("context \(context.kind.rawValue) #\(context.id)\(flags)")
            lines.append("  proposals \(context.proposals.joined(separator: ", "))")
        }
        for filter in filters {
            lines += ["", "filter \(filter.id) \"\(filter.name)\""]
            lines.append("  layer     \(filter.layer.name) {\(filter.layer.guid)}")
            lines.append("  sublayer  \(filter.sublayer.name) (weight \(hex(UInt64(filter.sublayer.weight), 4)))")
            let range = filter.weight.range.map { " (range \($0.name))" } ?? ""
            lines.append("  weight    \(hex(filter.weight.value, 16))\(range)")
            lines.append("  when      \(filter.conditionText)")
            lines.append("  action    \(filter.actionText)")
            if let context = filter.providerContext {
                lines.append("  context   \(context.kind.rawValue) #\(context.id)")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

func hex(_ value: UInt64, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
}

extension Filter {
    /// "IP_PROTOCOL = udp and IP_LOCAL_PORT in 53, 5000-5010".
    public var conditionText: String {
        guard !conditions.isEmpty else { return "always" }
        return conditionGroups.map { field, group in
            "\(field.rawValue) \(group.count == 1 ? "=" : "in") \(group.map(\.value).joined(separator: ", "))"
        }.joined(separator: " and ")
    }

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

    public var actionText: String {
        switch action {
        case .permit: "PERMIT"
        case .block: "BLOCK"
        case .callout(let callout, let context):
            "CALLOUT_TERMINATING \(callout.name(layer.family)) {\(callout.guid(layer.family))}"
                + (context.name(for: callout).map { " \($0)" } ?? "")
        }
    }
}

/// The JSON form; names and GUIDs instead of this module's cases, so the form is stable.
extension ExpandedPolicy: Encodable {
    private enum Keys: String, CodingKey { case scenario, providerContexts, filters }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Keys.self)
        try container.encode(scenario, forKey: .scenario)
        try container.encode(providerContexts, forKey: .providerContexts)
        try container.encode(filters, forKey: .filters)
    }
}

extension ProviderContext: Encodable {
    private enum Keys: String, CodingKey { case kind, id, flags, proposals }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Keys.self)
        try container.encode(kind.rawValue, forKey: .kind)
        try container.encode(id, forKey: .id)
        try container.encode(flags.names, forKey: .flags)
        try container.encode(proposals, forKey: .proposals)
    }
}

extension Filter: Encodable {
    private enum Keys: String, CodingKey {
        case id, name, layer, layerKey, sublayer, sublayerWeight, weight, conditions, action, callout, calloutKey
        case rawContext, providerContext
    }

    private struct Term: Encodable {
        var field: String
        var value: String
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Keys.self)
        try container.encode(id, forKey: .id)
        try container.encode(name, forKey: .name)
        try container.encode(layer.name, forKey: .layer)
        try container.encode(layer.guid, forKey: .layerKey)
        try container.encode(sublayer.name, forKey: .sublayer)
        try container.encode(sublayer.weight, forKey: .sublayerWeight)
        try container.encode(hex(weight.value, 16), forKey: .weight)
        try container.encode(conditions.map { Term(field: $0.field.rawValue, value: $0.value) }, forKey: .conditions)
        switch action {
        case .permit: try container.encode("PERMIT", forKey: .action)
        case .block: try container.encode("BLOCK", forKey: .action)
        case .callout(let callout, let context):
            try container.encode("CALLOUT_TERMINATING", forKey: .action)
            try container.encode(callout.name(layer.family), forKey: .callout)
            try container.encode(callout.guid(layer.family), forKey: .calloutKey)
            try container.encodeIfPresent(context.name(for: callout), forKey: .rawContext)
        }
        try container.encodeIfPresent(providerContext?.kind.rawValue, forKey: .providerContext)
    }
}
