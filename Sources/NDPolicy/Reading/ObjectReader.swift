import NDCore
import Yams

/// The full WFP form: providers, provider contexts, sublayers, callouts and filters as a policy writes them.
final class ObjectReader {
    static let keys = ["providers", "provider-contexts", "sublayers", "callouts", "filters"]

    let findings: Findings
    /// What the scenario brings; its objects may be named.
    let base: ExpandedPolicy
    /// Of the policy file: where its relative paths begin.
    private let folder: String
    private(set) var objects = ExpandedPolicy()
    /// Where each object stands, for problems that only the whole shows.
    private var places: [Problem.Kind: [MappingReader]] = [:]

    init(_ findings: Findings, base: ExpandedPolicy, folder: String) {
        self.findings = findings
        self.base = base
        self.folder = folder
    }

    func read(_ top: MappingReader, programs reading: ProgramReading) -> ExpandedPolicy {
        each(top, "providers", .provider, ["name", "key", "description"], provider)
        each(top, "provider-contexts", .providerContext, Self.contextKeys, context)
        each(top, "sublayers", .sublayer, ["name", "key", "weight", "provider"], sublayer)
        callouts(top)
        let filters = FilterReader(self)
        each(top, "filters", .filter, FilterReader.keys, most: ExpandedPolicy.mostFilters) { item in
            guard let filter = filters.read(item) else { return false }
            self.objects.filters.append(filter)
            return true
        }
        reportProblems(reading)
        return objects
    }

    private static let contextKeys = ["name", "key", "type", "flags", "proposals", "lifetime", "extended-mode", "provider"]

    /// An item with several layers stands for a callout at each.
    private func callouts(_ top: MappingReader) {
        let reader = CalloutReader(objects: self, folder: folder)
        for node in top.list("callouts", of: "mappings", most: ExpandedPolicy.mostOthers) ?? [] {
            let item = MappingReader(node, path: "callouts", keys: CalloutReader.keys, findings)
            guard item.isMapping else { continue }
            let read = reader.read(item)
            objects.callouts += read
            places[.callout, default: []] += read.map { _ in item }
        }
    }

    private func each(
        _ top: MappingReader, _ key: String, _ kind: Problem.Kind, _ keys: [String], most: Int = ExpandedPolicy.mostOthers,
        _ body: (MappingReader) -> Bool
    ) {
        for node in top.list(key, of: "mappings", most: most) ?? [] {
            let item = MappingReader(node, path: key, keys: keys, findings)
            if item.isMapping, body(item) { places[kind, default: []].append(item) }
        }
    }

    /// What is read without a fault and yet would not be committed.
    private func reportProblems(_ reading: ProgramReading) {
        guard findings.errors.isEmpty else { return }
        let whole = base.adding(objects)
        let offsets: [Problem.Kind: Int] = [
            .filter: base.filters.count, .providerContext: base.providerContexts.count, .sublayer: base.sublayers.count,
            .callout: base.callouts.count, .provider: base.providers.count,
        ]
        for problem in whole.problems(reading: reading) {
            let index = problem.index - (offsets[problem.kind] ?? 0)
            let error = whole.error(problem)
            guard let found = places[problem.kind], found.indices.contains(index) else {
                findings.add(problem.code, at: nil, error.message, fix: error.hint)
                continue
            }
            let part = problem.part == "layer" && found[index].has("layers") ? "layers" : problem.part
            var mark = found[index].place(part)
            if let item = problem.item, case .sequence(let items)? = found[index].node(problem.part), items.indices.contains(item) {
                mark = items[item].mark ?? mark
            }
            findings.add(problem.code, at: mark, error.message, fix: error.hint)
        }
    }
}

extension ObjectReader {
    private func provider(_ item: MappingReader) -> Bool {
        guard let name = name(item) else { return false }
        let description = item.has("description") ? item.text("description", of: "a text") ?? "" : ""
        guard let key = key(item) else { return false }
        objects.providers.append(Provider(key: key.given, name: name, description: description))
        return true
    }

