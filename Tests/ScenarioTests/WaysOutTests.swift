import Foundation
import NDCore
import NDLab
import Testing

/// Every way out, and whoever stands in it:
///
///     alpha eth0 --- wire --- eth0 beta
///           eth1 --- wire              gamma, a plain host
///
/// alpha and beta talk protected. Then something happens to alpha's devices, routes or programs; nothing of what is
/// protected may be on beta's wire in clear, with and without a daemon.
@Suite("Every way out", .serialized)
struct WaysOutTests {
    enum How: String, CaseIterable, CustomStringConvertible {
        case tcx, clsact
        var arguments: [String] { self == .clsact ? ["--clsact"] : [] }
        var description: String { rawValue }
    }

    private func stage(_ tag: String, _ how: How = .tcx, _ body: (Stage) throws -> Void) throws {
        let stage = try Stage(tag, arguments: how.arguments)
        defer { stage.close() }
        try body(stage)
    }

    @Test("A route that moves to another interface takes no secured connection into clear", arguments: Lab.Family.allCases, [true, false])
    func route(family: Lab.Family, daemonLives: Bool) throws {
        try stage("wr\(family)\(daemonLives ? "l" : "d")") { stage in
            let pair = try LatchedPair(stage, family)
            if !daemonLives { stage.lab.daemon(of: stage.alpha)?.kill() }
            try stage.addInterface("eth1", addressed: false)
            let bits = family == .ipv4 ? 32 : 128
            try Shell.run(
                "ip", "-n", stage.alpha.namespace, "route", "add", "\(stage.beta.address(family))/\(bits)", "dev", "eth1", "src",
                "\(stage.alpha.address(family))")
            pair.send(times: 50)
            #expect(pair.clear == 0)
            if daemonLives {
                #expect(try stage.isInPlace("eth1", "guarded"))
                #expect(pair.isAnswered(within: 3), "the guard leads it into nd0")
            }
        }
    }

    @Test("A device that is deleted and made again leaks nothing", arguments: How.allCases, [true, false])
    func recreated(how: How, daemonLives: Bool) throws {
        try stage("wd\(how.rawValue.first ?? "x")\(daemonLives ? "l" : "d")", how) { stage in
            let pairs = try Lab.Family.allCases.map { try LatchedPair(stage, $0) }
            if !daemonLives { stage.lab.daemon(of: stage.alpha)?.kill() }
            let mac = try Shell.run("ip", "netns", "exec", stage.alpha.namespace, "cat", "/sys/class/net/eth0/address")
                .trimmingCharacters(in: .whitespacesAndNewlines)
            try Shell.run("ip", "-n", stage.alpha.namespace, "link", "del", "eth0")
            try stage.addInterface("eth0", addressed: true, mac: mac)
            for pair in pairs {
                pair.send(times: 60)
                #expect(pair.clear == 0, "\(pair.family)")
            }
            guard daemonLives else { return }
            #expect(try stage.isInPlace("eth0", "protected"))
            #expect(!stage.clearConnects(from: stage.gamma, to: stage.alpha), "clear inbound is refused on the new one")
        }
    }

    @Test("A device that is renamed stays protected, and so is another that takes its name", arguments: How.allCases)
    func renamed(how: How) throws {
        try stage("wn\(how.rawValue.first ?? "x")", how) { stage in
            let pair = try LatchedPair(stage, .ipv4)
            let alpha = stage.alpha.namespace
            // The name of a device that is up can be changed from 6.2 on.
            try Shell.run("ip", "-n", alpha, "link", "set", "eth0", "name", "lan0")
            try stage.addInterface("eth0", addressed: false)
            pair.send(times: 30)
            #expect(pair.clear == 0)
            #expect(try stage.isInPlace("lan0", "protected"))
            #expect(try stage.isInPlace("eth0", "protected"))
            #expect(pair.isAnswered(within: 3))
            #expect(!stage.clearConnects(from: stage.gamma, to: stage.alpha))
        }
    }

