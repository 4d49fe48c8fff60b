import NDCore
import Yams

/// One item of `filters`.
struct FilterReader {
    static let keys = [
        "name", "key", "layer", "sublayer", "weight", "conditions", "action", "callout", "raw-context", "provider-context",
        "flags", "provider",
    ]

    let objects: ObjectReader
    private var findings: Findings { objects.findings }
    private let sublayers: [(name: String, key: GUID)]
    private let contexts: [(name: String, key: GUID)]

    init(_ objects: ObjectReader) {
        self.objects = objects
        let sublayers = Sublayer.builtIn + objects.base.sublayers + objects.objects.sublayers
        self.sublayers = sublayers.map { ($0.shortName, $0.key) } + Sublayer.builtIn.map { ($0.name, $0.key) }
        contexts = (objects.base.providerContexts + objects.objects.providerContexts).map { ($0.name, $0.key) }
    }

    func read(_ item: MappingReader) -> Filter? {
        let before = findings.errors.count
        let name = objects.name(item)
        let key = objects.key(item)
        let layer = objects.layer(item)
        let provider = objects.owner(item)
        let sublayer = item.has("sublayer") ? objects.find(item, "sublayer", "sublayer", sublayers) : Sublayer.universal.key
        let weight = weight(item)
        let flags = flags(item)
        let action = action(item, layer)
        guard let layer else { return nil }
        let reader = ConditionReader(findings: findings, layer: layer)
        let conditions = reader.read(item)
        let context = context(item, action)
        guard findings.errors.count == before, let name, let key, let provider, let sublayer, let weight, let flags, let action,
            let context
        else { return nil }
        return Filter(
            key: key.given, name: name, provider: provider.given, layer: layer, sublayer: sublayer, weight: weight,
            conditions: conditions, action: action, context: context, flags: flags)
    }

    private func weight(_ item: MappingReader) -> FilterWeight? {
        guard let node = item.node("weight") else { return .automatic }
        guard let word = item.text("weight", of: "a weight") else { return nil }
        if word == "automatic" { return .automatic }
        if let value = ObjectReader.number(word) { return .explicit(value) }
        let names = FilterWeight.Range.names
        let range = word.hasPrefix("range ") ? String(word.dropFirst(6)) : word
        let short = range.hasPrefix("FWPM_WEIGHT_RANGE_") ? String(range.dropFirst(18)) : range
        if let found = FilterWeight.Range(name: short) { return .range(found) }
        if word.hasPrefix("range "), let number = UInt8(range), let found = FilterWeight.Range(rawValue: number) { return .range(found) }
        let near = names.min { editDistance(short, $0) < editDistance(short, $1) }.filter { editDistance(short, $0) <= 4 }
        findings.add(
            "weight", at: node.mark, "'\(item.full("weight"))' is '\(clipped(word))', which is no weight",
            fix: near.map { "did you mean '\($0)'?" }
                ?? "automatic, a number up to 0xffffffffffffffff, \(names.joined(separator: ", ")), or \"range 0\" to \"range 15\"")
        return nil
    }

    private func flags(_ item: MappingReader) -> Filter.Flags? {
        guard item.has("flags") else { return [] }
        guard let words = objects.words(item, "flags", of: "flags") else { return nil }
        for word in words where word != "CLEAR_ACTION_RIGHT" && word != "FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT" {
            refuse(word, at: item.node("flags")?.mark, key: item.full("flags"), allowed: ["CLEAR_ACTION_RIGHT"], findings)
            return nil
        }
        return words.isEmpty ? [] : .clearActionRight
    }

