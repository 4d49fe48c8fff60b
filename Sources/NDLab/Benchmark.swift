import Foundation
import Glibc
import NDCore

/// Throughput, latency and connect times on real packets, beside a plain wire and wireguard-go.
/// Runs of the candidates are interleaved, so that all see the same machine.
public final class Benchmark {
    private struct Path {
        var name: String
        var lab: Lab
        var from: Lab.Host
        var to: Lab.Host
        var source: IPAddress
        var target: IPAddress
    }

    private let seconds: Int
    private let runs: Int
    private let progress: (String) -> Void
    private var processes: [Process] = []

    public init(seconds: Int, runs: Int, progress: @escaping (String) -> Void) {
        self.seconds = seconds
        self.runs = runs
        self.progress = progress
    }

    deinit { for process in processes { end(process) } }

    public func run() throws -> [Figure] {
        progress("hosts and daemons")
        let plain = try Lab(tag: "b0")
        let udp = try Lab(tag: "b1")
        let native = try Lab(tag: "b2")
        defer { for lab in [plain, udp, native] { lab.close() } }
        var paths: [Path] = []
        func path(_ name: String, _ lab: Lab, _ from: String, _ to: String) throws {
            let (from, to) = (try lab.host(from), try lab.host(to))
            paths.append(Path(name: name, lab: lab, from: from, to: to, source: from.ipv4, target: to.ipv4))
        }
        for (lab, encapsulation) in [(udp, "udp"), (native, "native")] {
            let policy = Scenarios.policy(
                "negotiation-discovery", key: try lab.writeKey(), encapsulation: encapsulation, metrics: "none")
            for name in ["alpha", "beta"] { try lab.startDaemon(try lab.host(name), policy: policy) }
        }
        try path("plain veth", plain, "alpha", "gamma")
        try path("clear through ndbpf", udp, "alpha", "gamma")
        try path("ESP in UDP", udp, "alpha", "beta")
        try path("ESP, protocol 50", native, "alpha", "beta")
        let wireguard = try startWireGuard(plain)
        if let wireguard { paths.append(wireguard) } else { progress("wireguard-go is not installed: left out") }
        var servers: [Servers] = []
        defer { for server in servers { server.close() } }
        for path in paths where path.name != "wireguard-go" { servers.append(try Servers(path.lab, path.to)) }
        for path in paths { try startIPerf(path) }
        if let wireguard { servers.append(try Servers(wireguard.lab, wireguard.to, addresses: [wireguard.target])) }

        // A first connection each: negotiations and neighbour look-ups are not throughput.
        for path in paths { _ = try latency(path, rounds: 50) }

        var throughput = [String: [Double]]()
        for run in 1...runs {
            for path in paths {
                progress("throughput \(run)/\(runs): \(path.name)")
                throughput[path.name, default: []].append(try iperf(path))
            }
        }
        var round = [String: [Double]]()
        for run in 1...runs {
            progress("request and response \(run)/\(runs)")
            for path in paths { round[path.name, default: []].append(try latency(path, rounds: 2000)) }
        }
        let cold = try coldConnects(paths[2], count: max(runs * 5, 15))

        var figures: [Figure] = []
        let guarded = Figure("", "", throughput["wireguard-go"] ?? []).median
        for path in paths {
            let values = throughput[path.name] ?? []
            var figure = Figure("TCP throughput, \(path.name)", "Gbit/s", values)
            if path.name == "ESP in UDP", wireguard != nil {
                figure.hold(figure.median / guarded, atLeast: 8, "wireguard-go")
            }
            figures.append(figure)
        }
        let guardedRound = Figure("", "", round["wireguard-go"] ?? []).median
        for path in paths {
            var figure = Figure("request and response, \(path.name)", "us", round[path.name] ?? [])
            if path.name == "ESP in UDP", wireguard != nil {
                figure.hold(figure.median / guardedRound, atMost: 1, "wireguard-go")
            }
            figures.append(figure)
        }
        let coldFigure = Figure("", "", cold).median
        figures.append(
            Figure(
                "cold connect() with the negotiation", "ms", cold, limit: "<= 30 ms", met: coldFigure <= 30))
        return figures
    }

