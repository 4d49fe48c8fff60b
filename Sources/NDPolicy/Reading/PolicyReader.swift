import NDCore
import Yams

extension Policy {
    /// Reads the text of a policy file. `file` names it in errors, and relative paths in it begin in its
    /// folder. `reading` looks into the programs of callouts.
    public static func parse(
        _ text: String, file: String, reading: ProgramReading = { _ in nil }
    ) throws(PolicyErrors) -> Policy {
        try parse(text, file: file, folder: folder(of: file), reading)
    }

    static func parse(
        _ text: String, file: String, folder: String, _ reading: ProgramReading
    ) throws(PolicyErrors) -> Policy {
        let findings = Findings(file: file)
        guard let root = YAMLText.root(of: text, findings) else { throw PolicyErrors(findings.errors) }
        let policy = PolicyReader(findings, folder: folder).read(root, programs: reading)
        guard findings.errors.isEmpty else { throw PolicyErrors(findings.errors) }
        return policy
    }

    /// Empty where the name has none.
    static func folder(of file: String) -> String {
        guard let slash = file.lastIndex(of: "/") else { return "" }
        return slash == file.startIndex ? "/" : String(file[..<slash])
    }
}

struct PolicyReader {
    let findings: Findings
    private let folder: String

    init(_ findings: Findings, folder: String) {
        self.findings = findings
        self.folder = folder
    }

    private enum Treatment: String, CaseIterable { case exempt, protect }

    func read(_ root: Node, programs reading: ProgramReading) -> Policy {
        let top = MappingReader(
            root, path: "",
            keys: [
                "version", "scenario", "interfaces", "exempt", "icmp", "icmp-errors", "dhcp", "keying", "authentication",
                "discovery", "engine", "metrics", "tables",
            ] + ObjectReader.keys, findings)
        if top.require("version", fix: "write `version: 1` at the top") {
            _ = top.integer("version", in: 1...1, default: 1)
        }
        var policy = Policy(scenario: nil)
        let names = Scenario.allCases.map(\.rawValue).joined(separator: ", ")
        if top.has("scenario") || (!top.has("filters") && top.require("scenario", fix: "one of: \(names); or write `filters`")) {
            policy.scenario = top.choice("scenario", default: Scenario.negotiationDiscovery)
        }
        policy.interfaces = top.interfaceNames("interfaces")
        policy.exemptions = (top.list("exempt", of: "exemptions") ?? []).compactMap(exemption)
        policy.exemptsICMP = top.choice("icmp", default: Treatment.exempt) == .exempt
        policy.exemptsICMPErrors = top.choice("icmp-errors", default: Treatment.protect) == .exempt
        policy.exemptsDHCP = top.choice("dhcp", default: policy.scenario == .secure ? Treatment.exempt : .protect) == .exempt
        policy.keying = keying(top)
        if policy.scenario == nil {
            for key in ["exempt", "icmp", "dhcp"] where top.has(key) {
                findings.add(
                    "value", at: top.place(key), "'\(key)' is a setting of scenarios, and this policy has none",
                    fix: "write a filter with action PERMIT and weight IKE_EXEMPTIONS")
            }
        }
        if ObjectReader.keys.contains(where: { top.has($0) }) {
            policy.objects = ObjectReader(findings, base: policy.scenarioFilters, folder: folder).read(top, programs: reading)
            if policy.scenario == nil {
                for (layer, kind) in [(Layer.Kind.ikeext, ProviderContext.Kind.ikeMainMode), (.ipsec, .ikeQuickModeTransport)] {
                    let offered = policy.objects.filters.filter { $0.layer.kind == layer }.compactMap { policy.objects.context(of: $0) }
                        .filter { $0.kind.layer == layer }
                    guard !offered.isEmpty, !offered.contains(where: { $0.kind == kind }) else { continue }
                    findings.add(
                        "unsupported", at: top.place("filters"),
                        "at \(layer.rawValue) only AuthIP is offered, which this version can't negotiate yet",
                        fix: "add an \(kind.rawValue) and a filter that names it")
                }
                policy.takeProposals()
            }
        }
        policy.preSharedKeys = preSharedKeys(top)
        policy.discovery = discovery(top)
        policy.engine = engine(top)
        policy.tables = tables(top)
        if let metrics = top.mapping("metrics", keys: ["listen"]) {
            let off = metrics.node("listen")?.scalar?.string == "none"
            policy.metrics.listen = off ? nil : metrics.endpoint("listen")
        }
        return policy
    }

