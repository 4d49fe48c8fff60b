import Foundation
import NDCore

/// A claim, whether the wire bears it out, and with which numbers.
public struct Check: Sendable, Codable, Hashable {
    /// The scenario's file, without its extension.
    public var scenario = ""
    public var claim: String
    public var passed: Bool
    public var detail: String

    public init(scenario: String = "", claim: String, passed: Bool, detail: String) {
        self.scenario = scenario
        self.claim = claim
        self.passed = passed
        self.detail = detail
    }
}

/// Plays scenarios on hosts in network namespaces, on this kernel: a server's, or a guest's.
public struct ScenarioRunner: Sendable {
    public var conditions: RunConditions
    /// Told of every check as it is made, and of what a scenario shows.
    public var report: @Sendable (Event) -> Void

    public enum Event: Sendable {
        case check(Check)
        case shown(String)
    }

    /// Daemons' logs of failed cases go into this folder.
    public var logs: String?

    public init(conditions: RunConditions, logs: String? = nil, report: @escaping @Sendable (Event) -> Void = { _ in }) {
        self.conditions = conditions
        self.logs = logs
        self.report = report
    }

    /// Never throws: what goes wrong is a failed check.
    public func run(_ scenario: Scenario, firstCaseOnly: Bool = false) -> [Check] {
        var all: [Check] = []
        for one in firstCaseOnly ? Array(scenario.cases.prefix(1)) : scenario.cases {
            let sink = CheckSink(scenario: scenario.name, report: report)
            do {
                let stage = try ScenarioStage(one, conditions: conditions)
                defer { stage.close() }
                for run in one.runs {
                    let names = [run.family.rawValue, one.name].filter { !$0.isEmpty }.joined(separator: ", ")
                    ScenarioRun(stage: stage, run: run, sink: sink, prefix: names, report: report).play()
                }
                if sink.checks.contains(where: { !$0.passed }) { keepLogs(stage, "\(scenario.name)-\(one.name)") }
            } catch {
                sink.add(one.name.isEmpty ? "the hosts start" : "\(one.name): the hosts start", false, "\(error)")
            }
            all += sink.checks
        }
        return all
    }

    private func keepLogs(_ stage: ScenarioStage, _ name: String) {
        guard let logs else { return }
        let safe = name.map { $0.isLetter || $0.isNumber ? $0 : "-" }
        for host in stage.plans where host.ndbpf != nil {
            guard let log = try? String(contentsOfFile: "\(stage.lab.directory)/\(host.name).log", encoding: .utf8) else { continue }
            try? log.write(toFile: "\(logs)/\(String(safe))-\(host.name).log", atomically: true, encoding: .utf8)
        }
    }
}

/// Collects the checks of one case; parts of a scenario may run beside each other.
final class CheckSink: @unchecked Sendable {
    private let scenario: String
    private let report: @Sendable (ScenarioRunner.Event) -> Void
    private let lock = NSLock()
    private var made: [Check] = []

    init(scenario: String, report: @escaping @Sendable (ScenarioRunner.Event) -> Void) {
        self.scenario = scenario
        self.report = report
    }

    var checks: [Check] { lock.withLock { made } }

    func add(_ claim: String, _ passed: Bool, _ detail: String) {
        let check = Check(scenario: scenario, claim: claim, passed: passed, detail: detail)
        lock.withLock { made.append(check) }
        report(.check(check))
    }
}

/// The hosts of one case, with their daemons and servers.
final class ScenarioStage: @unchecked Sendable {
    let lab: Lab
    let plans: [Scenario.HostPlan]
    private let key: String
    private let patience: Double
    private var servers: [Servers] = []
    private var swallowing: [Int32] = []

    private static let counter = Counter()

    init(_ one: Scenario.Case, conditions: RunConditions) throws {
        plans = one.hosts
        patience = conditions.guest ? 120 : 20
        lab = try Lab(tag: "s\(Self.counter.next())", hosts: one.hosts.map(\.name), mtu: one.mtu, nat: one.nat)
        do {
            key = try lab.writeKey()
            // Where a policy file beside them names them "callouts/NAME.bpf.o".
            if one.hosts.contains(where: { $0.ndbpf?.extra.contains("callouts/") ?? false }) {
                try FileManager.default.createDirectory(
                    atPath: "\(lab.directory)/callouts", withIntermediateDirectories: false)
                for object in ScenarioCatalog.callouts {
                    try Data(object.bytes).write(to: URL(fileURLWithPath: "\(lab.directory)/\(object.name)"))
                }
            }
            for plan in plans {
                let host = try lab.host(plan.name)
                for command in plan.prepare {
                    try Shell.run("ip", "netns", "exec", host.namespace, "sh", "-c", command)
                }
                if plan.serves { servers.append(try Servers(lab, host)) }
                for port in plan.swallows {
                    for address in [host.ipv4, host.ipv6] {
                        swallowing.append(try lab.inside(host) { try Traffic.openUDP(Endpoint(address, port)) })
                    }
                }
            }
            for plan in plans where plan.ndbpf != nil { try start(plan.name) }
        } catch {
            lab.close()
            throw error
        }
    }

    func start(_ name: String) throws {
        guard let plan = plans.first(where: { $0.name == name }), let policy = plan.ndbpf else {
            throw NDError("scenario.daemon", "\(name) is a plain host")
        }
        try lab.startDaemon(
            try lab.host(name), policy: try policy.text(key: key), arguments: plan.arguments, readyWithin: patience)
    }

    func close() {
        for server in servers { server.close() }
        for descriptor in swallowing { Glibc.close(descriptor) }
        swallowing = []
        lab.close()
    }

    private final class Counter: @unchecked Sendable {
        private let lock = NSLock()
        private var value = 0
        func next() -> Int {
            lock.withLock {
                value += 1
                return value
            }
        }
    }
}