    @Test("A namespace that is made again under old pins is loaded anew")
    func namespace() throws {
        try stage("ns") { stage in
            let (lab, alpha) = (stage.lab, stage.alpha)
            let elsewhere = try Shell.capture([
                Lab.ownBinary, "run", "--instance", alpha.instance, "--netns", stage.gamma.namespacePath, "--policy",
                lab.policyFile(alpha),
            ])
            #expect(elsewhere.status == 1)
            lab.daemon(of: alpha)?.kill()
            let used = try Shell.capture([
                Lab.ownBinary, "run", "--instance", alpha.instance, "--netns", stage.gamma.namespacePath, "--policy",
                lab.policyFile(alpha),
            ])
            #expect(used.status == 1 && used.text.contains("another network namespace"), "\(used.text)")
            #expect(used.text.contains("othing was changed"), "\(used.text)")
            stage.servers[2].close()
            try Shell.run("ip", "netns", "del", alpha.namespace)
            try Shell.run("ip", "netns", "add", alpha.namespace)
            try Shell.run("ip", "-n", alpha.namespace, "link", "set", "lo", "up")
            try stage.addInterface("eth0", addressed: true)
            let servers = try Servers(lab, alpha)
            defer { servers.close() }
            let daemon = try lab.startDaemon(alpha, policy: Scenarios.policy("negotiation-discovery", key: stage.key))
            #expect(!daemon.hasReported("took over"), "\(daemon.logText)")
            #expect(daemon.hasReported("namespace that is gone"), "\(daemon.logText)")
            #expect(!stage.clearConnects(from: stage.gamma, to: alpha))
            try stage.connect(alpha, stage.beta)
        }
    }

    @Test("A TCX program that comes before ours leaks nothing, is seen and loses its place", arguments: [true, false])
    func tcxInFront(daemonLives: Bool) throws {
        try stage("wt\(daemonLives)") { stage in
            let pair = try LatchedPair(stage, .ipv4)
            let six = try LatchedPair(stage, .ipv6)
            if !daemonLives { stage.lab.daemon(of: stage.alpha)?.kill() }
            guard let foreign = try ForeignProgram(stage.lab, stage.alpha, first: true) else { return }
            defer { withExtendedLifetime(foreign) {} }
            pair.send(times: 30)
            six.send(times: 30)
            #expect(pair.clear + six.clear == 0)
            guard daemonLives else {
                let doctor = try stage.ndbpf(stage.alpha, "doctor")
                #expect(doctor.status == 1 && doctor.text.contains("stands before"), "\(doctor.text)")
                return
            }
            #expect(try stage.isInPlace("eth0", "protected"))
            #expect(pair.isAnswered(within: 3))
            #expect(!stage.clearConnects(from: stage.gamma, to: stage.alpha))
            #expect(stage.lab.daemon(of: stage.alpha)?.hasReported("stands before") == true)
            let address = stage.alpha.ipv4
            let metrics = try stage.lab.inside(stage.alpha) { try Scenarios.httpGet(Endpoint(address, 9466), "/metrics") }
            #expect(metrics.contains("ndbpf_interface_protected{interface=\"eth0\",role=\"protected\"} 1"), "\(metrics)")
        }
    }

    @Test("A program that somebody detaches is back within a second, and nothing leaks meanwhile")
    func detached() throws {
        try stage("we") { stage in
            let pair = try LatchedPair(stage, .ipv4)
            let six = try LatchedPair(stage, .ipv6)
            let pins = "/sys/fs/bpf/ndbpf/\(stage.alpha.instance)"
            for pin in try FileManager.default.contentsOfDirectory(atPath: pins) where pin.hasPrefix("link_") && pin.hasSuffix("gress") {
                unlink("\(pins)/\(pin)")
            }
            pair.send(times: 30)
            six.send(times: 30)
            #expect(pair.clear + six.clear == 0)
            #expect(try stage.isInPlace("eth0", "protected"))
            #expect(pair.isAnswered(within: 3))
        }
    }

    @Test("clsact that somebody deletes comes back, and nothing leaks meanwhile")
    func clsactDeleted() throws {
        try stage("wc", .clsact) { stage in
            let pair = try LatchedPair(stage, .ipv4)
            let six = try LatchedPair(stage, .ipv6)
            try Shell.run("tc", "-n", stage.alpha.namespace, "qdisc", "del", "dev", "eth0", "clsact")
            pair.send(times: 30)
            six.send(times: 30)
            #expect(pair.clear + six.clear == 0)
            #expect(try stage.isInPlace("eth0", "protected"))
            #expect(pair.isAnswered(within: 3))
        }
    }

