import Foundation
import Glibc
import NDCore
import NDLab

public struct TortureOptions: Sendable {
    public var binary: String
    /// The plan's engine: user or kernel.
    public var engine = "user"
    public var kinds = EventKind.allCases
    /// All times times this; for slow machines.
    public var pace = 1.0
    public var worlds = 3
    /// Where the captures and logs of failed trials are kept.
    public var results: String
    public var abilities: Abilities

    public struct Abilities: Sendable {
        public var forcesUnload: Bool
        public var hangsOnNoDevice: Bool
    }

    public init(binary: String, results: String) throws {
        self.binary = binary
        self.results = results
        let help = try Shell.capture([binary, "unload", "--help"])
        guard help.status == 0 else { throw NDError("torture.binary", "\(binary) is no ndbpf", context: help.text) }
        var name = utsname()
        uname(&name)
        let release = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        abilities = Abilities(
            forcesUnload: help.text.contains("--force"), hangsOnNoDevice: numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 4))
        if !abilities.forcesUnload { kinds.removeAll { $0 == .unload } }
        if !abilities.hangsOnNoDevice { kinds.removeAll(where: \.needsGuardWithoutDevice) }
    }
}

/// Trials by the hundred, in a few worlds at a time.
public final class Campaign: @unchecked Sendable {
    public struct Summary: Sendable, Codable {
        public var firstSeed: UInt64
        public var trials = 0
        public var seconds = 0.0
        public var kernel = ""
        public var engine = ""
        public var events: [String: Int] = [:]
        public var packets: [String: Int] = [:]
        public var securedConnections = 0
        public var clearPackets = 0
        public var faults: [String: Int] = [:]
        public var failedSeeds: [UInt64] = []

        /// Nothing was sent or accepted that must not, and all goes on.
        public var isClean: Bool { failedSeeds.isEmpty }
        public var leaks: Int { clearPackets }
    }

    private let options: TortureOptions
    private let report: @Sendable (String) -> Void
    private let lock = NSLock()
    private var summary: Summary
    private var chunks: [[UInt64]]
    private let total: Int
    private let begun = Instant.now()
    private var worldsMade = 0
    private var isStopped = false

