import NDCore

extension Policy {
    /// The policy as a file in the full WFP form, which reads back as the same filters and settings.
    public var wfpText: String {
        var text = YAMLLines()
        text.add("version: 1")
        if !interfaces.isEmpty { text.add("interfaces: [\(interfaces.map(YAMLLines.word).joined(separator: ", "))]") }
        expanded.write(to: &text)
        text.add("keying:")
        text.add("  modules: [\(keying.modules.map(\.rawValue).joined(separator: ", "))]")
        let contexts = expanded.providerContexts.map(\.kind)
        let main = contexts.contains(.ikeMainMode) ? "" : "proposals: [\(keying.mainMode.map(\.description).joined(separator: ", "))], "
        text.add("  main-mode: { \(main)lifetime: \(DurationText.text(keying.mainModeLifetime)) }")
        let quick =
            contexts.contains(.ikeQuickModeTransport)
            ? "" : "proposals: [\(keying.quickMode.map(\.description).joined(separator: ", "))], "
        text.add(
            "  quick-mode: { \(quick)pfs: \(keying.quickModeGroup?.rawValue ?? "none"), lifetime: \(DurationText.text(keying.quickModeLifetime)), extended-sequence-numbers: \(keying.extendedSequenceNumbers) }")
        text.add(
            "  retransmission: { first: \(DurationText.text(keying.retransmitFirst)), tries: \(keying.retransmitTries) }")
        text.add("authentication:")
        text.add("  pre-shared-keys:")
        for key in preSharedKeys {
            text.add("    - { remote: \(key.remote.map { YAMLLines.word("\($0)") } ?? "any"), file: \(YAMLLines.word(key.file)) }")
        }
        text.add("discovery:")
        text.add(
            "  negative-cache: { first: \(DurationText.text(discovery.negativeCacheFirst)), factor: \(discovery.negativeCacheFactor), most: \(DurationText.text(discovery.negativeCacheMost)) }")
        text.add(
            "  budget: { concurrent: \(discovery.concurrent), per-second: \(discovery.perSecond), burst: \(discovery.burst), pause: \(DurationText.text(discovery.pause)) }")
        text.add("  clear-grace: \(discovery.clearGrace.nanoseconds == 0 ? "0s" : DurationText.text(discovery.clearGrace))")
        text.add(
            "engine: { kind: \(engine.kind.rawValue), encapsulation: \(engine.encapsulation.rawValue), aead: \(engine.aead.rawValue) }")
        text.add("metrics: { listen: \(metrics.listen.map { YAMLLines.word("\($0)") } ?? "none") }")
        return text.text
    }
}

extension ExpandedPolicy {
    func write(to text: inout YAMLLines) {
        text.list("providers", providers) { provider, item in
            item.add("name", YAMLLines.word(provider.name))
            item.key(provider.key, unless: Provider(name: provider.name).key)
            if !provider.description.isEmpty { item.add("description", YAMLLines.word(provider.description)) }
        }
        text.list("provider-contexts", providerContexts) { context, item in
            item.add("name", YAMLLines.word(context.name))
            item.key(context.key, unless: ProviderContext(name: context.name, kind: context.kind, proposals: []).key)
            owner(context.provider, &item)
            item.add("type", context.kind.rawValue)
            if !context.flags.isEmpty { item.add("flags", "[\(context.flags.names.joined(separator: ", "))]") }
            item.add("proposals", "[\(context.proposals.joined(separator: ", "))]")
            if let lifetime = context.lifetime { item.add("lifetime", DurationText.text(lifetime)) }
            if let extended = context.extendedMode {
                item.add("extended-mode", "[\(extended.methods.map(\.rawValue).joined(separator: ", "))]")
            }
        }
        text.list("sublayers", sublayers) { sublayer, item in
            item.add("name", YAMLLines.word(sublayer.name))
            item.key(sublayer.key, unless: Sublayer(name: sublayer.name, weight: 0).key)
            owner(sublayer.provider, &item)
            item.add("weight", hex(UInt64(sublayer.weight), 4))
        }
        text.list("callouts", callouts) { callout, item in
            item.add("name", YAMLLines.word(callout.name))
            item.key(callout.key, unless: Callout(name: callout.name, layer: callout.layer).key)
            owner(callout.provider, &item)
            item.add("layer", callout.layer.shortName)
            if let program = callout.program {
                item.add("program", "{ object: \(YAMLLines.word(program.object)), entry: \(YAMLLines.word(program.entry)) }")
            }
        }
        if filters.isEmpty { text.add("filters: []") }
        text.list("filters", filters, write)
    }

