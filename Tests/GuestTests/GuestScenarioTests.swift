import Foundation
import NDCore
import NDLab
import Testing

/// Every scenario file on Debian's stable kernels, those of the latch on its newest: each guest is booted once and
/// plays them one after the other. All guests start at once, for each sleeps a part of its time; the longest decide when
/// the tests end, so 6.1 and 6.12 share what is the same on both.
@Suite("Scenario files in guests", .serialized)
struct GuestScenarioTests {
    /// `kernel`, unless NDBPF_GUEST_ENGINE says otherwise.
    static let engine =
        ProcessInfo.processInfo.environment["NDBPF_GUEST_ENGINE"].flatMap(RunConditions.Engine.init(rawValue:)) ?? .kernel

    private struct Report: Decodable {
        var version: Int
        var demo: [Check]
    }

    private static let runs = Guest.onEach { try await play($0, $0.scenarios) }
    private static let offloadedRuns = Guest.onEach(of: Guest.Kernel.stable) {
        try await play($0, "injection latch upgrade", options: ["--offload"])
    }

    private static func play(_ kernel: Guest.Kernel, _ scenarios: String, options: [String] = []) async throws -> [Check] {
        // The user engine's part of a TCG machine is a program's: it stalls where the kernel's does not.
        let settings = engine == .user ? " --set stall=1s" : ""
        let guest = try await Guest.run(
            kernel, options: options, seconds: 2700,
            "/run/bin/ndbpf demo \(scenarios) --guest --engine \(engine.rawValue)\(settings) --json --logs /run/results > /run/results/checks.json")
        let file = "\(guest.results)/checks.json"
        // 1: a claim failed, which the tests below say one by one.
        guard guest.status == 0 || guest.status == 1, let data = FileManager.default.contents(atPath: file),
            let report = try? JSONDecoder().decode(Report.self, from: data)
        else {
            throw NDError(
                "guest.result", "\(kernel) ended with \(guest.status) and no result", context: guest.output,
                hint: "\(guest.results) has its console.log and the daemons' logs")
        }
        if guest.status == 0 { try? FileManager.default.removeItem(atPath: guest.results) }
        return report.demo
    }

    private static let played = Guest.Kernel.allCases.flatMap { kernel in
        ScenarioName.all.filter { kernel.plays($0.name) }.map { (kernel, $0) }
    }

    @Test("It holds in a guest", arguments: played)
    func holds(kernel: Guest.Kernel, scenario: ScenarioName) async throws {
        let run = try #require(Self.runs[kernel])
        // Beside the others, not when they are done.
        if Self.engine == .kernel { _ = Self.offloadedRuns }
        let checks = try await run.value.filter { $0.scenario == scenario.name }
        #expect(!checks.isEmpty, "\(kernel) has no result of \(scenario.name)")
        for check in checks { #expect(check.passed, "\(kernel): \(check.claim): \(check.detail)") }
    }

    /// With these modules ESP looks different at TC: framed plaintext on its way out, decrypted and
    /// merged packets on its way in where GRO took them. Verdicts must be the same.
    @Test("With the ESP offload modules loaded the verdicts are the same", .enabled(if: engine == .kernel), arguments: Guest.Kernel.stable)
    func offloaded(kernel: Guest.Kernel) async throws {
        let run = try #require(Self.offloadedRuns[kernel])
        let checks = try await run.value
        #expect(Set(checks.map(\.scenario)) == ["injection", "latch", "upgrade"])
        for check in checks { #expect(check.passed, "\(kernel): \(check.scenario): \(check.claim): \(check.detail)") }
    }
}

extension Guest.Kernel {
    /// What a kernel that changes every few weeks is asked: that nothing leaves in clear, and that programs and
    /// pins come and go.
    private static let ofTheLatch = ["latch", "upgrade", "injection", "secured-peer", "unload"]

    /// What the daemon and the policy's filters decide, whatever kernel is below: when a peer is asked, what an answer
    /// of a filter is. One of the stable kernels plays each, and natively the user's engine does. All others are
    /// of packets that a kernel's ESP, its hooks (6.1 has clsact alone, 6.12 TCX and netfilter programs) or its
    /// fragments and offloads have a part in: both play them.
    private static let ofTheDaemon: [String: Self] = [
        "apply": .v6_12, "back-off": .v6_12, "both-start": .v6_12, "metrics": .v6_12, "scan": .v6_12, "machine": .v6_12,
        "refused-host": .v6_1, "filters-answer": .v6_1, "filters-icmp": .v6_1, "filters-inbound": .v6_1,
        "filters-negotiation": .v6_1, "filters-persistence": .v6_1,
    ]

    fileprivate func plays(_ scenario: String) -> Bool {
        self == .newest ? Self.ofTheLatch.contains(scenario) : Self.ofTheDaemon[scenario, default: self] == self
    }

    fileprivate var scenarios: String { ScenarioName.all.map(\.name).filter(plays).joined(separator: " ") }
}

/// A scenario file, shown by its title; those that are not for this engine left out.
struct ScenarioName: Sendable, CustomTestStringConvertible {
    let name: String
    let title: String
    var testDescription: String { title }

    static let all: [ScenarioName] = ScenarioCatalog.files.compactMap { file in
        let conditions = RunConditions(engine: GuestScenarioTests.engine, guest: true)
        guard let scenario = try? ScenarioCatalog.scenario(file.name, conditions: conditions) else {
            return ScenarioName(name: file.name, title: file.name)
        }
        return scenario.cases.isEmpty ? nil : ScenarioName(name: file.name, title: scenario.title)
    }
}
