import NDCore

extension ExpandedPolicy {
    /// The listing of `ndbpf policy show --expanded`.
    public var listing: String {
        var blocks: [String] = scenario.map { ["scenario \($0.rawValue)"] } ?? []
        for provider in providers {
            blocks.append("provider \"\(provider.name)\" {\(provider.key)}")
        }
        for sublayer in sublayers.sorted(by: { $0.isAsked(before: $1) }) {
            blocks.append(
                "sublayer \"\(sublayer.name)\" {\(sublayer.key)}\n  weight    \(hex(UInt64(sublayer.weight), 4))")
        }
        for callout in callouts {
            blocks.append(
                "callout \"\(callout.name)\" {\(callout.key)}\n  layer     \(callout.layer.name) {\(callout.layer.guid)}"
                    + (callout.program.map { "\n  program   \($0.entry) of \($0.object)" } ?? ""))
        }
        for context in providerContexts {
            var lines = ["provider context \"\(context.name)\" {\(context.key)}"]
            lines.append("  type                FWPM_\(context.kind.rawValue)")
            if !context.flags.isEmpty {
                lines.append(
                    "  flags               " + context.flags.names.map { "IPSEC_POLICY_FLAG_\($0)" }.joined(separator: " | "))
            }
            lines.append("  proposals           \(context.proposals.joined(separator: ", "))")
            if let lifetime = context.lifetime { lines.append("  lifetime            \(DurationText.text(lifetime))") }
            if let extended = context.extendedMode {
                lines.append("  emPolicy            \(extended.methods.map(\.rawValue).joined(separator: ", "))")
            }
            blocks.append(lines.joined(separator: "\n"))
        }
        blocks += filters.map(listing(of:))
        return blocks.joined(separator: "\n\n") + "\n"
    }

    /// In the words of the WFP documentation, so that both can be held side by side.
    func listing(of filter: Filter) -> String {
        var lines = ["filter \(filter.id) \"\(filter.name)\" {\(filter.key)}"]
        lines.append("  layerKey            \(filter.layer.name) {\(filter.layer.guid)}")
        lines.append("  subLayerKey         \(sublayer(key: filter.sublayer)?.name ?? "?") {\(filter.sublayer)}")
        if filter.conditions.isEmpty { lines.append("  condition           empty, all traffic") }
        for condition in filter.conditions { lines.append("  condition           FWPM_CONDITION_\(condition.text)") }
        switch filter.action {
        case .permit: lines.append("  action.type         FWP_ACTION_PERMIT")
        case .block: lines.append("  action.type         FWP_ACTION_BLOCK")
        case .callout(let use, let key):
            lines.append("  action.type         FWP_ACTION_\(use.rawValue)")
            lines.append("  action.calloutKey   \(calloutName(key)) {\(key)}")
        }
        if filter.isHard { lines.append("  flags               FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT") }
        if let raw = filter.context.raw.name(for: filter.builtInCallout) {
            lines.append("  rawContext          \(raw.hasPrefix("0x") ? "" : "FWPM_CONTEXT_IPSEC_")\(raw)")
        }
        if let key = filter.context.providerKey {
            lines.append("  providerContextKey  \(providerContext(key: key).map { "\"\($0.name)\" " } ?? ""){\(key)}")
        }
        lines.append("  weight              \(filter.weightText) \(hex(filter.effectiveWeight, 16))")
        return lines.joined(separator: "\n")
    }

    func calloutName(_ key: GUID) -> String {
        BuiltInCallout.name(of: key) ?? callout(key: key).map { "\"\($0.name)\"" } ?? "?"
    }

    public func actionText(_ filter: Filter) -> String {
        let hard = filter.isHard ? " CLEAR_ACTION_RIGHT" : ""
        switch filter.action {
        case .permit: return "PERMIT" + hard
        case .block: return "BLOCK" + hard
        case .callout(let use, let key):
            return "\(use.rawValue) \(calloutName(key))" + hard
        }
    }
}

func hex(_ value: UInt64, _ digits: Int) -> String {
    let text = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: max(0, digits - text.count)) + text
}

extension Filter {
    var weightText: String {
        switch weight {
        case .explicit: "explicit"
        case .automatic: "automatic"
        case .range(let range):
            // The exemptions' range is ndbpf's own.
            range == .exemptions || range.name == "\(range.rawValue)" ? "range \(range.name)" : "FWPM_WEIGHT_RANGE_\(range.name)"
        }
    }
}
