import ArgumentParser
import Foundation
import NDCore
import NDLab
import NDTelemetry

struct Demo: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Three hosts in network namespaces, real packets, and the whole story with times.",
        discussion:
            "alpha and beta run ndbpf, gamma is a plain host. Every claim is checked against packets captured on the wire; exit code 1 when one fails.")

    @OptionGroup var options: GlobalOptions

    @Option(help: "Megabytes of the transfer that is upgraded in flight: 1 to 10000.")
    var megabytes = 200

    func validate() throws {
        guard (1...10_000).contains(megabytes) else { throw ValidationError("--megabytes is 1 to 10000") }
    }

    func run() throws {
        let json = options.json
        let story = Story(megabytes: megabytes) { line in if !json { print(line) } }
        let checks = try story.tell()
        let failed = checks.filter { !$0.passed }
        if json {
            print(try JSONOutput.text("demo", checks))
        } else {
            print("")
            print("\(checks.count - failed.count) passed, \(failed.count) failed")
            for check in failed { print("  failed: \(check.claim): \(check.detail)") }
        }
        if !failed.isEmpty { throw ExitCode(1) }
    }
}
