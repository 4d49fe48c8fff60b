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
        subcommands: [Guest.self])
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
