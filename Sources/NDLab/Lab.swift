import CNDSystem
import Foundation
import Glibc
import NDCore

/// Hosts in network namespaces of our own, on one wire:
///
///     alpha 10.77.0.1   beta 10.77.0.2   gamma 10.77.0.3   delta 10.77.0.4
///           fd77::1          fd77::2           fd77::3           fd77::4
///        eth0 ------------- eth0 ------------- eth0 ------------- eth0
///                         a bridge (namespace "wire")
///
/// Hosts behind a NAT have addresses of their own and one in common on the wire (IPv4 only):
///
///     gamma 192.168.77.3   delta 192.168.77.4
///        eth0 ------------- eth0
///                 a bridge
///           namespace "nat", 10.77.0.100
///
/// Two hosts can also have one veth pair between them (`direct`).
///
/// Everything is named after this process and taken away at the end.
public final class Lab: @unchecked Sendable {
    public struct Host: Sendable, Hashable {
        public let name: String
        public let namespace: String
        public let ipv4: IPAddress
        public let ipv6: IPAddress
        public var namespacePath: String { "/run/netns/\(namespace)" }
        public var instance: String { namespace }

        public func address(_ family: Family) -> IPAddress { family == .ipv4 ? ipv4 : ipv6 }
    }

    public enum Family: String, Sendable, CaseIterable { case ipv4, ipv6 }

    /// A router that hides hosts behind its own address (nft masquerade).
    public struct NAT: Sendable, Hashable {
        public var hosts: [String]
        /// Every connection gets a port of the router's; otherwise only one whose port is taken.
        public var changesPorts: Bool

        public init(hosts: [String], changesPorts: Bool = false) {
            self.hosts = hosts
            self.changesPorts = changesPorts
        }
    }

    /// What the others see of the hosts behind the NAT.
    public static let natAddress = IPAddress(high: 0, low: 0xffff_0a4d_0064)

    public let hosts: [Host]
    public let directory: String
    private let prefix: String
    private let nat: NAT?
    private var namespaces: [String] = []
    private var daemons: [DaemonProcess] = []
    var daemonProcesses: [DaemonProcess] { daemons }
    /// The namespace of the wire; the hosts' ends there are p0, p1, … in their order.
    public var wire: String { "\(prefix)-wire" }

    /// The hosts of the picture: each has its address in every lab, whichever others there are.
    public static let usualHosts = ["alpha", "beta", "gamma", "delta"]

