import NDCore
import NDPolicy
import Yams

/// Everything that is wrong with a scenario file, at once.
public struct ScenarioErrors: Error, Sendable, CustomStringConvertible {
    public let errors: [NDError]
    public var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// Reads a scenario file: docs/scenarios.md.
public enum ScenarioFile {
    public static func load(path: String, conditions: RunConditions) throws -> Scenario {
        let bytes = try RegularFile.read(path, most: YAMLText.mostBytes, code: "scenario").bytes
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw NDError("scenario.syntax", "the scenario is not UTF-8 text", context: path, hint: "save it as UTF-8")
        }
        return try parse(text, file: path, conditions: conditions)
    }

    public static func parse(_ text: String, file: String, conditions: RunConditions) throws(ScenarioErrors) -> Scenario {
        let findings = Findings(file: file, subject: "scenario")
        guard let root = YAMLText.root(of: text, findings) else { throw ScenarioErrors(errors: findings.errors) }
        let scenario = ScenarioReader(findings: findings, file: file, conditions: conditions).read(root)
        guard findings.errors.isEmpty else { throw ScenarioErrors(errors: findings.errors) }
        return scenario
    }
}

private struct ScenarioReader {
    let findings: Findings
    let file: String
    let conditions: RunConditions

    func read(_ root: Node) -> Scenario {
        let top = MappingReader(
            root, path: "",
            keys: ["title", "demo", "families", "engines", "variables", "guest", "cases", "mtu", "nat", "hosts", "steps"],
            findings)
        let base = file.split(separator: "/").last.map(String.init) ?? file
        let name = base.hasSuffix(".yaml") ? String(base.dropLast(5)) : base
        var scenario = Scenario(name: name, title: name, chapter: nil, cases: [])
        if top.require("title", fix: "a sentence: `title: A clear host is refused silently`") {
            scenario.title = top.text("title", of: "a sentence") ?? name
        }
        if let demo = top.mapping("demo", keys: ["chapter", "heading"]),
            demo.require("chapter", fix: "`chapter: 1`"), demo.require("heading", fix: "`heading: what happens`")
        {
            scenario.chapter = Scenario.Chapter(
                number: demo.integer("chapter", in: 1...99, default: 1), heading: demo.text("heading", of: "a sentence") ?? "")
        }
        let families = top.words("families", Lab.Family.self) ?? Lab.Family.allCases
        let engines = top.words("engines", RunConditions.Engine.self)
        let cases = cases(top)
        guard top.require("hosts", fix: "`hosts: { alpha: { ndbpf: {} }, gamma: {} }`"),
            top.require("steps", fix: "`steps:` and one `- connect: { ... }` a line"),
            let hosts = top.node("hosts"), let steps = top.list("steps", of: "steps")
        else { return scenario }
        if let engines, !engines.contains(conditions.engine) { return scenario }
        for (caseName, variables) in cases {
            var one = Scenario.Case(name: caseName, mtu: 1500, hosts: [], runs: [])
            for family in families {
                let substitution = Substitution(
                    values: variables.merging(["family": family.rawValue, "engine": conditions.engine.rawValue]) { $1 },
                    findings: findings)
                if let node = top.node("mtu").map({ substitution.apply($0) }) {
                    let wrapped = MappingReader(Node.mapping(.init([(Node("mtu"), node)])), path: "", keys: ["mtu"], findings)
                    one.mtu = wrapped.integer("mtu", in: 1280...9000, default: 1500)
                }
                if let node = top.node("nat").map({ substitution.apply($0) }) { one.nat = nat(node) }
                one.hosts = HostReader(findings: findings, conditions: conditions).hosts(substitution.apply(hosts))
                let reader = StepReader(
                    findings: findings, file: base, hosts: one.hosts.map(\.name), conditions: conditions)
                one.runs.append(
                    Scenario.Run(family: family, steps: reader.steps(steps.map { substitution.apply($0) })))
            }
            scenario.cases.append(one)
        }
        let played = scenario.cases.flatMap { $0.runs.flatMap(\.steps) }
        if findings.errors.isEmpty, !played.contains(where: \.claimsSomething) {
            findings.add("no-claim", at: top.place("steps"), "the scenario claims nothing", fix: "give what it shows a `claim: ...`")
        }
        return scenario
    }