    @Test("No clsact filter comes before ours for longer than a moment", arguments: ["matchall action pass", "bpf da bytecode '1,6 0 0 0'"])
    func filterInFront(filter: String) throws {
        try stage("wf\(filter.first ?? "x")", .clsact) { stage in
            let pair = try LatchedPair(stage, .ipv4)
            for direction in ["egress", "ingress"] {
                // The smallest preference is taken, so the kernel may refuse it.
                _ = try Shell.capture([
                    "sh", "-c", "tc -n \(stage.alpha.namespace) filter add dev eth0 \(direction) pref 1 protocol all \(filter)",
                ])
            }
            usleep(700_000)
            let before = pair.clear
            pair.send(times: 30)
            #expect(pair.clear == before)
            #expect(try stage.isInPlace("eth0", "protected"))
            #expect(!stage.clearConnects(from: stage.gamma, to: stage.alpha))
        }
    }

    @Test("nd0 that somebody deletes or puts down comes back, and nothing leaks meanwhile", arguments: ["del", "down"])
    func device(what: String) throws {
        try stage("w0\(what)") { stage in
            let pair = try LatchedPair(stage, .ipv4)
            let alpha = stage.alpha.namespace
            if what == "del" {
                try Shell.run("ip", "-n", alpha, "link", "del", "nd0")
            } else {
                try Shell.run("ip", "-n", alpha, "link", "set", "nd0", "down")
            }
            pair.send(times: 10)
            #expect(pair.clear == 0)
            #expect(try stage.isInPlace("nd0", "device", within: 2))
            #expect(pair.isAnswered(within: 3), "\(stage.lab.daemon(of: stage.alpha)?.logText ?? "")")
            #expect(pair.clear == 0)
        }
    }

    @Test("A device that takes nd0's index gets nothing", arguments: [true, false])
    func stranger(daemonLives: Bool) throws {
        try stage("wx\(daemonLives)") { stage in
            let pair = try LatchedPair(stage, .ipv4)
            let alpha = stage.alpha.namespace
            let index = try Shell.run("ip", "netns", "exec", alpha, "cat", "/sys/class/net/nd0/ifindex")
                .trimmingCharacters(in: .whitespacesAndNewlines)
            if !daemonLives { stage.lab.daemon(of: stage.alpha)?.kill() }
            try Shell.run("ip", "-n", alpha, "link", "del", "nd0")
            try Shell.run("ip", "-n", alpha, "link", "add", "evil", "index", index, "type", "veth", "peer", "name", "evil0")
            try Shell.run("ip", "-n", alpha, "link", "set", "evil", "up")
            let capture = try PacketCapture(stage.lab, stage.alpha, interface: "evil")
            pair.send(times: 30)
            let seen = try capture.stop().filter { $0.source == stage.alpha.ipv4 }
            #expect(seen.isEmpty, "\(seen.count) packets in it")
            #expect(pair.clear == 0)
        }
    }

    @Test("A pattern protects interfaces that come later; one that fits nothing waits", arguments: ["et*", "all", "default-route"])
    func patterns(pattern: String) throws {
        let stage = try Stage("wp\(pattern.first ?? "x")", alpha: nil)
        defer { stage.close() }
        let alpha = stage.alpha
        let policy = Scenarios.policy("negotiation-discovery", key: stage.key).replacingOccurrences(
            of: "interfaces: [eth0]", with: "interfaces: [\"\(pattern)\", \"wlan*\"]")
        let daemon = try stage.lab.startDaemon(alpha, policy: policy)
        if pattern == "default-route" {
            try Shell.run("ip", "-n", alpha.namespace, "route", "add", "default", "via", "\(stage.gamma.ipv4)")
        }
        #expect(try stage.isInPlace("eth0", "protected"))
        #expect(!stage.clearConnects(from: stage.gamma, to: alpha))
        try stage.addInterface("eth1", addressed: false)
        #expect(try stage.isInPlace("eth1", pattern == "default-route" ? "guarded" : "protected"))
        try stage.addInterface("wlan7", addressed: false)
        #expect(try stage.isInPlace("wlan7", "protected"))
        #expect(daemon.hasReported("'wlan*'"), "\(daemon.logText)")
    }
}
