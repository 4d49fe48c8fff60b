import NDCore

/// What filters may point to, by key.
struct References {
    private let providers: Set<GUID>
    private let sublayers: Set<GUID>
    private let callouts: [GUID: Callout]
    private let contexts: [GUID: ProviderContext]

    init(_ policy: ExpandedPolicy) {
        providers = Set((Provider.builtIn + policy.providers).map(\.key))
        sublayers = Set(policy.allSublayers.map(\.key))
        callouts = Dictionary(policy.callouts.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
        contexts = Dictionary(policy.providerContexts.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
    }

    func owner(_ provider: GUID?, _ kind: Problem.Kind, _ at: Int) -> [Problem] {
        guard let provider, !providers.contains(provider) else { return [] }
        return [
            Problem(kind, at, "provider", "not-found", "there is no provider {\(provider)}", hint: "add the provider, or name none")
        ]
    }

    func problems(_ filter: Filter, _ at: Int) -> [Problem] {
        var found = owner(filter.provider, .filter, at)
        func add(_ part: String, _ item: Int?, _ code: String, _ message: String, _ hint: String?) {
            found.append(Problem(.filter, at, part, item: item, code, message, hint: hint))
        }
        if !sublayers.contains(filter.sublayer) {
            add("sublayer", nil, "not-found", "there is no sublayer {\(filter.sublayer)}", "add the sublayer, or use FWPM_SUBLAYER_UNIVERSAL")
        }
        switch filter.action {
        case .permit, .block:
            if filter.layer.kind.isDiscard {
                add(
                    "action", nil, "wrong-type", "nothing is decided at a DISCARD layer: it shows what was dropped",
                    "use CALLOUT_INSPECTION, or decide at \(filter.layer.kind.shown?.rawValue ?? "another layer")")
            }
            if case .raw = filter.context {
                add("raw-context", nil, "wrong-type", "a raw context is for a callout, and the action is \(filter.action == .permit ? "PERMIT" : "BLOCK")", "remove it")
            }
        case .callout(let use, let key): calloutProblems(filter, use, key, add)
        }
        if let key = filter.context.providerKey { contextProblems(filter, key, add) }
        if filter.conditions.count > ExpandedPolicy.mostConditions {
            add("conditions", nil, "too-many", "\(filter.conditions.count) conditions, the limit is \(ExpandedPolicy.mostConditions)", nil)
        }
        for (item, condition) in filter.conditions.enumerated() {
            guard let (code, message, hint) = condition.problem(at: filter.layer) else { continue }
            add("conditions", item, code, message, hint)
        }
        return found
    }



    private func calloutProblems(
        _ filter: Filter, _ use: CalloutUse, _ key: GUID,
        _ add: (String, Int?, String, String, String?) -> Void
    ) {
        if let (builtIn, family) = BuiltInCallout.find(key) {
            if !builtIn.layers.contains(filter.layer.kind) || family != filter.layer.family {
                let layers = builtIn.layers.map { Layer($0, family).shortName }.joined(separator: ", ")
                add("callout", nil, "wrong-type", "\(builtIn.name(family)) works at \(layers), not at \(filter.layer.shortName)", "name the callout of this layer, or move the filter")
            }
            if use != .terminating {
                add("action", nil, "wrong-type", "\(builtIn.name(family)) always decides, so \(use.rawValue) can't ask it", "write action CALLOUT_TERMINATING")
            }
            return
        }
        guard let callout = callouts[key] else {
            return add("callout", nil, "not-found", "there is no callout {\(key)}", "add the callout, or name a built-in one such as FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4")
        }
        if callout.layer != filter.layer {
            add("callout", nil, "wrong-type", "callout \"\(callout.name)\" was added for \(callout.layer.shortName), not for \(filter.layer.shortName)", "add it for this layer too, with a key of its own")
        }
        if filter.layer.kind.isDiscard, use != .inspection {
            add("action", nil, "wrong-type", "nothing is decided at a DISCARD layer: it shows what was dropped", "write action CALLOUT_INSPECTION")
        }
    }

    private func contextProblems(
        _ filter: Filter, _ key: GUID,
        _ add: (String, Int?, String, String, String?) -> Void
    ) {
        guard let context = contexts[key] else {
            return add("provider-context", nil, "not-found", "there is no provider context {\(key)}", "add the provider context")
        }
        if context.kind.layer != filter.layer.kind {
            add(
                "provider-context", nil, "wrong-type",
                "provider context \"\(context.name)\" is an \(context.kind.rawValue), which belongs at \(context.kind.layer.rawValue)",
                "name a context of the layer's type, or move the filter to \(context.kind.layer.rawValue)_\(filter.layer.family.suffix)")
        }
    }
}

extension Condition {
    /// Why a filter of the layer can't have it.
    func problem(at layer: Layer) -> (code: String, message: String, hint: String?)? {
        guard layer.kind.fields.contains(field) else {
            return (
                "wrong-type", "\(field.rawValue) is not known at \(layer.kind.rawValue)",
                "known there: \(layer.kind.fields.map(\.rawValue).joined(separator: ", "))"
            )
        }
        guard field.matches.contains(match) else {
            return (
                "wrong-type", "\(field.rawValue) can't be asked for \(match.rawValue)",
                "possible: \(field.matches.map(\.rawValue).joined(separator: ", "))"
            )
        }
        let isFlagMatch = [.flagsAllSet, .flagsAnySet, .flagsNoneSet].contains(match)
        let fits: Bool
        switch value {
        case .number(let number):
            fits = field.largest.map { number <= $0 } ?? false && match != .range
        case .numbers(let range):
            fits = field.largest.map { range.upperBound <= $0 } ?? false && match == .range
        case .address(let address):
            if field.isAddress, let wrong = otherFamily(address, layer) { return wrong }
            fits = field.isAddress && ![.range, .prefix, .notPrefix].contains(match)
        case .addresses(let range):
            if field.isAddress, let wrong = otherFamily(range.lowerBound, layer) ?? otherFamily(range.upperBound, layer) { return wrong }
            fits = field.isAddress && match == .range
        case .prefix(let prefix):
            if field.isAddress, let wrong = otherFamily(prefix.address, layer) { return wrong }
            fits = field.isAddress && (match == .prefix || match == .notPrefix)
        case .flags(let flags): fits = field == .flags && !flags.isEmpty
        case .name(let name):
            if field.isIdentity, name.utf8.count > MachineNumbers.longest {
                return ("value", "the identity '\(clipped(name))' is longer than \(MachineNumbers.longest) bytes", "match the peer's addresses with IP_REMOTE_ADDRESS")
            }
            // RFC 7296 §3.5. And other characters have several forms, which are one name to a reader and not to BPF.
            if field == .remoteMachine, !name.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }) {
                return ("value", "the identity '\(clipped(name))' has characters other than printable ASCII", "write a host name in its ASCII form (xn--…)")
            }
            fits = (field == .interface || field.isIdentity) && !name.isEmpty && !isFlagMatch
        }
        if fits { return nil }
        return (
            "value", "\(field.rawValue) can't be compared with '\(clipped(valueText))' by \(match.rawValue)",
            field.largest.map { "a number from 0 to \($0)\(match == .range ? ", or two" : "")" } ?? "another value, or another match type"
        )
    }

    private func otherFamily(_ address: IPAddress, _ layer: Layer) -> (code: String, message: String, hint: String?)? {
        guard address.isIPv4 != (layer.family == .v4) else { return nil }
        return (
            "wrong-type", "\(address) is no \(layer.family == .v4 ? "IPv4" : "IPv6") address, so it never occurs at \(layer.shortName)",
            "write a filter for each family"
        )
    }
}