    private func sublayer(_ item: MappingReader) -> Bool {
        guard let name = name(item), let key = key(item),
            item.require("weight", fix: "a number from 0 to 65535; UNIVERSAL has 32768")
        else { return false }
        let weight = number(item, "weight", most: 65535, fix: "a number from 0 to 65535; UNIVERSAL has 32768")
        guard let weight, let provider = owner(item) else { return false }
        objects.sublayers.append(
            Sublayer(key: key.given, name: name, weight: UInt16(truncatingIfNeeded: weight), provider: provider.given))
        return true
    }

    private func context(_ item: MappingReader) -> Bool {
        let kinds = ProviderContext.Kind.allCases.map(\.rawValue)
        guard let name = name(item), let key = key(item), item.require("type", fix: "one of: \(kinds.joined(separator: ", "))"),
            let word = item.text("type", of: "a type"), let provider = owner(item)
        else { return false }
        guard let kind = ProviderContext.Kind(rawValue: word.hasPrefix("FWPM_") ? String(word.dropFirst(5)) : word) else {
            refuse(word, at: item.node("type")?.mark, key: item.full("type"), allowed: kinds, findings)
            return false
        }
        guard item.require("proposals", fix: "name at least one"),
            let proposals = words(item, "proposals", of: "proposals"), let flags = flags(item)
        else { return false }
        var made = ProviderContext(
            key: key.given, name: name, provider: provider.given, kind: kind, flags: flags, proposals: proposals)
        if item.has("lifetime") { made.lifetime = item.span("lifetime", from: "10s", to: "168h", default: .seconds(3600)) }
        if item.has("extended-mode") {
            guard let methods = extendedMode(item) else { return false }
            made.extendedMode = .init(methods: methods)
        }
        objects.providerContexts.append(made)
        return true
    }

    private func flags(_ item: MappingReader) -> ProviderContext.Flags? {
        guard item.has("flags") else { return [] }
        guard let names = words(item, "flags", of: "flags") else { return nil }
        var flags: ProviderContext.Flags = []
        for name in names {
            guard let known = ProviderContext.Flags.named.first(where: { $0.name == name || "IPSEC_POLICY_FLAG_\($0.name)" == name })
            else {
                refuse(name, at: item.node("flags")?.mark, key: item.full("flags"), allowed: ProviderContext.Flags.named.map(\.name), findings)
                return nil
            }
            flags.insert(known.flag)
        }
        return flags
    }

    private func extendedMode(_ item: MappingReader) -> [ProviderContext.ExtendedMode.Method]? {
        guard let names = words(item, "extended-mode", of: "methods") else { return nil }
        var methods: [ProviderContext.ExtendedMode.Method] = []
        for name in names {
            guard let method = ProviderContext.ExtendedMode.Method(rawValue: name) else {
                refuse(
                    name, at: item.node("extended-mode")?.mark, key: item.full("extended-mode"),
                    allowed: ProviderContext.ExtendedMode.Method.allCases.map(\.rawValue), findings)
                return nil
            }
            methods.append(method)
        }
        return methods
    }
}

/// What several objects have.
extension ObjectReader {
    /// A value that may be left out: nil only where something wrong was given.
    struct Optionally<Value> { var given: Value? }

    func name(_ item: MappingReader) -> String? {
        guard item.require("name", fix: "give it a name; messages and listings use it") else { return nil }
        return item.text("name", of: "a name")
    }

    func key(_ item: MappingReader) -> Optionally<GUID>? {
        guard let node = item.node("key") else { return Optionally(given: nil) }
        guard let word = item.text("key", of: "a GUID") else { return nil }
        guard let key = GUID(word) else {
            findings.add(
                "guid", at: node.mark, "'\(item.full("key"))' is '\(clipped(word))', which is no GUID",
                fix: "8-4-4-4-12 hexadecimal digits, or leave it out: the name gives one")
            return nil
        }
        return Optionally(given: key)
    }

    func owner(_ item: MappingReader) -> Optionally<GUID>? {
        guard item.has("provider") else { return Optionally(given: nil) }
        let known = Provider.builtIn + base.providers + objects.providers
        return find(item, "provider", "provider", known.map { ($0.name, $0.key) }).map { Optionally(given: $0) }
    }

