import Foundation
import NDCore
import NDLab

/// The matrix from outside: boots a guest, waits for its results, and lets tshark read the captures
/// with the keys of the peers' kernels.
public struct GuestMatrix: Sendable {
    /// Where deploy/ is.
    public var source: String
    /// Where ndbpf and ndinterop are.
    public var binaries: String
    public var engine: String
    public var only: [String] = []
    public var timeoutSeconds = 1200

    public init(source: String, binaries: String, engine: String) {
        self.source = source
        self.binaries = binaries
        self.engine = engine
    }

    public static let kernels = ["6.1", "6.12"]

    /// All guests at once; in the order of `series`.
    public func run(_ series: [String], results: String) throws -> [MatrixResult] {
        let outcomes = Outcomes(series.count)
        let group = DispatchGroup()
        for (index, one) in series.enumerated() {
            let thread = Thread {
                outcomes.set(index, Result { try run(one, results: "\(results)/\(one)") })
                group.leave()
            }
            group.enter()
            thread.start()
        }
        group.wait()
        return try outcomes.all.map { try $0.get() }
    }

    private final class Outcomes: @unchecked Sendable {
        private let lock = NSLock()
        private var found: [Result<MatrixResult, any Error>]

        init(_ count: Int) {
            found = Array(
                repeating: .failure(NDError("interop.thread", "a guest's thread left no result")), count: count)
        }

        func set(_ index: Int, _ result: Result<MatrixResult, any Error>) { lock.withLock { found[index] = result } }
        var all: [Result<MatrixResult, any Error>] { lock.withLock { found } }
    }

    /// `series` is what deploy/guest-run takes: 6.1 or 6.12. Everything that was found stays in `results`.
    public func run(_ series: String, results: String) throws -> MatrixResult {
        try FileManager.default.createDirectory(atPath: results, withIntermediateDirectories: true)
        let old = "\(results)/\(MatrixRun.resultFile)"
        try? FileManager.default.removeItem(atPath: old)
        let peers = try Shell.run("\(source)/deploy/interop-peers").split(separator: "\n").last.map(String.init) ?? ""
        var command = [
            "NDBPF_BINARY=/run/bin/ndbpf", "/run/bin/ndinterop", "guest", "--peers", peers, "--results", "/run/results",
            "--engine", engine,
        ]
        for name in only { command += ["--only", "'\(name.filter { $0 != "'" })'"] }
        let output = try Shell.capture([
            "\(source)/deploy/guest-run", "--results", results, "--timeout", "\(timeoutSeconds)", "--memory", "1G",
            "--copy", "\(binaries)/ndbpf", "--copy", "\(binaries)/ndinterop", series, "--", command.joined(separator: " "),
        ])
        try? output.text.write(toFile: "\(results)/output.txt", atomically: true, encoding: .utf8)
        guard FileManager.default.fileExists(atPath: old) else {
            throw NDError(
                "interop.guest", "the guest with Linux \(series) gave no result", context: String(output.text.suffix(3000)),
                hint: "see \(results)")
        }
        return try Self.kept(results)
    }

    /// What a run left in its folder, seen by tshark.
    public static func kept(_ results: String) throws -> MatrixResult {
        let file = "\(results)/\(MatrixRun.resultFile)"
        guard let data = FileManager.default.contents(atPath: file) else {
            throw NDError("interop.results", "\(file) can't be read", hint: "name the folder of a finished run")
        }
        return try witnessed(try JSONDecoder().decode(MatrixResult.self, from: data), results: results)
    }

    /// Fills in how much tshark decrypted.
    static func witnessed(_ result: MatrixResult, results: String) throws -> MatrixResult {
        var result = result
        for kind in PeerKind.allCases {
            guard let data = FileManager.default.contents(atPath: "\(results)/\(MatrixRun.keyFile(kind))") else { continue }
            let keys = try JSONDecoder().decode([KernelState].self, from: data)
            let counts = try Dissector.decrypted(capture: "\(results)/\(kind.rawValue).pcap", keys: keys)
            for index in result.cells.indices where result.cells[index].peer == kind {
                result.cells[index].decrypted = result.cells[index].spis.keys.reduce(0) { $0 + counts[$1, default: 0] }
            }
        }
        return result
    }
}
