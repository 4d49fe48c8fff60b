import NDCore
import NDPolicy
import Yams

/// The steps of a scenario. Names of hosts, captures and connections must be known where they are
/// used, so that a slip of the pen is an error of the file and not of the run.
final class StepReader {
    let findings: Findings
    private let file: String
    private let hosts: [String]
    private let conditions: RunConditions
    private var captures: [String] = []
    private(set) var connections: [String] = []

    init(findings: Findings, file: String, hosts: [String], conditions: RunConditions) {
        self.findings = findings
        self.file = file
        self.hosts = hosts
        self.conditions = conditions
    }

    static let actions = [
        "capture", "forget", "connect", "echo", "close", "transfer", "datagram", "scatter", "ping", "forge",
        "start", "stop", "kill", "unload", "ndbpf", "shell", "metrics", "compare-connects", "wait", "together",
        "again", "packets", "drops",
    ]

    func steps(_ nodes: [Node]) -> [Step] { nodes.compactMap(step) }

    private func step(_ node: Node) -> Step? {
        guard case .mapping(let mapping) = node, mapping.count == 1, let (key, value) = mapping.first,
            let name = key.scalar?.string
        else {
            findings.add(
                "step", at: node.mark, "a step is one action with what belongs to it, found a \(kind(of: node))",
                fix: "`- echo: { over: first }`; the next action is the next `- `")
            return nil
        }
        guard Self.actions.contains(name) else {
            findings.add(
                "unknown-key", at: key.mark, "there is no action '\(clipped(name))'",
                fix: nearest(to: name, among: Self.actions).map { "did you mean '\($0)'?" }
                    ?? "known: \(Self.actions.joined(separator: ", "))")
            return nil
        }
        let place = "\(file):\(key.mark?.line ?? 0)"
        if let scalar = simple(name, value) { return scalar.map { Step(action: $0, claim: nil, place: place) } }
        guard let keys = Self.keys[name] else { return nil }
        let body = MappingReader(value, path: name, keys: keys + ["claim", "engines", "guest-factor"], findings)
        guard body.isMapping else { return nil }
        let factor = body.number("guest-factor", in: 1...100, default: 1)
        let action = action(name, body, conditions.guest ? factor : 1)
        let claim = body.text("claim", of: "a sentence")
        if Self.mustClaim.contains(name), claim == nil {
            findings.add("missing-key", at: key.mark, "'\(name)' needs a claim", fix: "`claim: what this shows`")
        }
        if let engines = body.words("engines", RunConditions.Engine.self), !engines.contains(conditions.engine) {
            return nil
        }
        return action.map { Step(action: $0, claim: claim, place: place) }
    }

    /// Actions that only prove something.
    private static let mustClaim: Set<String> = ["packets", "drops", "compare-connects"]

    /// What belongs to each action, besides `claim`, `engines` and `guest-factor`.
    static let keys: [String: [String]] = [
        "capture": ["on", "as"],
        "connect": ["from", "to", "as", "timeout", "within", "refused"],
        "echo": ["over", "text", "times", "within", "answered"],
        "transfer": ["from", "to", "as", "megabytes", "longest-stall"],
        "datagram": ["from", "to", "sizes", "text", "back", "timeout", "answered", "source-port"],
        "scatter": ["from", "to", "count", "port", "source-port"],
        "ping": ["from", "to", "count"],
        "forge": ["from", "into", "port", "flags", "payload"],
        "ndbpf": ["on", "run", "status", "contains", "finds"],
        "shell": ["on", "run", "status", "contains"],
        "metrics": ["on", "contains", "show"],
        "compare-connects": ["guarded", "plain", "to", "broken", "pairs", "samples"],
        "again": ["times", "for", "every", "steps"],
        "packets": ["in", "where", "count", "distinct", "repeated", "within", "of", "growing-gaps"],
        "drops": ["on", "reason", "count"],
    ]

    /// Actions of one value. The outer nil: not one of them.
    private func simple(_ name: String, _ value: Node) -> Step.Action?? {
        func word() -> String? { scalarText(value, name, of: "one value", findings) }
        switch name {
        case "wait":
            guard let text = word() else { return .some(nil) }
            guard let span = DurationText.parse(text), span <= .seconds(60) else {
                findings.add("duration", at: value.mark, "can't wait '\(clipped(text))'", fix: "at most 60s: 300ms, 2s")
                return .some(nil)
            }
            return .some(.wait(span))
        case "forget":
            return .some(word().flatMap { known($0, captures, "capture", value.mark) }.map { .forget(capture: $0) })
        case "close":
            return .some(word().flatMap { known($0, connections, "connection", value.mark) }.map { .close(connection: $0) })
        case "start", "stop", "kill", "unload":
            guard let action = Step.DaemonAction(rawValue: name) else { return .some(nil) }
            return .some(word().flatMap { known($0, hosts, "host", value.mark) }.map { .daemon(host: $0, action) })
        case "together":
            guard case .sequence(let parts) = value else {
                findings.add("type", at: value.mark, "'together' must be a list of lists of steps", fix: "`- together:` and `- - connect: ...` a side")
                return .some(nil)
            }
            return .some(
                .together(
                    parts.map { part in
                        guard case .sequence(let nodes) = part else {
                            findings.add("type", at: part.mark, "each part of 'together' is a list of steps", fix: "`- - connect: ...`")
                            return []
                        }
                        return steps(Array(nodes))
                    }))
        default:
            return nil
        }
    }

