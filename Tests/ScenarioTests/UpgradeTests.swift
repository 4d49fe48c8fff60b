import Foundation
import NDCore
import NDLab
import Testing

/// The binary of the version before (`make upgrade-test` builds it).
private let previous = ProcessInfo.processInfo.environment["NDBPF_PREVIOUS"]
/// A machine that is emulated: everything takes its time there.
private let isGuest = ProcessInfo.processInfo.environment["NDBPF_GUEST"] != nil
private let patience: Double = isGuest ? 120 : 30

///     alpha (before, then now) ---- eth0, br0, eth0 ---- beta (before, then now)
///
/// A hundred TCP connections, half of them IPv6, are protected by the version before, and talk while it is replaced.
@Suite("An upgrade", .serialized)
struct UpgradeTests {
    enum Way: String, CaseIterable, CustomTestStringConvertible {
        case load, run, killedLoad
        var testDescription: String { rawValue }
    }

    static let attachments = isGuest ? [[]] : [[], ["--clsact"]]

    @Test(
        "From the version before: a hundred connections under load live on, and none of their packets is clear",
        .enabled(if: previous != nil), arguments: Way.allCases, attachments)
    func fromBefore(_ way: Way, arguments: [String]) throws {
        let old = try #require(previous)
        try hundred("up", from: old, way, arguments, deadFor: 20)
    }

    @Test("From another build with this ABI: the same", .enabled(if: !isGuest), arguments: attachments)
    func fromAnotherBuild(arguments: [String]) throws {
        try hundred("ub", from: Lab.ownBinary, .killedLoad, arguments, deadFor: 2) { host in
            // As another build would have marked it.
            let mark = "/sys/fs/bpf/ndbpf/\(host.instance)/build"
            try Shell.run("ln", "-sfn", "build-another", mark)
        }
    }

    private func hundred(
        _ tag: String, from old: String, _ way: Way, _ arguments: [String], deadFor seconds: UInt32,
        mark: (Lab.Host) throws -> Void = { _ in }
    ) throws {
        let stage = try Stage("\(tag)\(way.rawValue.prefix(2))\(arguments.count)", alpha: nil, beta: nil)
        defer { stage.close() }
        // A filter for what arrives protected: on the kernel engine its program hangs on the root cgroup.
        let policy = Scenarios.policy(
            "negotiation-discovery", key: stage.key,
            extra: "filters: [ { name: no discard port, layer: ALE_AUTH_RECV_ACCEPT_V4, action: BLOCK, conditions: [ { field: IP_LOCAL_PORT, value: 9 } ] } ]")
        for host in [stage.alpha, stage.beta] {
            try stage.lab.startDaemon(host, policy: policy, binary: old, arguments: arguments, readyWithin: patience)
            try mark(host)
        }
        let talk = try Talks(stage, count: 100)
        defer { talk.close() }
        try talk.waitUntilProtected()

        var engine = "?"
        for host in [stage.alpha, stage.beta] {
            let load = ["load", "--policy", stage.lab.policyFile(host)] + Lab.smallTables + arguments
            let early = try stage.ndbpf(host, load)
            #expect(early.status == 1 && early.text.contains("run.already"), "\(early.text)")
            usleep(300_000)
            let daemon = try #require(stage.lab.daemon(of: host))
            if host.name == "alpha" { daemon.kill() } else { daemon.stop() }
            usleep(300_000)
            switch way {
            case .load:
                let output = try stage.ndbpf(host, load)
                #expect(output.status == 0 && output.text.contains("took over"), "\(output.text)")
            case .killedLoad:
                for milliseconds in [5, 20, 60, 120, 200, 300, 450, 600, 800, 1000] { try stage.killed(host, load, after: milliseconds) }
                let output = try stage.ndbpf(host, load)
                // One of them may have come to its end.
                #expect(output.status == 0 || output.text.contains("loaded already"), "\(output.text)")
            case .run:
                break
            }
            if host.name == "alpha", way != .run { sleep(seconds) }
            try stage.lab.startDaemon(host, policy: policy, arguments: arguments, readyWithin: patience)
            #expect(talk.allGoOn(within: patience), "\(host.name): \(talk.broken)")
            let loaded = try #require(try stage.json(host, "status") as? [String: Any])
            #expect(loaded["instance"] as? String == host.instance)
            engine = loaded["engine"] as? String ?? "?"
        }
        sleep(1)
        #expect(talk.allGoOn(within: patience))
        #expect(talk.broken == [])
        let clear = try talk.clear()
        #expect(clear.isEmpty, "\(clear.count) clear packets, the first: \(clear.prefix(3))")
        print("upgrade by \(way.rawValue) \(arguments), \(engine) engine: \(talk.echoes) echoes over 100 connections, \(clear.count) clear packets, \(talk.broken.count) broken")
    }
}