    private func nat(_ node: Node) -> Lab.NAT {
        let reader = MappingReader(node, path: "nat", keys: ["hosts", "ports"], findings)
        enum Ports: String, CaseIterable { case kept, changed }
        return Lab.NAT(
            hosts: reader.texts("hosts", of: "hosts"), changesPorts: reader.choice("ports", default: Ports.kept) == .changed)
    }

    /// The variables of each case: the file's, then the guest's, then the case's, then the caller's.
    private func cases(_ top: MappingReader) -> [(name: String, variables: [String: String])] {
        let given = variables(top.node("variables"), path: "variables", known: nil)
        let guest = variables(top.node("guest"), path: "guest", known: given)
        var base = conditions.guest ? given.merging(guest) { $1 } : given
        let overrides = conditions.variables.filter { given[$0.key] != nil }
        guard let items = top.list("cases", of: "cases", most: 32) else {
            base.merge(overrides) { $1 }
            return [("", base)]
        }
        var result: [(name: String, variables: [String: String])] = []
        for item in items {
            var values = variables(item, path: "cases", known: given.merging(["name": "", "guest": ""]) { $1 })
            guard let name = values.removeValue(forKey: "name") else {
                findings.add("missing-key", at: item.mark, "a case needs a name", fix: "`{ name: ESP in UDP, ... }`")
                continue
            }
            // What an emulated machine would take minutes for and shows nothing more.
            if values.removeValue(forKey: "guest") == "false", conditions.guest { continue }
            result.append((name, base.merging(values) { $1 }.merging(overrides) { $1 }))
        }
        return result
    }

    private func variables(_ node: Node?, path: String, known: [String: String]?) -> [String: String] {
        guard let node else { return [:] }
        guard case .mapping(let mapping) = node else {
            findings.add("type", at: node.mark, "'\(path)' must be a mapping, found a \(kind(of: node))", fix: "`\(path): { megabytes: 200 }`")
            return [:]
        }
        var result: [String: String] = [:]
        for (key, value) in mapping {
            guard let name = key.scalar?.string, let text = scalarText(value, "\(path).\(name)", of: "one value", findings)
            else { continue }
            if let known, known[name] == nil {
                findings.add(
                    "unknown-key", at: key.mark, "'\(clipped(name))' is no variable of this file",
                    fix: nearest(to: name, among: Array(known.keys)).map { "did you mean '\($0)'?" }
                        ?? "give it a value under `variables` first")
                continue
            }
            result[name] = text
        }
        return result
    }
}

extension MappingReader {
    /// Words of a choice, as a list.
    func words<T: RawRepresentable & CaseIterable>(_ key: String, _: T.Type) -> [T]? where T.RawValue == String {
        guard let items = list(key, of: "words") else { return nil }
        return items.compactMap { item in
            guard let word = scalarText(item, full(key), of: "a word", findings) else { return nil }
            if let value = T(rawValue: word) { return value }
            refuse(word, at: item.mark, key: full(key), allowed: T.allCases.map(\.rawValue), findings)
            return nil
        }
    }

    /// A choice that may be absent.
    func maybe<T: RawRepresentable & CaseIterable>(_ key: String, _: T.Type) -> T? where T.RawValue == String {
        guard let fallback = T.allCases.first, has(key) else { return nil }
        return choice(key, default: fallback)
    }

    func maybeFlag(_ key: String) -> Bool? { has(key) ? flag(key, default: false) : nil }

    /// Lines or words, as a list or as one value.
    func texts(_ key: String, of what: String) -> [String] {
        guard let node = node(key) else { return [] }
        guard case .sequence = node else { return text(key, of: what).map { [$0] } ?? [] }
        return (list(key, of: what) ?? []).compactMap { scalarText($0, full(key), of: what, findings) }
    }
}