    private func action(_ name: String, _ body: MappingReader, _ factor: Double) -> Step.Action? {
        switch name {
        case "capture":
            guard let on = host(body, "on"), let capture = define(body, "as", &captures) else { return nil }
            return .capture(on: on, name: capture)
        case "connect":
            guard let from = host(body, "from"), let to = host(body, "to") else { return nil }
            let refused = body.flag("refused", default: false)
            guard let connection = refused ? "" : define(body, "as", &connections) else { return nil }
            return .connect(
                Step.Connect(
                    from: from, to: to, name: connection,
                    timeout: body.span("timeout", from: "10ms", to: "60s", default: .seconds(10)).times(refused ? 1 : factor),
                    within: span(body, "within", factor), refused: refused))
        case "echo":
            guard let over = use(body, "over", connections, "connection") else { return nil }
            return .echo(
                Step.Echo(
                    connection: over, text: body.text("text", of: "what to send"), times: body.integer("times", in: 1...100_000, default: 1),
                    within: span(body, "within", factor) ?? .seconds(10), answered: body.flag("answered", default: true)))
        case "transfer":
            guard let from = host(body, "from"), let to = host(body, "to"),
                let connection = define(body, "as", &connections)
            else { return nil }
            return .transfer(
                Step.Transfer(
                    from: from, to: to, name: connection,
                    megabytes: body.integer("megabytes", in: 1...10_000, default: 1),
                    longestStall: span(body, "longest-stall", factor)))
        case "datagram":
            guard let from = host(body, "from"), let to = host(body, "to") else { return nil }
            return .datagram(
                Step.Datagram(
                    from: from, to: to, sizes: body.has("text") ? [] : sizes(body), text: body.text("text", of: "what to send"),
                    back: body.text("back", of: "what comes back"),
                    timeout: body.span("timeout", from: "10ms", to: "60s", default: .seconds(3)).times(factor),
                    answered: body.flag("answered", default: true), sourcePort: body.has("source-port") ? port(body, "source-port") : 0))
        case "scatter":
            guard let from = host(body, "from") else { return nil }
            return .scatter(
                Step.Scatter(
                    from: from, to: destinations(body), port: port(body, "port"), sourcePort: port(body, "source-port")))
        case "ping":
            guard let from = host(body, "from"), let to = host(body, "to") else { return nil }
            return .ping(from: from, to: to, count: body.integer("count", in: 1...100, default: 2))
        case "forge":
            guard let from = host(body, "from"), let into = use(body, "into", connections, "connection") else { return nil }
            let flags = body.words("flags", TCPFlag.self) ?? [.ack]
            return .forge(
                Step.Forge(
                    from: from, into: into, port: body.has("port") ? port(body, "port") : nil, flags: flags.reduce(0) { $0 | $1.bit },
                    payload: body.text("payload", of: "text") ?? ""))
        case "ndbpf", "shell":
            guard let on = host(body, "on"), body.require("run", fix: "`run: a command`"),
                let text = body.text("run", of: "a command")
            else { return nil }
            return .command(
                Step.Command(
                    on: on, ndbpf: name == "ndbpf", text: text, status: body.integer("status", in: 0...255, default: 0),
                    contains: body.texts("contains", of: "text"), finds: finds(body)))
        case "metrics":
            guard let on = host(body, "on") else { return nil }
            return .metrics(on: on, contains: body.texts("contains", of: "text"), show: body.texts("show", of: "prefixes"))
        case "compare-connects":
            guard let guarded = host(body, "guarded"), let plain = host(body, "plain"), let to = host(body, "to") else {
                return nil
            }
            return .compareConnects(
                Step.CompareConnects(
                    guarded: guarded, plain: plain, to: to,
                    broken: body.number("broken", in: 1...100, default: 2) * factor,
                    pairs: body.integer("pairs", in: 1...1000, default: 15),
                    samples: body.integer("samples", in: 10...100_000, default: 100)))
        case "again":
            let duration = span(body, "for", 1)
            guard body.has("times") || duration != nil else {
                findings.add("missing-key", at: body.mark, "'again' needs 'times' or 'for'", fix: "`times: 20` or `for: 6s`")
                return nil
            }
            return .again(
                Step.Again(
                    times: body.integer("times", in: 1...100_000, default: .max), duration: duration,
                    every: body.span("every", from: "0ms", to: "60s", default: .seconds(0)),
                    steps: steps(body.list("steps", of: "steps") ?? [])))
        case "packets":
            return packets(body, factor)
        case "drops":
            guard let on = host(body, "on"), body.require("reason", fix: "a reason of `ndbpf maps stats`"),
                let reason = body.text("reason", of: "a drop reason")
            else { return nil }
            return .drops(on: on, reason: reason, count: range(body, "count") ?? CountRange(0, 0))
        default:
            return nil
        }
    }