    /// Namespaces and interfaces are named after it.
    public static func isHostName(_ name: String) -> Bool {
        (1...8).contains(name.utf8.count) && name.utf8.allSatisfy { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) }
    }

    /// `tag` keeps labs of one process apart; mtu is every interface's.
    public init(tag: String, hosts names: [String] = usualHosts, mtu: Int = 1500, nat: NAT? = nil, direct: Bool = false) throws {
        guard geteuid() == 0 else {
            throw NDError(
                "lab.permission", "network namespaces need root", hint: "run as root; nothing was changed")
        }
        self.nat = nat
        prefix = "nd\(getpid())\(tag)"
        directory = "/tmp/\(prefix)"
        var made: [Host] = []
        var strangers = Self.usualHosts.count
        for name in names {
            let index = Self.usualHosts.firstIndex(of: name) ?? strangers
            if index == strangers { strangers += 1 }
            let network = nat?.hosts.contains(name) == true ? "192.168.77" : "10.77.0"
            guard let ipv4 = IPAddress("\(network).\(index + 1)"), let ipv6 = IPAddress("fd77::\(index + 1)") else {
                throw NDError("lab.addresses", "bad host number \(index)")
            }
            made.append(Host(name: name, namespace: "\(prefix)-\(name)", ipv4: ipv4, ipv6: ipv6))
        }
        hosts = made
        do {
            try build(mtu: mtu, direct: direct)
        } catch {
            close()
            throw error
        }
    }

    deinit { close() }

    public func host(_ name: String) throws -> Host {
        guard let host = hosts.first(where: { $0.name == name }) else {
            throw NDError("lab.host", "no host '\(name)' in the lab")
        }
        return host
    }

    private func build(mtu: Int, direct: Bool) throws {
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        if direct {
            guard hosts.count == 2, nat == nil else { throw NDError("lab.direct", "a veth pair is between two hosts") }
            let (one, other) = (hosts[0].namespace, hosts[1].namespace)
            namespaces = [one, other]
            try batch([
                "netns add \(one)", "netns add \(other)",
                "link add eth0 mtu \(mtu) netns \(one) type veth peer name eth0 mtu \(mtu) netns \(other)",
            ])
            for host in hosts { try address(host) }
            return
        }
        let wire = wire
        // One process for many commands: on an emulated machine each costs 30 to 100 ms.
        let router = nat == nil ? nil : "\(prefix)-nat"
        let all = hosts.map(\.namespace) + [wire] + (router.map { [$0] } ?? [])
        namespaces = all
        let hidden = Set(nat?.hosts ?? [])
        try batch(
            all.map { "netns add \($0)" }
                + hosts.enumerated().map { index, host in
                    let far = hidden.contains(host.name) ? router ?? wire : wire
                    return "link add eth0 mtu \(mtu) netns \(host.namespace) type veth peer name p\(index) mtu \(mtu) netns \(far)"
                }
                + (router.map { ["link add eth0 mtu \(mtu) netns \($0) type veth peer name nat mtu \(mtu) netns \(wire)"] } ?? []))
        // A bridge that snoops multicast delays neighbour discovery; some kernels' bridges can't.
        do {
            try batch(["link add br0 type bridge stp_state 0 mcast_snooping 0"], in: wire)
        } catch {
            try batch(["link add br0 type bridge stp_state 0"], in: wire)
        }
        try batch(
            ["link set br0 mtu \(mtu) up"]
                + hosts.indices.filter { !hidden.contains(hosts[$0].name) }.map { "link set p\($0) master br0 up" }
                + (router == nil ? [] : ["link set nat master br0 up"]), in: wire)
        for host in hosts { try address(host, more: hidden.contains(host.name) ? ["route add default via 192.168.77.254"] : []) }
        if let router, let nat { try build(router, nat, mtu: mtu) }
    }

    private func address(_ host: Host, more: [String] = []) throws {
        try batch(
            [
                "link set lo up", "link set eth0 up", "addr add \(host.ipv4)/24 brd + dev eth0",
                "addr add \(host.ipv6)/64 dev eth0 nodad",
            ] + more, in: host.namespace)
    }

    private func build(_ router: String, _ nat: NAT, mtu: Int) throws {
        let ports = hosts.indices.filter { nat.hosts.contains(hosts[$0].name) }
        try batch(
            [
                "link set lo up", "link set eth0 up", "addr add \(Self.natAddress)/24 brd + dev eth0",
                "link add br1 type bridge stp_state 0", "link set br1 mtu \(mtu) up",
                "addr add 192.168.77.254/24 brd + dev br1",
            ] + ports.map { "link set p\($0) master br1 up" }, in: router)
        let rules = """
            table ip nat {
                chain after {
                    type nat hook postrouting priority srcnat;
                    oifname eth0 masquerade\(nat.changesPorts ? " fully-random" : "")
                }
            }
            """
        let file = "\(directory)/nft"
        try rules.write(toFile: file, atomically: false, encoding: .utf8)
        try Shell.run("ip", "netns", "exec", router, "nft", "-f", file)
        try Self.inside("/run/netns/\(router)") {
            try "1".write(toFile: "/proc/sys/net/ipv4/ip_forward", atomically: false, encoding: .utf8)
        }
        // The kernel tells a bridge of its ports' carriers up to a second late; an ARP request lost there
        // costs a connection another second.
        for host in hosts where nat.hosts.contains(host.name) {
            var tries = 0
            while try Shell.capture(["ip", "netns", "exec", host.namespace, "ping", "-c", "1", "-W", "1", "192.168.77.254"]).status != 0 {
                tries += 1
                guard tries < 10 else { throw NDError("lab.nat", "\(host.name) can't reach the NAT") }
            }
        }
    }

    /// Commands of `ip`, in a namespace when one is named.
    private func batch(_ commands: [String], in namespace: String? = nil) throws {
        let file = "\(directory)/ip"
        try (commands.joined(separator: "\n") + "\n").write(toFile: file, atomically: false, encoding: .utf8)
        let output = try Shell.capture(["ip"] + (namespace.map { ["-n", $0] } ?? []) + ["-batch", file])
        guard output.status == 0 else {
            throw NDError("lab.network", "can't set up the hosts' network", context: output.text)
        }
    }

    /// Runs the body on a thread that lives in the host's namespace; sockets made there stay there.
    public func inside<T: Sendable>(_ host: Host, _ body: @escaping @Sendable () throws -> T) throws -> T {
        try Self.inside(host.namespacePath, body)
    }

    public static func inside<T: Sendable>(_ path: String, _ body: @escaping @Sendable () throws -> T) throws -> T {
        let box = ResultBox<T>()
        let done = DispatchSemaphore(value: 0)
        let thread = Thread {
            let error = nd_setns_net(path)
            if error == 0 {
                box.result = Result { try body() }
            } else {
                box.result = .failure(
                    NDError("lab.setns", "can't enter \(path): \(String(cString: strerror(-error)))"))
            }
            done.signal()
        }
        thread.stackSize = 4 << 20
        thread.start()
        done.wait()
        guard let result = box.result else { throw NDError("lab.thread", "the thread in \(path) left no result") }
        return try result.get()
    }

    /// Small tables: a dozen hosts of a lab share one machine's memory, and making large ones takes a third of a second.
    public static let smallTables = ["--flows", "65536"]

    public func policyFile(_ host: Host) -> String { "\(directory)/\(host.name).yaml" }

    /// Starts `ndbpf run` for a host and waits until it answers.
    @discardableResult
    public func startDaemon(
        _ host: Host, policy: String, binary: String = Lab.ownBinary, arguments: [String] = [],
        tables: [String] = Lab.smallTables, keyLog: Bool = false, readyWithin seconds: Double = 20
    ) throws -> DaemonProcess {
        let file = policyFile(host)
        try policy.write(toFile: file, atomically: true, encoding: .utf8)
        let daemon = try DaemonProcess(
            host: host, binary: binary, log: "\(directory)/\(host.name).log",
            arguments: [
                "run", "--instance", host.instance, "--netns", host.namespacePath, "--policy", file,
            ] + tables + arguments)
        daemons.append(daemon)
        let deadline = Instant.now().advanced(by: .seconds(seconds))
        while Instant.now() < deadline {
            if daemon.hasReported("ready") { return daemon }
            guard daemon.isRunning else { break }
            usleep(10_000)
        }
        let log = (try? String(contentsOfFile: daemon.log, encoding: .utf8)) ?? ""
        throw NDError(
            "lab.daemon", "the daemon of \(host.name) did not become ready", context: String(log.suffix(2000)))
    }

    /// A pre-shared key all hosts of the lab can use.
    public func writeKey(_ secret: String = "lab-\(getpid())-0123456789abcdef", name: String = "psk") throws -> String {
        let file = "\(directory)/\(name)"
        try secret.write(toFile: file, atomically: true, encoding: .utf8)
        chmod(file, 0o600)
        return file
    }

    /// Whatever is open.
    public func unload(_ host: Host, binary: String = Lab.ownBinary) throws {
        try Shell.run(binary, "unload", "--force", "--instance", host.instance, "--netns", host.namespacePath)
    }

    /// Ends the daemons, takes their datapaths and the namespaces away. Safe to call twice.
    public func close() {
        for daemon in daemons { daemon.kill() }
        daemons = []
        // One that is not there must not keep the others.
        if !namespaces.isEmpty {
            let file = "\(directory)/ip"
            let commands = namespaces.map { "netns del \($0)\n" }.joined()
            if (try? commands.write(toFile: file, atomically: false, encoding: .utf8)) != nil {
                _ = try? Shell.capture(["ip", "-force", "-batch", file])
            }
        }
        if !namespaces.isEmpty { for host in hosts { Self.forget(host) } }
        namespaces = []
        // For whoever looks for the cause of a failure: the daemons' logs.
        if ProcessInfo.processInfo.environment["NDBPF_LAB_KEEP"] == nil {
            try? FileManager.default.removeItem(atPath: directory)
        }
    }

    /// A namespace's end takes everything of ndbpf's away but this: a pinned program or link falls with its file. A
    /// process of ndbpf for each host would do the same, and costs an emulated machine half a second for each.
    private static func forget(_ host: Host) {
        for folder in ["/sys/fs/bpf/ndbpf", "/run/ndbpf"] {
            try? FileManager.default.removeItem(atPath: "\(folder)/\(host.instance)")
            rmdir(folder)
        }
    }

    /// The ndbpf binary: this process itself, or the one that the environment names (tests).
    public static var ownBinary: String {
        ProcessInfo.processInfo.environment["NDBPF_BINARY"] ?? "/proc/\(getpid())/exe"
    }

    private final class ResultBox<T>: @unchecked Sendable { var result: Result<T, any Error>? }
}