    private func latency(_ path: Path, rounds: Int) throws -> Double {
        let (source, target) = (path.source, Endpoint(path.target, Servers.echoPort))
        return try path.lab.inside(path.from) {
            let connection = try Traffic.connectTCP(from: source, to: target)
            defer { connection.close() }
            var times: [Double] = []
            for _ in 0..<rounds { times.append(try Traffic.echo(connection, [1, 2, 3, 4]) * 1000) }
            return Scenarios.median(times)
        }
    }

    private func coldConnects(_ path: Path, count: Int) throws -> [Double] {
        var times: [Double] = []
        for index in 0..<count {
            progress("cold connects \(index + 1)/\(count)")
            for host in [path.from, path.to] {
                try Shell.run(
                    Lab.ownBinary, "sas", "--delete", "all", "--instance", host.instance, "--netns", host.namespacePath)
            }
            usleep(100_000)
            let (source, target) = (path.source, Endpoint(path.target, Servers.echoPort))
            times.append(
                try path.lab.inside(path.from) {
                    let connection = try Traffic.connectTCP(from: source, to: target)
                    defer { connection.close() }
                    try Traffic.echo(connection)
                    return connection.milliseconds
                })
        }
        return times
    }

    private func startIPerf(_ path: Path) throws {
        try start(["ip", "netns", "exec", path.to.namespace, "iperf3", "-s", "-B", path.target.description])
        usleep(200_000)
    }

    private func iperf(_ path: Path) throws -> Double {
        let output = try Shell.capture([
            "ip", "netns", "exec", path.from.namespace, "timeout", "\(seconds + 10)", "iperf3", "-J", "-c",
            path.target.description, "-t", "\(seconds)", "-O", "1",
        ])
        guard output.status == 0,
            let object = try? JSONSerialization.jsonObject(with: Data(output.text.utf8)) as? [String: Any],
            let end = object["end"] as? [String: Any], let received = end["sum_received"] as? [String: Any],
            let rate = received["bits_per_second"] as? Double
        else {
            throw NDError(
                "bench.iperf3", "iperf3 failed on \(path.name)", context: String(output.text.prefix(300)),
                hint: "make bench installs it")
        }
        return rate / 1e9
    }

    /// Debian's wireguard-go between alpha and beta of the plain lab; nil where it is not installed.
    private func startWireGuard(_ lab: Lab) throws -> Path? {
        guard try Shell.capture(["sh", "-c", "command -v wireguard-go && command -v wg"]).status == 0 else { return nil }
        let (alpha, beta) = (try lab.host("alpha"), try lab.host("beta"))
        var keys: [String: String] = [:]
        for host in [alpha, beta] {
            let file = "\(lab.directory)/\(host.name).wg"
            try Shell.run("sh", "-c", "umask 077; wg genkey > \(file)")
            keys[host.name] = try Shell.run("sh", "-c", "wg pubkey < \(file)").trimmingCharacters(in: .whitespacesAndNewlines)
            try start(["ip", "netns", "exec", host.namespace, "wireguard-go", "-f", device(host)])
        }
        usleep(700_000)
        for (host, peer, address, other) in [
            (alpha, beta, "10.78.0.1", "10.78.0.2"), (beta, alpha, "10.78.0.2", "10.78.0.1"),
        ] {
            try Shell.run(
                "ip", "netns", "exec", host.namespace, "wg", "set", device(host), "private-key",
                "\(lab.directory)/\(host.name).wg", "listen-port", "51820", "peer", keys[peer.name] ?? "",
                "allowed-ips", "\(other)/32", "endpoint", "\(peer.ipv4):51820")
            try Shell.run("ip", "-n", host.namespace, "addr", "add", "\(address)/24", "dev", device(host))
            try Shell.run("ip", "-n", host.namespace, "link", "set", device(host), "up")
        }
        guard let source = IPAddress("10.78.0.1"), let target = IPAddress("10.78.0.2") else { return nil }
        return Path(name: "wireguard-go", lab: lab, from: alpha, to: beta, source: source, target: target)
    }

    /// wireguard-go's control sockets are named after the device for the whole host.
    private func device(_ host: Lab.Host) -> String { "wg\(getpid() % 100_000)\(host.name.prefix(1))" }

    private func start(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        process.standardInput = FileHandle.nullDevice
        try process.run()
        processes.append(process)
    }

    private func end(_ process: Process) {
        guard process.isRunning else { return }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}