    func layer(_ item: MappingReader) -> Layer? {
        guard item.require("layer", fix: "such as OUTBOUND_TRANSPORT_V4"), let node = item.node("layer") else { return nil }
        return layer(node, item.full("layer"))
    }

    func layer(_ node: Node, _ key: String) -> Layer? {
        guard let word = scalarText(node, key, of: "a layer", findings) else { return nil }
        if let layer = Layer(word) { return layer }
        let names = Layer.all.map(\.shortName)
        let short = word.hasPrefix("FWPM_LAYER_") ? String(word.dropFirst(11)) : word
        if let kind = Layer.Kind(rawValue: short) {
            let both = IPFamily.allCases.map { Layer(kind, $0).shortName }
            findings.add(
                "value", at: node.mark, "'\(key)' is '\(word)' without its family",
                fix: "write \(both.joined(separator: " or "))")
            return nil
        }
        let near = names.min { editDistance(short, $0) < editDistance(short, $1) }.filter { editDistance(short, $0) <= 6 }
        findings.add(
            "value", at: node.mark, "there is no layer '\(clipped(word))'",
            fix: near.map { "did you mean '\($0)'?" } ?? "known: \(names.joined(separator: ", "))")
        return nil
    }

    /// The key of a named object; reports when there is none.
    func find(_ item: MappingReader, _ key: String, _ what: String, _ known: [(name: String, key: GUID)]) -> GUID? {
        guard let word = item.text(key, of: "a name or GUID") else { return nil }
        if let found = known.first(where: { $0.name == word }) { return found.key }
        if let guid = GUID(word) { return guid }
        let names = known.map(\.name)
        let near = names.min { editDistance(word, $0) < editDistance(word, $1) }.filter {
            editDistance(word, $0) <= max(2, word.count / 3)
        }
        findings.add(
            "not-found", at: item.node(key)?.mark, "there is no \(what) '\(clipped(word))'",
            fix: near.map { "did you mean '\($0)'?" } ?? (names.isEmpty ? "add it to the policy" : "known: \(names.joined(separator: ", "))"))
        return nil
    }

    /// Decimal or 0x.
    func number(_ item: MappingReader, _ key: String, most: UInt64, fix: String) -> UInt64? {
        guard let node = item.node(key), let word = item.text(key, of: "a number") else { return nil }
        if let value = Self.number(word), value <= most { return value }
        findings.add(Self.number(word) == nil ? "type" : "range", at: node.mark, "'\(item.full(key))' is '\(clipped(word))'", fix: fix)
        return nil
    }

    static func number(_ word: String) -> UInt64? {
        guard word.allSatisfy({ $0.isASCII && ($0.isHexDigit || $0 == "x") }) else { return nil }
        return word.hasPrefix("0x") ? UInt64(word.dropFirst(2), radix: 16) : UInt64(word)
    }

    /// One word, or a list of them.
    func words(_ item: MappingReader, _ key: String, of what: String) -> [String]? {
        guard let node = item.node(key) else { return nil }
        guard case .sequence = node else { return item.text(key, of: "a list of \(what)").map { [$0] } }
        let items = item.list(key, of: what, most: 64) ?? []
        let words = items.compactMap { scalarText($0, item.full(key), of: "a word", findings) }
        return words.count == items.count ? words : nil
    }
}

extension Optional {
    func filter(_ holds: (Wrapped) -> Bool) -> Wrapped? { flatMap { holds($0) ? $0 : nil } }
}

extension ExpandedPolicy {
    /// This and more objects, the filters numbered on.
    func adding(_ more: ExpandedPolicy) -> ExpandedPolicy {
        var sum = self
        sum.providers += more.providers
        sum.sublayers += more.sublayers
        sum.callouts += more.callouts
        sum.providerContexts += more.providerContexts
        var last = filters.map(\.id).max() ?? 0
        for filter in more.filters {
            last &+= 1
            sum.filters.append(filter)
            sum.filters[sum.filters.count - 1].id = last
        }
        return sum
    }
}