    private func exemption(_ node: Node) -> Exemption? {
        let keys = ["remote", "local", "protocol", "local-port", "remote-port", "direction"]
        let item = MappingReader(node, path: "exempt", keys: keys, findings)
        guard case .mapping(let mapping) = node else { return nil }
        let remote = item.prefix("remote")
        let local = item.prefix("local")
        let result = Exemption(
            remote: remote.prefix, local: local.prefix, proto: item.proto("protocol"),
            localPorts: item.ports("local-port"), remotePorts: item.ports("remote-port"),
            direction: item.choice("direction", default: .both))
        if let remote = remote.prefix, let local = local.prefix,
            remote.address.isIPv4 != local.address.isIPv4
        {
            findings.add(
                "value", at: item.place("local"), "an exemption's local and remote are of different families",
                fix: "write one exemption for IPv4 and one for IPv6")
        }
        for key in ["local-port", "remote-port"] where item.has(key) {
            if let proto = result.proto, ![IPProtocol.tcp, IPProtocol.udp, 132].contains(proto) {
                findings.add(
                    "value", at: item.place(key), "\(IPProtocol.name(proto)) has no ports",
                    fix: "remove '\(key)', or use protocol tcp, udp or sctp")
            } else if !item.has("protocol") {
                findings.add(
                    "missing-key", at: item.place(key), "'\(key)' needs a protocol",
                    fix: "add `protocol: tcp` or `protocol: udp`")
            }
        }
        if mapping.isEmpty || (item.has("direction") && mapping.count == 1) {
            findings.add(
                "value", at: item.mark, "this exempts all traffic",
                fix: "add a condition, or `remote: any` if that is meant")
        }
        return result
    }

    private func preSharedKeys(_ top: MappingReader) -> [PreSharedKeyReference] {
        let example = "authentication: { pre-shared-keys: [ { remote: any, file: /etc/ndbpf/psk } ] }"
        guard top.require("authentication", fix: "write `\(example)`"),
            let section = top.mapping("authentication", keys: ["pre-shared-keys"]),
            section.require("pre-shared-keys", fix: "write `\(example)`"),
            let items = section.list("pre-shared-keys", of: "mappings")
        else { return [] }
        if items.isEmpty {
            findings.add("value", at: section.place("pre-shared-keys"), "no pre-shared key is given", fix: "write `\(example)`")
        }
        var result: [PreSharedKeyReference] = []
        for node in items {
            let item = MappingReader(node, path: "authentication.pre-shared-keys", keys: ["remote", "file"], findings)
            guard case .mapping = node, item.require("remote", fix: "a prefix, or `remote: any`"),
                item.require("file", fix: "the path of a file with mode 0600 that holds the key")
            else { continue }
            let (remote, valid) = item.prefix("remote")
            guard let file = item.text("file", of: "a path"), valid else { continue }
            guard file.hasPrefix("/"), !file.utf8.contains(0), file.utf8.count < 4096 else {
                findings.add(
                    "value", at: item.place("file"), "'file' must be an absolute path, found '\(clipped(file))'",
                    fix: "write the whole path: /etc/ndbpf/psk")
                continue
            }
            if result.contains(where: { $0.remote == remote }) {
                findings.add(
                    "value", at: item.place("remote"), "two keys for remote \(remote.map { "\($0)" } ?? "any")",
                    fix: "keep one of them")
            }
            result.append(PreSharedKeyReference(remote: remote, file: file))
        }
        return result
    }

    private func discovery(_ top: MappingReader) -> Policy.Discovery {
        var result = Policy.Discovery()
        guard let section = top.mapping("discovery", keys: ["negative-cache", "budget", "clear-grace"])
        else { return result }
        if let cache = section.mapping("negative-cache", keys: ["first", "factor", "most"]) {
            result.negativeCacheFirst = cache.span("first", from: "1s", to: "24h", default: result.negativeCacheFirst)
            result.negativeCacheFactor = cache.number("factor", in: 1...10, default: result.negativeCacheFactor)
            result.negativeCacheMost = cache.span("most", from: "1s", to: "24h", default: result.negativeCacheMost)
            if result.negativeCacheMost < result.negativeCacheFirst {
                findings.add(
                    "range", at: cache.place("most"), "'most' is shorter than 'first'",
                    fix: "'most' is the longest back-off: make it at least 'first'")
            }
        }
        if let budget = section.mapping("budget", keys: ["concurrent", "per-second", "burst", "pause"]) {
            result.concurrent = budget.integer("concurrent", in: 1...65536, default: result.concurrent)
            result.perSecond = budget.integer("per-second", in: 1...100_000, default: result.perSecond)
            result.burst = budget.integer("burst", in: 1...100_000, default: result.burst)
            result.pause = budget.span("pause", from: "100ms", to: "1h", default: result.pause)
        }
        result.clearGrace = section.span("clear-grace", from: "0s", to: "60s", default: result.clearGrace)
        return result
    }

    private func tables(_ top: MappingReader) -> Policy.Tables {
        var result = Policy.Tables()
        guard let section = top.mapping("tables", keys: ["flows", "secured", "peers"]) else { return result }
        func size(_ key: String, _ range: ClosedRange<Int>) -> UInt32? {
            section.has(key) ? UInt32(clamping: section.integer(key, in: range, default: range.lowerBound)) : nil
        }
        result.flows = size("flows", 1024...16_777_216)
        result.secured = size("secured", 64...16_777_216)
        result.peers = size("peers", 64...1_048_576)
        return result
    }

    private func engine(_ top: MappingReader) -> Policy.Engine {
        var result = Policy.Engine()
        guard let section = top.mapping("engine", keys: ["kind", "encapsulation", "aead"]) else { return result }
        result.kind = section.choice("kind", default: result.kind)
        result.encapsulation = section.choice("encapsulation", default: result.encapsulation)
        result.aead = section.choice("aead", default: result.aead)
        return result
    }
}