    private func owner(_ provider: GUID?, _ item: inout YAMLLines.Item) {
        guard let provider else { return }
        item.add("provider", YAMLLines.word(self.provider(key: provider)?.name ?? "\(provider)"))
    }

    private func write(_ filter: Filter, _ item: inout YAMLLines.Item) {
        item.add("name", YAMLLines.word(filter.name))
        item.key(filter.key, unless: Filter(name: filter.name, layer: filter.layer, action: .permit).key)
        owner(filter.provider, &item)
        item.add("layer", filter.layer.shortName)
        if filter.sublayer != Sublayer.universal.key {
            item.add("sublayer", YAMLLines.word(sublayer(key: filter.sublayer)?.shortName ?? "\(filter.sublayer)"))
        }
        switch filter.weight {
        case .automatic: break
        case .explicit(let value): item.add("weight", hex(value, 16))
        case .range(let range): item.add("weight", FilterWeight.Range.names.contains(range.name) ? range.name : "range \(range.name)")
        }
        if !filter.conditions.isEmpty {
            item.list("conditions", filter.conditions.map { "{ \($0.fields) }" })
        }
        switch filter.action {
        case .permit: item.add("action", "PERMIT")
        case .block: item.add("action", "BLOCK")
        case .callout(let use, let key):
            item.add("action", use.rawValue)
            let named = callout(key: key).map { one in callouts.filter { $0.name == one.name }.count == 1 ? one.name : "\(key)" }
            item.add("callout", BuiltInCallout.name(of: key) ?? named.map(YAMLLines.word) ?? "\(key)")
        }
        switch filter.context {
        case .none: break
        case .raw(let raw): item.add("raw-context", raw.name(for: filter.builtInCallout) ?? "0")
        case .provider(let key): item.add("provider-context", YAMLLines.word(providerContext(key: key)?.name ?? "\(key)"))
        }
        if filter.isHard { item.add("flags", "[CLEAR_ACTION_RIGHT]") }
    }
}

extension Condition {
    /// The match type is left out where the value tells it.
    fileprivate var fields: String {
        let told: Match =
            switch value {
            case .number, .address, .name: .equal
            case .numbers, .addresses: .range
            case .prefix: .prefix
            case .flags: .flagsAllSet
            }
        let shown: String
        if case .flags(let flags) = value {
            shown = "[\(flags.names.joined(separator: ", "))]"
        } else {
            shown = YAMLLines.word(valueText)
        }
        return "field: \(field.rawValue), \(match == told ? "" : "match: \(match.rawValue), ")value: \(shown)"
    }
}

/// YAML written line by line.
struct YAMLLines {
    private(set) var text = ""

    mutating func add(_ line: String) { text += line + "\n" }

    mutating func list<T>(_ key: String, _ objects: [T], _ body: (T, inout Item) -> Void) {
        guard !objects.isEmpty else { return }
        add("\(key):")
        for object in objects {
            var item = Item()
            body(object, &item)
            text += item.text
        }
    }

    struct Item {
        fileprivate var text = ""

        mutating func add(_ key: String, _ value: String) {
            text += "\(text.isEmpty ? "  - " : "    ")\(key): \(value)\n"
        }

        mutating func key(_ key: GUID, unless usual: GUID) {
            if key != usual { add("key", "\(key)") }
        }

        mutating func list(_ key: String, _ values: [String]) {
            text += "    \(key):\n"
            for value in values { text += "      - \(value)\n" }
        }
    }

    /// Plain where no reader can take it for something else, quoted otherwise. '&' and '*' are escaped, since
    /// a policy has no anchors.
    static func word(_ text: String) -> String {
        let plain = text.unicodeScalars.allSatisfy {
            $0.isASCII && ($0.properties.isAlphabetic || $0.properties.numericType != nil || "_./ -".unicodeScalars.contains($0))
        }
        let reserved = ["true", "false", "null", "yes", "no", "on", "off", "any", "none"].contains(text.lowercased())
        let letterFirst = text.unicodeScalars.first.map { $0.isASCII && ($0.properties.isAlphabetic || $0 == "/" || $0.properties.numericType != nil) } ?? false
        if plain, letterFirst, !text.hasSuffix(" "), !reserved || text == "any" { return text }
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "&": quoted += "\\x26"
            case "*": quoted += "\\x2a"
            case let scalar where scalar.value < 0x20 || scalar.value == 0x7f:
                let hex = String(scalar.value, radix: 16)
                quoted += "\\x" + (hex.count < 2 ? "0" : "") + hex
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