/// A running `ndbpf run`.
public final class DaemonProcess: @unchecked Sendable {
    public let host: Lab.Host
    public let log: String
    private let process = Process()

    init(host: Lab.Host, binary: String, log: String, arguments: [String]) throws {
        self.host = host
        self.log = log
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        guard let output = FileHandle(forWritingAtPath: log) else {
            throw NDError("lab.log", "can't write \(log)")
        }
        process.executableURL = URL(fileURLWithPath: binary)
        process.arguments = arguments
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
    }

    public var pid: Int32 { process.processIdentifier }
    public var isRunning: Bool { process.isRunning }

    public func hasReported(_ text: String) -> Bool {
        ((try? String(contentsOfFile: log, encoding: .utf8)) ?? "").contains(text)
    }

    public var logText: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    public func signal(_ number: Int32) { if process.isRunning { Glibc.kill(process.processIdentifier, number) } }

    /// SIGKILL, and waits.
    public func kill() {
        guard process.isRunning else { return }
        Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// SIGTERM, and waits at most `seconds`. Returns the exit code, nil when it had to be killed.
    @discardableResult
    public func stop(within seconds: Double = 10) -> Int32? {
        guard process.isRunning else { return process.terminationStatus }
        Glibc.kill(process.processIdentifier, SIGTERM)
        let deadline = Instant.now().advanced(by: .seconds(seconds))
        while process.isRunning, Instant.now() < deadline { usleep(5_000) }
        guard !process.isRunning else {
            kill()
            return nil
        }
        return process.terminationStatus
    }
}

public enum Shell {
    public struct Output: Sendable {
        public var status: Int32
        public var text: String
    }

    /// Runs a program found in PATH; throws when it fails.
    @discardableResult
    public static func run(_ arguments: String...) throws -> String {
        let output = try capture(arguments)
        guard output.status == 0 else {
            throw NDError(
                "lab.command", "`\(arguments.joined(separator: " "))` failed with \(output.status)",
                context: output.text.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        return output.text
    }

    /// Found by ourselves: going through env(1) would be a second exec.
    private static func path(of name: String) -> String? {
        guard !name.contains("/") else { return name }
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin").split(separator: ":")
        return folders.map { "\($0)/\(name)" }.first { access($0, X_OK) == 0 }
    }

    public static func capture(_ arguments: [String], environment: [String: String] = [:]) throws -> Output {
        guard let name = arguments.first else { throw NDError("lab.command", "an empty command") }
        // As a shell says it.
        guard let path = path(of: name) else { return Output(status: 127, text: "\(name): not found") }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = Array(arguments.dropFirst())
        if !environment.isEmpty {
            process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        }
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Output(status: process.terminationStatus, text: String(decoding: data, as: UTF8.self))
    }
}
