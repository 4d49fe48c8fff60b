import Foundation
import NDCore
import NDLab

/// A machine with a kernel of its own, that runs one command and is gone: deploy/guest-run.
struct Guest: Sendable {
    enum Kernel: String, Sendable, CaseIterable, CustomStringConvertible {
        case v6_1 = "6.1"
        case v6_12 = "6.12"
        /// That of Debian's newest backports: 7.3 in November 2026.
        case newest
        var description: String { "Linux \(rawValue)" }

        /// Those of Debian's stable releases, which all of the tests are played on.
        static let stable: [Kernel] = [.v6_1, .v6_12]
    }

    /// One machine for each kernel, started beside each other when the first test asks.
    static func onEach<Value: Sendable>(
        of kernels: [Kernel] = Kernel.allCases, _ body: @escaping @Sendable (Kernel) async throws -> Value
    ) -> [Kernel: Task<Value, any Error>] {
        Dictionary(uniqueKeysWithValues: kernels.map { kernel in (kernel, Task { try await body(kernel) }) })
    }

    struct Outcome: Sendable {
        var status: Int32
        var output: String
        /// What the guest wrote to /run/results, and its console.log.
        var results: String
    }

    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    /// Runs a shell command; the binary under test is /run/bin/ndbpf.
    static func run(_ kernel: Kernel, options: [String] = [], seconds: Int = 600, _ command: String) async throws -> Outcome {
        let results = "/tmp/ndbpf-guest-\(getpid())-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: results, withIntermediateDirectories: true)
        let arguments =
            ["\(root)/deploy/guest-run", "--timeout", "\(seconds)", "--results", results, "--copy", Lab.ownBinary] + options
            + [kernel.rawValue, "--", command]
        // A thread of its own: minutes of waiting would hold one of the few that tests run on.
        return try await withCheckedThrowingContinuation { continuation in
            let thread = Thread {
                continuation.resume(
                    with: Result {
                        let output = try Shell.capture(arguments)
                        return Outcome(status: output.status, output: output.text, results: results)
                    })
            }
            thread.start()
        }
    }
}