    // MARK: names

    func known(_ name: String, _ all: [String], _ what: String, _ mark: Mark?) -> String? {
        if all.contains(name) { return name }
        findings.add(
            "unknown-name", at: mark, "there is no \(what) '\(clipped(name))' here",
            fix: nearest(to: name, among: all).map { "did you mean '\($0)'?" }
                ?? (all.isEmpty ? "make one first" : "known: \(all.joined(separator: ", "))"))
        return nil
    }

    func host(_ body: MappingReader, _ key: String) -> String? { use(body, key, hosts, "host") }

    func capture(_ body: MappingReader, _ key: String) -> String? { use(body, key, captures, "capture") }

    func use(_ body: MappingReader, _ key: String, _ all: [String], _ what: String) -> String? {
        guard body.require(key, fix: "`\(key): NAME`"), let name = body.text(key, of: "a \(what)") else { return nil }
        return known(name, all, what, body.node(key)?.mark)
    }

    private func define(_ body: MappingReader, _ key: String, _ all: inout [String]) -> String? {
        guard body.require(key, fix: "`\(key): NAME`, so that later steps can speak of it"),
            let name = body.text(key, of: "a name")
        else { return nil }
        if !all.contains(name) { all.append(name) }
        return name
    }

    // MARK: values

    func span(_ body: MappingReader, _ key: String, _ factor: Double) -> Span? {
        body.has(key) ? body.span(key, from: "0ms", to: "1h", default: .seconds(1)).times(factor) : nil
    }

    func range(_ body: MappingReader, _ key: String) -> CountRange? {
        guard let node = body.node(key), let text = scalarText(node, body.full(key), of: "a count", findings) else { return nil }
        if let range = CountRange(text) { return range }
        findings.add("range", at: node.mark, "'\(body.full(key))' is '\(clipped(text))'", fix: "write 3, 2..3, 8.. or ..5")
        return nil
    }

    private func port(_ body: MappingReader, _ key: String) -> UInt16 {
        UInt16(clamping: body.integer(key, in: 0...65_535, default: 0))
    }

    private func sizes(_ body: MappingReader) -> [Int] {
        guard let items = body.list("sizes", of: "byte counts", most: 64) else { return [64] }
        return items.compactMap { item in
            guard let text = scalarText(item, body.full("sizes"), of: "a byte count", findings) else { return nil }
            if let size = Int(text), (1...65_507).contains(size) { return size }
            findings.add("range", at: item.mark, "a datagram can't have '\(clipped(text))' bytes", fix: "1 to 65507")
            return nil
        }
    }

    /// `to:` addresses, each one, or with `count` that many from the first on.
    private func destinations(_ body: MappingReader) -> [IPAddress] {
        var result: [IPAddress] = []
        for item in body.list("to", of: "addresses") ?? [] {
            guard let text = scalarText(item, body.full("to"), of: "an address", findings) else { continue }
            if let address = IPAddress(text) {
                result.append(address)
            } else {
                findings.add("address", at: item.mark, "'\(clipped(text))' is no address", fix: "such as 10.77.0.255")
            }
        }
        let count = body.integer("count", in: 1...100_000, default: 1)
        guard count > 1, let first = result.first else { return result }
        return (0..<count).compactMap { index in
            var bytes = first.bytes
            var carry = index
            for at in bytes.indices.reversed() {
                carry += Int(bytes[at])
                bytes[at] = UInt8(truncatingIfNeeded: carry)
                carry >>= 8
            }
            return IPAddress(bytes: bytes[...])
        }
    }

    private func finds(_ body: MappingReader) -> Step.JSONExpectation? {
        guard let section = body.mapping("finds", keys: ["path", "is", "count"]),
            section.require("path", fix: "`path: negotiations.started`"), let path = section.text("path", of: "keys with dots")
        else { return nil }
        let words = section.text("is", of: "a value")?.split(separator: "|").map { $0.trimmingSpaces() } ?? []
        return Step.JSONExpectation(path: path, oneOf: words, range: range(section, "count"))
    }
}

enum TCPFlag: String, CaseIterable {
    case fin, syn, rst, psh, ack
    var bit: UInt8 {
        switch self {
        case .fin: 1
        case .syn: 2
        case .rst: 4
        case .psh: 8
        case .ack: 16
        }
    }
}

extension Substring {
    func trimmingSpaces() -> String {
        var text = self
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
