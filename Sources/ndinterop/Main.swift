import ArgumentParser
import CNDSystem
import Foundation
import NDCore
import NDInterop

@main
struct NDInteropCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ndinterop",
        abstract: "ndbpf beside strongSwan and libreswan, in guests with kernel ESP.",
        subcommands: [Matrix.self, Guest.self])
}

/// Inside a guest.
struct Guest: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the matrix here: a kernel with ESP, root, and namespaces of its own.")

    @Option(help: "The folder that deploy/interop-peers printed.")
    var peers: String

    @Option(help: "Where captures, keys, logs and the results go.")
    var results: String

    @Option(help: "ndbpf's engine: kernel or user.")
    var engine = "kernel"

    @Option(help: "Only cells whose name contains this; may be repeated.")
    var only: [String] = []

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        nd_stdout_by_line()
        let cells = InteropCell.all.filter { cell in only.isEmpty || only.contains { cell.name.contains($0) } }
        var run = try MatrixRun(cells: cells, tree: peers, results: results, engine: engine) { print($0) }
        let result = try run.run()
        let failed = result.cells.count { !$0.failures.isEmpty }
        print("\(result.cells.count) cells, \(failed) failed, \(Int(result.seconds)) s on \(result.kernel)")
        if failed > 0 { throw ExitCode.failure }
    }
}

/// On the host.
struct Matrix: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Boot the guests, run the matrix in each, read the captures with tshark, print the table.")

    @Option(help: "6.1 or 6.12; may be repeated. Both when none is given.")
    var kernel: [String] = []

    @Option(help: "ndbpf's engine: kernel or user.")
    var engine = "kernel"

    @Option(help: "Only cells whose name contains this; may be repeated.")
    var only: [String] = []

    @Option(help: "The source folder, with deploy/ in it.")
    var source = FileManager.default.currentDirectoryPath

    @Option(help: "Where captures, keys, logs and results are kept.")
    var results = "/tmp/ndbpf-interop"

    @Flag(help: "Run nothing: read what an earlier run left in --results.")
    var again = false

    @Option(help: "Write the table to this file instead of printing it.")
    var markdown: String?

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        nd_stdout_by_line()
        let binaries = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().path
        var matrix = GuestMatrix(source: source, binaries: binaries, engine: engine)
        matrix.only = only
        let kernels = kernel.isEmpty ? GuestMatrix.kernels : kernel
        let found = again ? try kernels.map { try GuestMatrix.kept("\(results)/\($0)") } : try matrix.run(kernels, results: results)
        let table = InteropTable.markdown(found)
        if let markdown {
            try table.write(toFile: markdown, atomically: true, encoding: .utf8)
        } else {
            print(table)
        }
        let failures = found.flatMap(\.failures)
        for failure in failures { print("FAIL \(failure)") }
        print("\(found.map { "Linux \($0.kernel): \($0.cells.count) cells in \(Int($0.seconds)) s" }.joined(separator: "; "))")
        if !failures.isEmpty { throw ExitCode.failure }
    }
}
