import Foundation
import NDCore
import NDLab
import Testing

/// What the kernel holds, and how fast it takes it, printed.
@Suite("SAs in number")
struct GuestCapacityTests {
    private struct Report: Decodable {
        struct Figure: Decodable {
            var what: String
            var unit: String
            var median: Double
            var met: Bool?
        }
        var bench: [Figure]
    }

    private static let runs = Guest.onEach(of: Guest.Kernel.stable) { kernel in
        let guest = try await Guest.run(
            kernel, options: [], seconds: 600,
            "/run/bin/ndbpf bench --sa-pairs 10000 --json > /run/results/figures.json")
        let file = "\(guest.results)/figures.json"
        guard guest.status == 0, let data = FileManager.default.contents(atPath: file),
            let report = try? JSONDecoder().decode(Report.self, from: data)
        else { throw NDError("guest.result", "\(kernel) ended with \(guest.status) and no figures", context: guest.output) }
        try? FileManager.default.removeItem(atPath: guest.results)
        return report.bench
    }

    @Test("10,000 pairs are 20,000 SAs and two policies, and go without a rest", arguments: Guest.Kernel.stable)
    func capacity(kernel: Guest.Kernel) async throws {
        let figures = try await #require(Self.runs[kernel]).value
        for figure in figures { print("Linux \(kernel): \(figure.what): \((figure.median * 10).rounded() / 10) \(figure.unit)") }
        #expect(figures.filter { $0.met == true }.count == 3)
        #expect(!figures.contains { $0.met == false })
        let installed = try #require(figures.first { $0.what == "SA pairs installed" })
        #expect(installed.median > 100)
    }
}
