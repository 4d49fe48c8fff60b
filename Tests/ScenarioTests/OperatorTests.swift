import Foundation
import NDCore
import NDLab
import Testing

@Suite("What operators do", .serialized)
struct OperatorTests {
    /// Everything of a host that ndbpf touches.
    private func trace(_ lab: Lab, _ host: Lab.Host) throws -> String {
        let commands = [
            ["ip", "-n", host.namespace, "-o", "link"], ["ip", "-n", host.namespace, "-o", "addr"],
            ["ip", "-n", host.namespace, "route", "show", "table", "all"], ["ip", "-n", host.namespace, "rule"],
            ["tc", "-n", host.namespace, "qdisc", "show"],
            ["tc", "-n", host.namespace, "filter", "show", "dev", "eth0", "ingress"],
            ["tc", "-n", host.namespace, "filter", "show", "dev", "eth0", "egress"],
            ["ip", "netns", "exec", host.namespace, "sysctl", "-a", "-r", "^net.ipv[46].conf"],
        ]
        let files = ["/sys/fs/bpf/ndbpf", "/run/ndbpf"].map {
            (try? FileManager.default.contentsOfDirectory(atPath: $0).filter { $0 == host.instance }.joined()) ?? ""
        }
        return try commands.map { try Shell.capture($0).text }.joined(separator: "\n") + files.joined(separator: "\n")
    }

    /// Link-local addresses are tentative for a second or two.
    private func settle(_ stage: Stage) throws {
        for _ in 0..<50 {
            let addresses = try Shell.capture(["ip", "-n", stage.alpha.namespace, "-o", "addr"]).text
            if !addresses.contains("tentative"), addresses.contains("fe80::") { return }
            usleep(100_000)
        }
    }

    /// Lines that only one of the two has.
    private func difference(_ a: String, _ b: String) -> [String] {
        let (a, b) = (Set(a.split(separator: "\n")), Set(b.split(separator: "\n")))
        return a.symmetricDifference(b).map(String.init).sorted()
    }

    @Test("Unload leaves nothing behind", arguments: [[], ["--clsact"]])
    func unload(arguments: [String]) throws {
        let stage = try Stage("un\(arguments.count)", alpha: nil, beta: nil)
        defer { stage.close() }
        try settle(stage)
        let before = try trace(stage.lab, stage.alpha)
        let daemon = try stage.lab.startDaemon(
            stage.alpha, policy: Scenarios.policy("negotiation-discovery", key: stage.key), arguments: arguments)
        #expect(try trace(stage.lab, stage.alpha) != before)
        daemon.kill()
        let output = try stage.ndbpf(stage.alpha, "unload")
        #expect(output.status == 0, "\(output.text)")
        #expect(difference(try trace(stage.lab, stage.alpha), before) == [])
        let again = try stage.ndbpf(stage.alpha, "unload")
        #expect(again.status == 1)
        #expect(again.text.contains("nothing was changed"), "\(again.text)")
    }

    @Test("A failed load leaves nothing behind")
    func failedLoad() throws {
        let stage = try Stage("fl", alpha: nil, beta: nil)
        defer { stage.close() }
        try settle(stage)
        let before = try trace(stage.lab, stage.alpha)
        let file = "\(stage.lab.directory)/policy.yaml"
        try Scenarios.policy("negotiation-discovery", key: stage.key).write(toFile: file, atomically: true, encoding: .utf8)
        let missing = try stage.ndbpf(stage.alpha, "load", "--policy", file, "-i", "eth0", "-i", "nosuch0")
        #expect(missing.status == 1)
        #expect(missing.text.contains("nosuch0"), "\(missing.text)")
        #expect(difference(try trace(stage.lab, stage.alpha), before) == [])
        // The metrics' address is not this host's: everything else is in place by then.
        try Scenarios.policy("negotiation-discovery", key: stage.key, metrics: "203.0.113.1:9466").write(
            toFile: file, atomically: true, encoding: .utf8)
        let late = try stage.ndbpf(stage.alpha, "run", "--policy", file)
        #expect(late.status == 1, "\(late.text)")
        #expect(late.text.contains("203.0.113.1"), "\(late.text)")
        #expect(difference(try trace(stage.lab, stage.alpha), before) == [])
        // An ingress qdisc where clsact would go makes the second attachment fail, with maps,
        // programs and the first one in place.
        try Shell.run("tc", "-n", stage.alpha.namespace, "qdisc", "add", "dev", "eth0", "ingress")
        let between = try trace(stage.lab, stage.alpha)
        let refused = try stage.ndbpf(stage.alpha, "load", "--policy", file, "--clsact")
        #expect(refused.status == 1, "\(refused.text)")
        #expect(difference(try trace(stage.lab, stage.alpha), between) == [])
    }

