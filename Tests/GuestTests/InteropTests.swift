import Foundation
import NDCore
import NDInterop
import Testing

/// Both guests run the whole matrix once; each kernel's result is judged by itself.
@Suite("strongSwan and libreswan", .serialized)
struct InteropTests {
    private static let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    private static let results = Result {
        let binary = try #require(
            ProcessInfo.processInfo.environment["NDBPF_BINARY"], "NDBPF_BINARY names ndbpf; ndinterop lies beside it")
        let matrix = GuestMatrix(
            source: source, binaries: URL(fileURLWithPath: binary).deletingLastPathComponent().path,
            engine: ProcessInfo.processInfo.environment["NDBPF_INTEROP_ENGINE"] ?? "kernel")
        return try matrix.run(GuestMatrix.kernels, results: "/tmp/ndbpf-interop-\(getpid())")
    }

    @Test("negotiate, talk, rekey and delete with ndbpf in every cell, and tshark reads all of it", arguments: GuestMatrix.kernels)
    func cells(kernel: String) throws {
        let result = try #require(try Self.results.get().first { $0.kernel.hasPrefix(kernel + ".") })
        #expect(!result.cells.isEmpty)
        for cell in result.cells {
            #expect(cell.failures.isEmpty, "Linux \(kernel), \(cell.name): \(cell.failures.joined(separator: "; "))")
            #expect(cell.espPackets > 0 && cell.decrypted == cell.espPackets, "Linux \(kernel), \(cell.name)")
        }
    }

    @Test("find ndbpf alive, and make no connection wait a second", arguments: GuestMatrix.kernels)
    func checks(kernel: String) throws {
        let result = try #require(try Self.results.get().first { $0.kernel.hasPrefix(kernel + ".") })
        #expect(!result.checks.isEmpty)
        for check in result.checks { #expect(!check.outcome.isFailure, "Linux \(kernel), \(check.name): \(check.outcome)") }
        for connects in result.coldConnects { print("Linux \(kernel), \(connects.name): median \(Int(connects.median)) ms") }
    }

    @Test("are in docs/interop.md with the cells that ran, no more and no fewer")
    func table() throws {
        let committed = InteropTable.cells(in: try String(contentsOfFile: Self.source + "/docs/interop.md", encoding: .utf8))
        #expect(committed == InteropTable.cells(try Self.results.get()))
    }
}