    public init(seed: UInt64, trials: Int, options: TortureOptions, report: @escaping @Sendable (String) -> Void) {
        self.options = options
        self.report = report
        total = trials
        summary = Summary(firstSeed: seed)
        summary.engine = options.engine
        summary.kernel = (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8))?
            .trimmingCharacters(in: .whitespacesAndNewlines) ?? ""
        var chunks: [[UInt64]] = []
        for index in 0..<UInt64(max(0, trials)) {
            let number = seed &+ index
            if let last = chunks.last?.last, last / WorldPlan.seedsOfOne == number / WorldPlan.seedsOfOne {
                chunks[chunks.count - 1].append(number)
            } else {
                chunks.append([number])
            }
        }
        self.chunks = chunks.reversed()
    }

    public func run() -> Summary {
        let group = DispatchGroup()
        for _ in 0..<max(1, min(options.worlds, chunks.count)) {
            group.enter()
            let thread = Thread { [self] in
                while let chunk = lock.withLock({ chunks.popLast() }) { play(chunk) }
                group.leave()
            }
            thread.stackSize = 4 << 20
            thread.start()
        }
        group.wait()
        return lock.withLock {
            summary.seconds = Instant.now().since(begun).seconds
            return summary
        }
    }

    /// No further trial; those that run come to their end, and their worlds are taken away.
    public func stop() {
        lock.withLock {
            isStopped = true
            chunks = []
        }
    }

    private func play(_ seeds: [UInt64]) {
        var world: World?
        defer { world?.close() }
        for seed in seeds {
            guard !lock.withLock({ isStopped }) else { return }
            let plan = WorldPlan(seed: seed, engine: options.engine)
            do {
                let present = try world ?? make(plan, seed)
                world = present
                var trial = Trial(seed: seed, world: present)
                let result = trial.run()
                take(result, present)
                if !result.faults.isEmpty {
                    present.close()
                    world = nil
                }
            } catch {
                var result = TrialResult(seed: seed)
                result.faults.append((.trouble, "no world (\(plan)): \(error)"))
                take(result, nil)
                world = nil
            }
        }
    }

    private func make(_ plan: WorldPlan, _ seed: UInt64) throws -> World {
        let number = lock.withLock { () -> Int in
            worldsMade += 1
            return worldsMade
        }
        return try World(plan, tag: "t\(number)", seed: seed, options: options)
    }

    private func take(_ result: TrialResult, _ world: World?) {
        let kept = result.faults.isEmpty ? nil : keep(result, world)
        lock.withLock {
            summary.trials += 1
            for event in result.events { summary.events[event.planned.kind.rawValue, default: 0] += 1 }
            for kind in SentPacket.Kind.allCases { summary.packets["\(kind)", default: 0] += result.counts[kind.rawValue] }
            summary.securedConnections += result.secured
            summary.clearPackets += result.leaks.count
            for fault in Set(result.faults.map(\.0)) { summary.faults[fault.rawValue, default: 0] += 1 }
            if let kept {
                summary.failedSeeds.append(result.seed)
                report(kept)
            }
            if summary.trials % max(1, min(25, total / 10)) == 0 || summary.trials == total {
                let done = Instant.now().since(begun).seconds
                report(
                    "\(summary.trials) of \(total) trials in \(Int(done)) s: \(summary.securedConnections) secured connections, \(summary.packets.values.reduce(0, +)) packets, \(summary.clearPackets) clear ones of them, \(summary.failedSeeds.count) failed trials"
                )
            }
        }
    }

    /// Writes what a failed trial left, and tells of it.
    private func keep(_ result: TrialResult, _ world: World?) -> String {
        var lines = ["FAILED seed \(result.seed): \(Set(result.faults.map(\.0.rawValue)).sorted().joined(separator: ", "))"]
        if let world { lines.append("  world: \(world.plan)") }
        for event in result.events {
            lines.append("  \((event.began * 1000).rounded() / 1000) s: \(event.planned)\(event.outcome.isEmpty ? "" : ": \(event.outcome)")")
        }
        for (fault, text) in result.faults { lines.append("  \(fault.rawValue): \(text)") }
        let leaked = result.leaks.first
        for leak in result.leaks.prefix(3) {
            let hex = leak.frame.prefix(96).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
            lines.append("  packet at \(leak.time): \(hex)")
        }
        let folder = "\(options.results)/\(result.seed)"
        do {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try CaptureFile.write(result.packets, to: "\(folder)/wire.pcap")
            if let leaked { lines.append("  first of \(result.leaks.count) at \(leaked.time); \(folder)/wire.pcap has all") }
            if let world { try world.keepState(in: folder) }
            try (lines.joined(separator: "\n") + "\n").write(toFile: "\(folder)/report", atomically: true, encoding: .utf8)
        } catch {
            lines.append("  (could not keep its files: \(error))")
        }
        lines.append("  replay: ndtorture --seed \(result.seed) --trials 1; files: \(folder)")
        return lines.joined(separator: "\n")
    }
}

extension Campaign.Summary {
    public var text: String {
        func table(_ counts: [String: Int]) -> String {
            counts.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) \($0.value)" }.joined(separator: ", ")
        }
        return """
            kernel               \(kernel), engine \(engine)
            seeds                \(firstSeed) to \(firstSeed &+ UInt64(max(trials, 1)) &- 1)
            trials               \(trials) in \(Int(seconds)) s
            events               \(events.values.reduce(0, +)): \(table(events))
            packets on the wire  \(packets.values.reduce(0, +)): \(table(packets))
            secured connections  \(securedConnections)
            clear packets of one \(clearPackets)
            failed trials        \(failedSeeds.count)\(failedSeeds.isEmpty ? "" : ": \(table(faults))")
            """
    }
}

/// The classic capture format with nanoseconds, Ethernet.
enum CaptureFile {
    static func write(_ packets: [SentPacket], to file: String) throws {
        var bytes: [UInt8] = []
        func add(_ value: UInt32) { withUnsafeBytes(of: value.littleEndian) { bytes += $0 } }
        add(0xa1b2_3c4d)
        bytes += [2, 0, 4, 0]
        for value in [0, 0, 65_536, 1] as [UInt32] { add(value) }
        for packet in packets.sorted(by: { $0.time < $1.time }) {
            add(UInt32(truncatingIfNeeded: packet.time / 1_000_000_000))
            add(UInt32(truncatingIfNeeded: packet.time % 1_000_000_000))
            add(UInt32(truncatingIfNeeded: packet.frame.count))
            add(UInt32(truncatingIfNeeded: packet.length))
            bytes += packet.frame
        }
        try Data(bytes).write(to: URL(fileURLWithPath: file))
    }
}
