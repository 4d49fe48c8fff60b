import CNDLab
import Foundation
import Glibc
import NDCore

/// The steps that send something.
extension ScenarioRun {
    func perform(_ connect: Step.Connect, _ claim: String?) throws {
        let from = try lab.host(connect.from)
        let source = from.address(family)
        let target = Endpoint(try address(connect.to), Servers.echoPort)
        guard !connect.refused else {
            let answered = (try? lab.inside(from) {
                try Traffic.connectTCP(from: source, to: target, timeoutSeconds: connect.timeout.seconds).close()
            }) != nil
            return try conclude(claim, !answered, answered ? "CONNECTED" : "no answer in \(connect.timeout)")
        }
        let connection = try lab.inside(from) {
            try Traffic.connectTCP(from: source, to: target, timeoutSeconds: connect.timeout.seconds)
        }
        remember(connection, as: connect.name)
        let passed = connect.within.map { connection.milliseconds < $0.milliseconds } ?? true
        try conclude(claim, passed, "connect() \(Scenarios.ms(connection.milliseconds))")
    }

    func perform(_ echo: Step.Echo, _ claim: String?) throws {
        let connection = try connection(echo.connection)
        Traffic.setTimeouts(connection.descriptor, seconds: echo.within.seconds)
        do {
            var longest = 0.0
            let bytes = Array((echo.text ?? "ndbpf?").utf8)
            for _ in 0..<echo.times { longest = max(longest, try Traffic.echo(connection, bytes)) }
            try conclude(claim, echo.answered, "echo after \(Scenarios.ms(longest))")
        } catch {
            guard !echo.answered else { throw error }
            try conclude(claim, true, "no echo in \(echo.within)")
        }
    }

    func perform(_ transfer: Step.Transfer, _ claim: String?) throws {
        let from = try lab.host(transfer.from)
        let source = from.address(family)
        let target = Endpoint(try address(transfer.to), Servers.sinkPort)
        let bytes = transfer.megabytes << 20
        let connection = try lab.inside(from) { try Traffic.connectTCP(from: source, to: target) }
        remember(connection, as: transfer.name)
        let start = Instant.now()
        let result = try Traffic.bulk(connection, bytes: bytes)
        let seconds = Instant.now().since(start).seconds
        Glibc.close(connection.descriptor)
        forgetOpen(connection.descriptor)
        let stalled = transfer.longestStall.map { result.longestStall > $0.milliseconds } ?? false
        try conclude(
            claim, result.good == UInt64(bytes) && !stalled,
            "\(result.good) of \(bytes) bytes right in \((seconds * 100).rounded() / 100) s, longest stall \(Scenarios.ms(result.longestStall))")
    }

