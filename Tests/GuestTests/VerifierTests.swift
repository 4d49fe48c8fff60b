import Foundation
import NDCore
import NDDatapath
import NDLab
import Testing

/// What each kernel's verifier counts for each program. Its limit is 1,000,000; how far a program is from it is
/// luck where a verifier follows two ways on that another one joins, so all of them are looked at.
@Suite("Steps of the verifiers")
struct VerifierTests {
    private struct Output: Decodable { var verifier: [VerifierReport] }

    /// One kernel's.
    private struct Column: Sendable {
        var kernel: String
        var reports: [VerifierReport]
    }

    private static let runs = Guest.onEach { kernel in
        let guest = try await Guest.run(
            kernel, seconds: 1200, "uname -r > /run/results/kernel; /run/bin/ndbpf bench --verifier --json > /run/results/verifier.json")
        let folder = guest.results
        guard guest.status == 0, let data = FileManager.default.contents(atPath: "\(folder)/verifier.json"),
            let output = try? JSONDecoder().decode(Output.self, from: data),
            let name = try? String(contentsOfFile: "\(folder)/kernel", encoding: .utf8)
        else { throw NDError("guest.result", "\(kernel) ended with \(guest.status) and no count", context: guest.output) }
        try? FileManager.default.removeItem(atPath: folder)
        return Column(kernel: name.trimmingCharacters(in: .whitespacesAndNewlines), reports: output.verifier)
    }

    @Test("Every program takes a quarter of what a verifier allows at most, on every kernel")
    func steps() async throws {
        var columns = [Column(kernel: VerifierReport.kernelRelease, reports: try VerifierReport.all())]
        for kernel in Guest.Kernel.allCases { columns.append(try await #require(Self.runs[kernel]).value) }
        print((["verifier steps"] + columns.map(\.kernel) + ["goal"]).joined(separator: " | "))
        for (row, program) in columns[0].reports.map(\.program).enumerated() {
            let reports = columns.map { $0.reports.indices.contains(row) ? $0.reports[row] : nil }
            print(([program] + reports.map { $0?.steps.map { "\($0)" } ?? "-" } + ["<= \(VerifierReport.goal)"]).joined(separator: " | "))
            for (column, report) in zip(columns, reports) {
                let report = try #require(report, "\(column.kernel) said nothing of \(program)")
                #expect(report.program == program)
                // 6.1 has no netfilter programs, and its interfaces no guard but those on devices.
                if report.isAbsent, column.kernel.hasPrefix("6.1."), program.hasPrefix("nd_hook_") { continue }
                #expect(report.error == 0, "\(column.kernel) refuses \(program): \(report.remark ?? "")")
                let steps = try #require(report.steps)
                #expect(steps <= VerifierReport.most, "\(column.kernel): \(program)")
            }
        }
    }
}
