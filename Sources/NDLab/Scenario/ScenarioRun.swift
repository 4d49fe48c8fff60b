import CNDLab
import Foundation
import Glibc
import NDCore

/// One family's turn through the steps.
final class ScenarioRun: @unchecked Sendable {
    let stage: ScenarioStage
    private let run: Scenario.Run
    private let sink: CheckSink
    private let prefix: String
    private let report: @Sendable (ScenarioRunner.Event) -> Void

    private let lock = NSLock()
    private var captures: [String: PacketCapture] = [:]
    private var connections: [String: Traffic.Connection] = [:]
    private var open: Set<Int32> = []
    private var dropsBefore: [String: Int] = [:]

    var lab: Lab { stage.lab }
    var family: Lab.Family { run.family }

    init(
        stage: ScenarioStage, run: Scenario.Run, sink: CheckSink, prefix: String,
        report: @escaping @Sendable (ScenarioRunner.Event) -> Void
    ) {
        self.stage = stage
        self.run = run
        self.sink = sink
        self.prefix = prefix
        self.report = report
    }

    func play() {
        do {
            try noteDrops(run.steps)
            try play(run.steps)
        } catch let stopped as Stopped {
            check("the scenario can be played to its end", false, "\(stopped.place): \(stopped.error)")
        } catch {
            check("the scenario can be played to its end", false, "\(error)")
        }
        finish()
    }

    private struct Stopped: Error {
        var place: String
        var error: any Error
    }

    func check(_ claim: String, _ passed: Bool, _ detail: String) { sink.add("\(prefix): \(claim)", passed, detail) }

    private func play(_ steps: [Step]) throws {
        for step in steps {
            do {
                try perform(step)
            } catch let error as Stopped {
                throw error
            } catch {
                guard let claim = step.claim else { throw Stopped(place: step.place, error: error) }
                // The claim is what failed; the steps after it may say more.
                check(claim, false, "\(error)")
            }
        }
    }

    private func finish() {
        let (left, taken) = lock.withLock { (open, captures) }
        for descriptor in left { Glibc.close(descriptor) }
        for (name, capture) in taken {
            do { _ = try capture.stop() } catch { check("the capture '\(name)' is whole", false, "\(error)") }
        }
    }

    private func perform(_ step: Step) throws {
        switch step.action {
        case .capture(let on, let name):
            let capture = try PacketCapture(lab, try lab.host(on))
            lock.withLock { captures[name] = capture }
        case .forget(let name):
            try capture(name).clear()
        case .connect(let connect):
            try perform(connect, step.claim)
        case .echo(let echo):
            try perform(echo, step.claim)
        case .close(let name):
            let descriptor = try connection(name).descriptor
            if lock.withLock({ open.remove(descriptor) }) != nil { Glibc.close(descriptor) }
        case .transfer(let transfer):
            try perform(transfer, step.claim)
        case .datagram(let datagram):
            try perform(datagram, step.claim)
        case .scatter(let scatter):
            try perform(scatter)
        case .ping(let from, let to, let count):
            let output = try Shell.capture([
                "ip", "netns", "exec", try lab.host(from).namespace, "ping", "-c", "\(count)", "-i", "0.2", "-W", "2",
                try address(to).description,
            ])
            let line = output.text.split(separator: "\n").first { $0.contains("packets transmitted") }.map(String.init)
            try conclude(step.claim, output.status == 0, line ?? output.text)
        case .forge(let forge):
            try perform(forge)
        case .daemon(let name, let action):
            try perform(action, name)
        case .command(let command):
            try perform(command, step.claim)
        case .metrics(let on, let contains, let show):
            try metrics(on, contains, show, step.claim)
        case .compareConnects(let compare):
            try perform(compare, step.claim)
        case .wait(let span):
            usleep(UInt32(clamping: span.nanoseconds / 1000))
        case .together(let parts):
            try together(parts)
        case .again(let again):
            let end = again.duration.map { Instant.now().advanced(by: $0) }
            var done = 0
            while done < again.times, end.map({ Instant.now() < $0 }) ?? true {
                try play(again.steps)
                done += 1
                usleep(UInt32(clamping: again.every.nanoseconds / 1000))
            }
        case .packets(let expectation):
            let (passed, detail) = try evaluate(expectation)
            try conclude(step.claim, passed, detail)
        case .drops(let on, let reason, let range):
            let count = try Scenarios.dropCount(lab, try lab.host(on), reason) - (dropsBefore["\(on) \(reason)"] ?? 0)
            try conclude(step.claim, range.contains(count), "\(count) dropped as \(reason)")
        }
    }