    private func action(_ item: MappingReader, _ layer: Layer?) -> FilterAction? {
        let names = ["PERMIT", "BLOCK"] + CalloutUse.allCases.map(\.rawValue)
        guard item.require("action", fix: "one of: \(names.joined(separator: ", "))"), let node = item.node("action"),
            let given = item.text("action", of: "an action")
        else { return nil }
        let word = given.hasPrefix("FWP_ACTION_") ? String(given.dropFirst(11)) : given
        guard names.contains(word) else {
            let near = names.min { editDistance(word, $0) < editDistance(word, $1) }.filter { editDistance(word, $0) <= 4 }
            findings.add(
                "value", at: node.mark, "there is no action '\(clipped(given))'",
                fix: (near.map { "did you mean '\($0)'? " } ?? "") + "allowed: \(names.joined(separator: ", "))")
            return nil
        }
        guard let use = CalloutUse(rawValue: word) else {
            if item.has("callout") {
                findings.add(
                    "value", at: item.place("callout"), "a callout is named, and the action is \(word)",
                    fix: "remove it, or write action CALLOUT_TERMINATING")
                return nil
            }
            return word == "PERMIT" ? .permit : .block
        }
        guard item.require("callout", fix: "name the callout that \(word) asks"), let layer else { return nil }
        let builtIn: [(name: String, key: GUID)] = BuiltInCallout.allCases.flatMap { callout in
            [(callout.rawValue, callout.key(layer.family))] + IPFamily.allCases.map { (callout.name($0), callout.key($0)) }
        }
        let all = objects.base.callouts + objects.objects.callouts
        // The same name may stand at several layers; this filter's is meant.
        let own = all.filter { $0.layer == layer } + all.filter { $0.layer != layer }
        return objects.find(item, "callout", "callout", own.map { ($0.name, $0.key) } + builtIn).map { .callout(use, $0) }
    }

    private func context(_ item: MappingReader, _ action: FilterAction?) -> FilterContext? {
        if item.has("raw-context"), item.has("provider-context") {
            findings.add(
                "value", at: item.place("provider-context"), "a filter has a raw context or a provider context, not both",
                fix: "WFP keeps them in one place; remove one")
            return nil
        }
        if item.has("provider-context") {
            return objects.find(item, "provider-context", "provider context", contexts).map { .provider($0) }
        }
        guard let node = item.node("raw-context") else { return FilterContext.none }
        guard let given = item.text("raw-context", of: "a name or number") else { return nil }
        var callout: BuiltInCallout?
        if case .callout(_, let key)? = action { callout = BuiltInCallout.find(key)?.callout }
        let word = given.hasPrefix("FWPM_CONTEXT_IPSEC_") ? String(given.dropFirst(19)) : given
        if let raw = RawContext(word, for: callout) { return .raw(raw) }
        let names = RawContext.names(for: callout)
        findings.add(
            "value", at: node.mark, "'\(clipped(given))' is no raw context\(callout.map { " of \($0.rawValue)" } ?? "")",
            fix: names.isEmpty ? "a number, decimal or 0x" : "one of: \(names.joined(separator: ", ")), or a number")
        return nil
    }
}

/// `conditions` of a filter: { field, match, value }.
struct ConditionReader {
    let findings: Findings
    let layer: Layer

    func read(_ item: MappingReader) -> [Condition] {
        var negative: Set<Condition.Field> = []
        return (item.list("conditions", of: "mappings", most: ExpandedPolicy.mostConditions) ?? []).compactMap { node in
            let one = MappingReader(node, path: "conditions", keys: ["field", "match", "value"], findings)
            guard one.isMapping, let condition = condition(one) else { return nil }
            if condition.match.isNegative, !negative.insert(condition.field).inserted {
                findings.add(
                    "always-true", at: node.mark,
                    "two \(condition.field.rawValue) conditions that exclude one value each match everything: conditions on one field are alternatives",
                    fix: "let a heavier filter take these values out")
                return nil
            }
            return condition
        }
    }

    private func condition(_ one: MappingReader) -> Condition? {
        let names = Condition.Field.allCases.map(\.rawValue)
        guard one.require("field", fix: "such as IP_REMOTE_ADDRESS"), let fieldNode = one.node("field"),
            let word = one.text("field", of: "a field")
        else { return nil }
        guard let field = Condition.Field(rawValue: word.hasPrefix("FWPM_CONDITION_") ? String(word.dropFirst(15)) : word) else {
            let near = names.min { editDistance(word, $0) < editDistance(word, $1) }.filter { editDistance(word, $0) <= 5 }
            findings.add(
                "value", at: fieldNode.mark, "there is no field '\(clipped(word))'",
                fix: near.map { "did you mean '\($0)'?" } ?? "known: \(names.joined(separator: ", "))")
            return nil
        }
        guard one.require("value", fix: "what \(field.rawValue) is compared with"), let match = match(one, field) else { return nil }
        return value(one, field, match.given)
    }

    private func match(_ one: MappingReader, _ field: Condition.Field) -> ObjectReader.Optionally<Condition.Match>? {
        guard let node = one.node("match") else { return .init(given: nil) }
        guard let given = one.text("match", of: "a match type") else { return nil }
        let word = given.hasPrefix("FWP_MATCH_") ? String(given.dropFirst(10)) : given
        if let match = Condition.Match(rawValue: word) { return .init(given: match) }
        let names = field.matches.map(\.rawValue)
        let near = names.min { editDistance(word, $0) < editDistance(word, $1) }.filter { editDistance(word, $0) <= 3 }
        findings.add(
            "value", at: node.mark, "there is no match type '\(clipped(given))'",
            fix: near.map { "did you mean '\($0)'?" } ?? "\(field.rawValue) has: \(names.joined(separator: ", "))")
        return nil
    }