    @Test("An interface that goes and comes back is protected again", arguments: [[], ["--clsact"]])
    func interfaceReturns(arguments: [String]) throws {
        let stage = try Stage("ir\(arguments.count)", alpha: nil, arguments: arguments)
        defer { stage.close() }
        let (lab, beta) = (stage.lab, stage.beta)
        let wire = beta.namespace.replacingOccurrences(of: "-beta", with: "-wire")
        try Shell.run("ip", "-n", beta.namespace, "link", "del", "eth0")
        usleep(200_000)
        try Shell.run(
            "ip", "link", "add", "eth0", "netns", beta.namespace, "type", "veth", "peer", "name", "p9", "netns", wire)
        try Shell.run("ip", "-n", wire, "link", "set", "p9", "master", "br0", "up")
        try Shell.run("ip", "-n", beta.namespace, "link", "set", "eth0", "up")
        try Shell.run("ip", "-n", beta.namespace, "addr", "add", "\(beta.ipv4)/24", "brd", "+", "dev", "eth0")
        usleep(300_000)
        let target = Endpoint(beta.ipv4, Servers.echoPort)
        let source = stage.gamma.ipv4
        let connected = (try? lab.inside(stage.gamma) {
            try Traffic.connectTCP(from: source, to: target, timeoutSeconds: 1).close()
        }) != nil
        #expect(!connected, "clear inbound is refused on the new interface")
        #expect(try Scenarios.dropCount(lab, beta, "clear_inbound") > 0)
    }

    @Test("A malformed policy never changes a running datapath")
    func malformed() throws {
        let stage = try Stage("mp", beta: nil)
        defer { stage.close() }
        let before = try stage.ndbpf(stage.alpha, "maps", "policy", "--raw").text
        let file = "\(stage.lab.directory)/bad.yaml"
        try "version: 1\nscenario: negotiation-discovry\n".write(toFile: file, atomically: true, encoding: .utf8)
        stage.lab.daemon(of: stage.alpha)?.kill()
        for command in ["load", "run"] {
            let output = try stage.ndbpf(stage.alpha, command, "--policy", file)
            #expect(output.status == 1)
            #expect(output.text.contains("bad.yaml:2:11"), "\(output.text)")
            #expect(output.text.contains("negotiation-discovery"), "the fix names the right word: \(output.text)")
        }
        #expect(try stage.ndbpf(stage.alpha, "maps", "policy", "--raw").text == before)
    }

    @Test("Every command that prints has JSON, and wrong use exits with 2")
    func commands() throws {
        let stage = try Stage("cm")
        defer { stage.close() }
        try stage.connect(stage.alpha, stage.beta)
        for command in [["status"], ["peers"], ["flows"], ["sas"], ["maps"], ["maps", "flows"], ["maps", "peers", "--raw"], ["maps", "stats"], ["maps", "policy"]] {
            let output = try Shell.capture(
                [Lab.ownBinary] + command
                    + ["--json", "--instance", stage.alpha.instance, "--netns", stage.alpha.namespacePath])
            #expect(output.status == 0, "\(command): \(output.text)")
            let object = try #require(try JSONSerialization.jsonObject(with: Data(output.text.utf8)) as? [String: Any])
            #expect(object["version"] as? Int == 1)
            let text = try Shell.capture(
                [Lab.ownBinary] + command + ["--instance", stage.alpha.instance, "--netns", stage.alpha.namespacePath])
            #expect(text.status == 0 && !text.text.isEmpty)
        }
        let sas = try #require(try stage.json(stage.alpha, "sas") as? [[String: Any]])
        #expect(Set(sas.compactMap { $0["direction"] as? String }) == ["in", "out"])
        for wrong in [["nonsense"], ["maps", "nonsense"], ["load", "--flows", "1"], ["status", "--nonsense"]] {
            #expect(try Shell.capture([Lab.ownBinary] + wrong + ["--netns", stage.alpha.namespacePath, "--instance", stage.alpha.instance]).status == 2, "\(wrong)")
        }
        #expect(try Shell.capture([Lab.ownBinary, "status", "--instance", "nobody"]).status == 1)
        #expect(try Shell.capture([Lab.ownBinary, "doctor", "--json"]).status == 0)
    }

    @Test("promtool finds nothing wrong with the metrics of a running daemon")
    func metrics() throws {
        let stage = try Stage("mt")
        defer { stage.close() }
        try stage.connect(stage.alpha, stage.beta)
        let address = stage.alpha.ipv4
        let text = try stage.lab.inside(stage.alpha) { try Scenarios.httpGet(Endpoint(address, 9466), "/metrics") }
        let file = "\(stage.lab.directory)/metrics"
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        let output = try Shell.capture(["sh", "-c", "promtool check metrics < \(file)"])
        #expect(output.status == 0, "\(output.text)")
        #expect(text.contains("ndbpf_negotiations_succeeded_total 1"))
        #expect(text.contains("clear_inbound"), "drop reasons are present at zero")
    }

    @Test("monitor shows a connection's way from first packet to SA")
    func monitor() throws {
        let stage = try Stage("mo")
        defer { stage.close() }
        let (lab, alpha) = (stage.lab, stage.alpha)
        let source = alpha.ipv4
        let target = Endpoint(stage.beta.ipv4, Servers.echoPort)
        DispatchQueue.global().asyncAfter(deadline: .now() + 0.5) {
            _ = try? lab.inside(alpha) {
                let connection = try Traffic.connectTCP(from: source, to: target)
                try Traffic.echo(connection)
                connection.close()
            }
        }
        let output = try Shell.capture([
            "timeout", "10", Lab.ownBinary, "monitor", "--count", "4", "--instance", alpha.instance, "--netns",
            alpha.namespacePath,
        ])
        #expect(output.status == 0, "\(output.text)")
        #expect(output.text.contains("peer.negotiating") || output.text.contains("flow.negotiate"), "\(output.text)")
    }
}