    /// A claim becomes a check; a step that claims nothing must simply have worked.
    func conclude(_ claim: String?, _ passed: Bool, _ detail: String) throws {
        if let claim {
            check(claim, passed, detail)
        } else if !passed {
            throw NDError("scenario.step", detail)
        }
    }

    /// Counters are the host's; this run's drops are what was added since its begin.
    private func noteDrops(_ steps: [Step]) throws {
        for step in steps {
            switch step.action {
            case .drops(let on, let reason, _):
                dropsBefore["\(on) \(reason)"] = try Scenarios.dropCount(lab, try lab.host(on), reason)
            case .again(let again):
                try noteDrops(again.steps)
            case .together(let parts):
                for part in parts { try noteDrops(part) }
            default:
                break
            }
        }
    }

    private func together(_ parts: [[Step]]) throws {
        let failures = Failures()
        DispatchQueue.concurrentPerform(iterations: parts.count) { index in
            do { try self.play(parts[index]) } catch { failures.add(error) }
        }
        if let error = failures.first { throw error }
    }

    private final class Failures: @unchecked Sendable {
        private let lock = NSLock()
        private var errors: [any Error] = []
        func add(_ error: any Error) { lock.withLock { errors.append(error) } }
        var first: (any Error)? { lock.withLock { errors.first } }
    }

    private func evaluate(_ expectation: PacketExpectation) throws -> (Bool, String) {
        let packets = try capture(expectation.capture).snapshot()
        let names = lock.withLock {
            PacketPredicate.Names(
                flows: connections.mapValues(\.flow), begins: connections.mapValues(\.began), addresses: [:])
        }
        var complete = names
        for host in lab.hosts { complete.addresses[host.name] = host.address(family) }
        guard let matches = expectation.predicate.matcher(complete) else {
            throw NDError("scenario.packets", "the packets of a connection that was never opened")
        }
        var reference: UInt64?
        switch expectation.near?.to {
        case .connect(let name): reference = complete.begins[name]
        case .packet(let predicate):
            if let matcher = predicate.matcher(complete) { reference = packets.first(where: matcher)?.time }
        case nil: break
        }
        return expectation.verdict(packets.filter(matches), of: packets, reference: reference)
    }

    private func metrics(_ on: String, _ contains: [String], _ show: [String], _ claim: String?) throws {
        let host = try lab.host(on)
        let text = try lab.inside(host) { try Scenarios.httpGet(Endpoint(host.ipv4, 9466), "/metrics") }
        let lines = text.split(separator: "\n")
        for line in lines where show.contains(where: { line.hasPrefix($0) }) && !line.hasSuffix(" 0") {
            report(.shown(String(line)))
        }
        let missing = contains.filter { !text.contains($0) }
        try conclude(
            claim, missing.isEmpty,
            missing.isEmpty ? "\(lines.count) lines" : "missing: \(missing.joined(separator: ", "))")
    }

    // MARK: what names stand for

    func address(_ name: String) throws -> IPAddress { try lab.host(name).address(family) }

    func connection(_ name: String) throws -> Traffic.Connection {
        guard let connection = lock.withLock({ connections[name] }) else {
            throw NDError("scenario.connection", "'\(name)' was never opened")
        }
        return connection
    }

    /// The name's last bearer lives on until the run ends.
    func remember(_ connection: Traffic.Connection, as name: String) {
        lock.withLock {
            connections[name] = connection
            open.insert(connection.descriptor)
        }
    }

    func forgetOpen(_ descriptor: Int32) { lock.withLock { _ = open.remove(descriptor) } }

    private func capture(_ name: String) throws -> PacketCapture {
        guard let capture = lock.withLock({ captures[name] }) else {
            throw NDError("scenario.capture", "the capture '\(name)' was never begun")
        }
        return capture
    }
}