    private func value(_ one: MappingReader, _ field: Condition.Field, _ match: Condition.Match?) -> Condition? {
        guard let node = one.node("value") else { return nil }
        if field == .flags { return flags(one, match ?? .flagsAllSet) }
        guard let word = one.text("value", of: "a value") else { return nil }
        if field == .interface || field.isIdentity { return Condition(field, match ?? .equal, .name(word)) }
        if field.isAddress {
            if let made = address(word, field, match) { return made }
            if word.contains("/"), let prefix = IPPrefix(word) {
                findings.add(
                    "host-bits", at: node.mark, "'\(clipped(word))' has bits beyond its length",
                    fix: "write \(prefix), or the address alone for the one host")
                return nil
            }
            findings.add(
                "address", at: node.mark, "'\(clipped(word))' is no address, range or prefix",
                fix: "write 192.0.2.1, 192.0.2.0/24, 192.0.2.1-192.0.2.9, or the same of IPv6")
            return nil
        }
        if let number = number(word, field) { return Condition(field, match ?? .equal, .number(number)) }
        let parts = word.split(separator: "-", omittingEmptySubsequences: false)
        if parts.count == 2, let low = number(String(parts[0]), field), let high = number(String(parts[1]), field), low <= high {
            return Condition(field, match ?? .range, .numbers(low...high))
        }
        findings.add("value", at: node.mark, "'\(clipped(word))' is no value of \(field.rawValue)", fix: Self.example(field))
        return nil
    }

    private static func example(_ field: Condition.Field) -> String {
        switch field {
        case .proto: "a name such as tcp or icmpv6, or a number from 0 to 255"
        case .localAddressType, .destinationAddressType: "one of: \(NLAddressType.allCases.map(\.name).joined(separator: ", "))"
        case .direction: "outbound or inbound"
        default: "a number, or \"low-high\" with the lower one first"
        }
    }

    private func number(_ word: String, _ field: Condition.Field) -> UInt64? {
        switch field {
        case .proto: IPProtocol.number(word).map { UInt64($0) } ?? ObjectReader.number(word)
        case .localAddressType, .destinationAddressType: NLAddressType(name: word).map { UInt64($0.rawValue) }
        case .direction: PacketDirection.allCases.first { "\($0)" == word }.map { UInt64($0.rawValue) }
        default: ObjectReader.number(word)
        }
    }

    private func address(_ word: String, _ field: Condition.Field, _ match: Condition.Match?) -> Condition? {
        if let address = IPAddress(word) {
            return Condition(field, match ?? .equal, .address(address))
        }
        if word.contains("/"), let prefix = IPPrefix(word), word.split(separator: "/").first.flatMap({ IPAddress(String($0)) }) == prefix.address {
            return Condition(field, match ?? .prefix, .prefix(prefix))
        }
        let parts = word.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let low = IPAddress(String(parts[0])), let high = IPAddress(String(parts[1])), low <= high,
            low.isIPv4 == high.isIPv4
        else { return nil }
        return Condition(field, match ?? .range, .addresses(low...high))
    }

    private func flags(_ one: MappingReader, _ match: Condition.Match) -> Condition? {
        guard let node = one.node("value") else { return nil }
        var items = [node]
        if case .sequence(let sequence) = node { items = Array(sequence.prefix(32)) }
        var flags: ConditionFlags = []
        for item in items {
            guard let given = scalarText(item, "conditions.value", of: "a flag", findings) else { return nil }
            let word = given.hasPrefix("FWP_CONDITION_FLAG_") ? String(given.dropFirst(19)) : given
            guard let flag = ConditionFlags(name: word) else {
                let names = ConditionFlags.named.map(\.name)
                let near = names.min { editDistance(word, $0) < editDistance(word, $1) }.filter { editDistance(word, $0) <= 4 }
                findings.add(
                    "value", at: item.mark, "there is no flag '\(clipped(given))'",
                    fix: near.map { "did you mean '\($0)'?" } ?? "known: \(names.joined(separator: ", "))")
                return nil
            }
            flags.formUnion(flag)
        }
        return .flags(match, flags)
    }
}