    func perform(_ datagram: Step.Datagram, _ claim: String?) throws {
        let from = try lab.host(datagram.from)
        let source = from.address(family)
        let target = Endpoint(try address(datagram.to), Servers.echoPort)
        let sent = datagram.text.map { [Array($0.utf8)] }
            ?? datagram.sizes.map { size in (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ size) } }
        for bytes in sent {
            let wanted = datagram.back.map { Array($0.utf8) } ?? bytes
            let back = try lab.inside(from) { () -> [UInt8]? in
                let descriptor = try Traffic.openUDP(
                    Endpoint(source, datagram.sourcePort), to: target, timeoutSeconds: datagram.timeout.seconds)
                defer { Glibc.close(descriptor) }
                return try Traffic.echoUDP(descriptor, bytes)
            }
            let passed = datagram.answered ? back == wanted : back == nil
            let seen = back.map { $0 == wanted ? "came back" : "\($0.count) other bytes came back" } ?? "nothing came back"
            try conclude(claim, passed, "\(bytes.count) bytes: \(seen)")
        }
    }

    func perform(_ scatter: Step.Scatter) throws {
        let from = try lab.host(scatter.from)
        let groups = Dictionary(grouping: scatter.to, by: \.isIPv4)
        for (isIPv4, targets) in groups {
            let source = Endpoint(isIPv4 ? from.ipv4 : from.ipv6, scatter.sourcePort)
            try lab.inside(from) {
                let descriptor = try Traffic.openUDP(source)
                defer { Glibc.close(descriptor) }
                var on: Int32 = 1
                setsockopt(descriptor, SOL_SOCKET, SO_BROADCAST, &on, 4)
                for target in targets {
                    // Multicast and broadcast need to be told the interface; a route decides for the rest.
                    Traffic.sendUDP(
                        descriptor, Array("scatter".utf8), to: Endpoint(target, scatter.port), viaEth0: scatter.sourcePort != 0)
                }
            }
        }
    }

    func perform(_ forge: Step.Forge) throws {
        let connection = try connection(forge.into)
        guard let victim = lab.hosts.first(where: { $0.address(family) == connection.flow.local.address }) else {
            throw NDError("scenario.forge", "no host has \(connection.flow.local.address)")
        }
        let attacker = try lab.host(forge.from)
        var flow = connection.flow
        flow.remote.port = forge.port ?? flow.remote.port
        let frame = Forgery.segment(
            to: try Forgery.mac(victim), from: try Forgery.mac(attacker), flow: flow, flags: forge.flags,
            payload: Array(forge.payload.utf8))
        try lab.inside(attacker) {
            guard nd_frame_send(Int32(if_nametoindex("eth0")), frame, frame.count) == frame.count else {
                throw NDError("scenario.forge", "can't send the forged segment")
            }
        }
    }

    func perform(_ action: Step.DaemonAction, _ name: String) throws {
        let host = try lab.host(name)
        switch action {
        case .start: try stage.start(name)
        case .stop: _ = lab.daemon(of: host)?.stop()
        case .kill: lab.daemon(of: host)?.kill()
        case .unload: try lab.unload(host)
        }
    }

    func perform(_ command: Step.Command, _ claim: String?) throws {
        let host = try lab.host(command.on)
        var words: [String]
        let policy = lab.policyFile(host)
        if command.ndbpf {
            words = [Lab.ownBinary] + command.text.replacing("$policy", with: policy).split(separator: " ").map(String.init)
            words += ["--instance", host.instance, "--netns", host.namespacePath]
            if command.finds != nil { words.append("--json") }
        } else {
            words = ["ip", "netns", "exec", host.namespace, "sh", "-c", command.text]
        }
        // A command names the hosts by $alpha, $beta: their addresses of this run's family.
        var names = Dictionary(uniqueKeysWithValues: lab.hosts.map { ($0.name, $0.address(family).description) })
        names["policy"] = policy
        let output = try Shell.capture(words, environment: names)
        guard Int(output.status) == command.status else {
            throw NDError("scenario.command", "`\(command.text)` ended with \(output.status), not \(command.status)", context: output.text)
        }
        if let missing = command.contains.first(where: { !output.text.contains($0) }) {
            return try conclude(claim, false, "`\(command.text)` does not print '\(missing)': \(output.text)")
        }
        guard let finds = command.finds else {
            return try conclude(claim, true, "`\(command.text)` ended with \(output.status)")
        }
        let found = try finds.values(in: output.text)
        try conclude(claim, finds.accepts(found), "\(finds.path): \(found.isEmpty ? "nothing" : found.joined(separator: ", "))")
    }

    func perform(_ compare: Step.CompareConnects, _ claim: String?) throws {
        let guarded = try lab.host(compare.guarded), plain = try lab.host(compare.plain)
        let work = try ConnectWork(lab, to: try lab.host(compare.to), family)
        // Neighbour look-ups, and the negotiation that nobody answers.
        for host in [guarded, plain] { _ = try work.slice(from: host, connects: compare.samples) }
        var pairs = Pairs()
        for _ in 0..<compare.pairs {
            try pairs.add(
                plain: { try work.slice(from: plain, connects: compare.samples) },
                guarded: { try work.slice(from: guarded, connects: compare.samples) })
        }
        func number(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
        func us(_ values: [Double]) -> String { "\((Scenarios.median(values) * 10).rounded() / 10) us" }
        try conclude(
            claim, pairs.lowerQuartile <= compare.broken,
            "\(number(pairs.median)) x a plain host, median of \(pairs.count) pairs"
                + " (quartiles \(number(pairs.lowerQuartile)) and \(number(pairs.upperQuartile));"
                + " \(us(pairs.guarded)) and \(us(pairs.plain)))")
    }
}

extension Step.JSONExpectation {
    /// What the path leads to in a command's JSON, under the key that the JSON names as its kind.
    func values(in text: String) throws -> [String] {
        guard let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any],
            let kind = object["kind"] as? String, let content = object[kind]
        else { throw NDError("scenario.json", "the command printed no JSON of ndbpf's", context: text) }
        var found: [Any] = [content]
        for part in path.split(separator: ".") {
            found = found.flatMap { value -> [Any] in
                if part == "*" { return value as? [Any] ?? [] }
                return (value as? [String: Any])?[String(part)].map { [$0] } ?? []
            }
        }
        return found.map { "\($0)" }
    }

    /// With `is` some value must be one of the words; a range is for the one value there is.
    func accepts(_ found: [String]) -> Bool {
        if !oneOf.isEmpty, !found.contains(where: { oneOf.contains($0) }) { return false }
        guard let range else { return !found.isEmpty }
        guard found.count == 1, let count = found.first.flatMap({ Int($0) }) else { return false }
        return range.contains(count)
    }
}
