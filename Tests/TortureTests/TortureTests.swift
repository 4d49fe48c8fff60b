import Foundation
import NDCore
import NDLab
import NDTorture
import Testing

@Suite("Torture", .serialized)
struct TortureTests {
    /// ND_TORTURE_SEED replays a run.
    private static let seed =
        ProcessInfo.processInfo.environment["ND_TORTURE_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 1...999_999) * 1000

    @Test("Whatever happens to two hosts, no packet of a secured connection is on the wire in clear")
    func short() throws {
        var options = try TortureOptions(binary: Lab.ownBinary, results: "/tmp/ndtorture-test-\(getpid())")
        options.worlds = 2
        // Each costs the life of an SA.
        options.kinds.removeAll { $0 == .expiry }
        let summary = Campaign(seed: Self.seed, trials: 30, options: options) { print($0) }.run()
        #expect(summary.trials == 30)
        #expect(summary.securedConnections > 30)
        #expect(summary.clearPackets == 0, "seed \(Self.seed): \(summary.text)")
        #expect(summary.isClean, "seeds \(summary.failedSeeds): \(summary.text)")
    }
}