extension Stage {
    func ndbpf(_ host: Lab.Host, _ arguments: [String]) throws -> Shell.Output {
        try Shell.capture([Lab.ownBinary] + arguments + ["--instance", host.instance, "--netns", host.namespacePath])
    }

    /// Starts a command and kills it.
    func killed(_ host: Lab.Host, _ arguments: [String], after milliseconds: Int) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Lab.ownBinary)
        process.arguments = arguments + ["--instance", host.instance, "--netns", host.namespacePath]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        usleep(UInt32(milliseconds) * 1000)
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }
}

/// Connections that talk without a pause, and what of them is seen on both wires.
final class Talks: @unchecked Sendable {
    private let stage: Stage
    private let connections: [Traffic.Connection]
    private let captures: [PacketCapture]
    private let lock = NSLock()
    private var counts: [Int]
    private var failures: [String] = []
    private var running = true
    private let finished = DispatchGroup()

    init(_ stage: Stage, count: Int) throws {
        self.stage = stage
        var made: [Traffic.Connection] = []
        for number in 0..<count {
            let family: Lab.Family = number % 2 == 0 ? .ipv4 : .ipv6
            let (source, target) = (stage.alpha.address(family), Endpoint(stage.beta.address(family), Servers.echoPort))
            made.append(try stage.lab.inside(stage.alpha) { try Traffic.connectTCP(from: source, to: target, timeoutSeconds: 90) })
        }
        connections = made
        counts = Array(repeating: 0, count: count)
        captures = [try PacketCapture(stage.lab, stage.alpha), try PacketCapture(stage.lab, stage.beta)]
        for number in connections.indices {
            finished.enter()
            let thread = Thread { [self] in
                talk(number)
                finished.leave()
            }
            thread.stackSize = 1 << 18
            thread.start()
        }
    }

    private func talk(_ number: Int) {
        var round = 0
        while lock.withLock({ running }) {
            do {
                try Traffic.echo(connections[number], Array("\(number) says \(round)".utf8))
            } catch {
                lock.withLock { if running { failures.append("connection \(number): \(error)") } }
                return
            }
            round += 1
            lock.withLock { counts[number] += 1 }
            usleep(isGuest ? 400_000 : 20_000)
        }
    }

    var echoes: Int { lock.withLock { counts.reduce(0, +) } }
    var broken: [String] { lock.withLock { failures } }

    func waitUntilProtected() throws {
        for _ in 0..<100 {
            for capture in captures { capture.clear() }
            let before = lock.withLock { counts }
            usleep(isGuest ? 4_000_000 : 200_000)
            let all = lock.withLock { zip(counts, before).allSatisfy { $0 > $1 } }
            if all, try clear().isEmpty { return }
        }
        throw NDError("test.talks", "the connections did not become protected")
    }

    /// Whether every connection was answered twice more.
    func allGoOn(within seconds: Double) -> Bool {
        let before = lock.withLock { counts }
        let deadline = Instant.now().advanced(by: .seconds(seconds))
        while Instant.now() < deadline {
            if lock.withLock({ zip(counts, before).allSatisfy { $0 >= $1 + 2 } }) { return true }
            usleep(50_000)
        }
        return false
    }

    /// Packets of the connections that are not ESP, on either wire.
    func clear() throws -> [WirePacket] {
        let flows = Dictionary(connections.map { ($0.flow.local, $0.flow) }, uniquingKeysWith: { first, _ in first })
        return captures.flatMap { $0.snapshot() }.filter { packet in
            guard packet.kind != .esp, packet.kind != .ike else { return false }
            let ends = [Endpoint(packet.source, packet.sourcePort), Endpoint(packet.destination, packet.destinationPort)]
            return ends.contains { end in flows[end].map { packet.belongs(to: $0) } ?? false }
        }
    }

    func close() {
        lock.withLock { running = false }
        for connection in connections { shutdown(connection.descriptor, Int32(SHUT_RDWR)) }
        finished.wait()
        for connection in connections { connection.close() }
    }
}
