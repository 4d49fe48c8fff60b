import Foundation
import NDCore
import NDLab
import Testing

/// ScenarioTests.UpgradeTests on the kernel engine, by clsact (6.1) and by TCX: the same tests run inside of guests.
@Suite("Upgrades in guests", .serialized, .enabled(if: ProcessInfo.processInfo.environment["NDBPF_PREVIOUS"] != nil))
struct GuestUpgradeTests {
    private static let previous = ProcessInfo.processInfo.environment["NDBPF_PREVIOUS"]

    private static let runs = Guest.onEach(of: Guest.Kernel.stable) { kernel in
        guard let previous else { throw NDError("test.previous", "NDBPF_PREVIOUS names no binary") }
        // Both binaries have one name, and copies go by name.
        let copy = "/tmp/ndbpf-before-\(getpid())-\(kernel.rawValue)"
        try FileManager.default.copyItem(atPath: previous, toPath: copy)
        defer { unlink(copy) }
        let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return try await Guest.run(
            kernel, options: ["--memory", "3G", "--copy", copy], seconds: 1500,
            "NDBPF_GUEST=1 NDBPF_PREVIOUS=/run/bin/\(copy.dropFirst("/tmp/".count)) NDBPF_BINARY=/run/bin/ndbpf '\(tests)' --testing-library swift-testing --filter ScenarioTests.UpgradeTests")
    }

    @Test("A hundred connections under load live on, and none of their packets is clear", arguments: Guest.Kernel.stable)
    func hundred(kernel: Guest.Kernel) async throws {
        let outcome = try await #require(Self.runs[kernel]).value
        #expect(outcome.status == 0, "\(kernel): \(outcome.output.suffix(4000))")
        let lines = outcome.output.split(separator: "\n").filter { $0.hasPrefix("upgrade by ") }
        #expect(lines.count == 3 && lines.allSatisfy { $0.contains("kernel engine") && $0.contains(" 0 clear packets, 0 broken") }, "\(lines)")
        for line in lines { print("\(kernel): \(line)") }
    }
}
