import ArgumentParser
import Foundation
import NDCore
import NDEngine
import NDLab
import NDTelemetry

struct Demo: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Hosts in network namespaces, real packets, and the whole story with times.",
        discussion:
            "Plays the demo's scenarios, or those that are named. alpha and beta run ndbpf, gamma is a plain host. Every claim is checked against packets captured on the wire; exit code 1 when one fails.")

    @OptionGroup var options: GlobalOptions

    @Argument(help: ArgumentHelp("Scenarios to play with all their variations.", valueName: "name"))
    var names: [String] = []

    @Flag(help: "List the scenarios.")
    var list = false

    @Flag(help: "Play every scenario with all its variations.")
    var all = false

    @Option(name: .customLong("scenario"), help: ArgumentHelp("Play a file; can be repeated.", valueName: "file"))
    var files: [String] = []

    @Option(help: "The engine of the hosts: auto, kernel or user.")
    var engine = RunConditions.Engine.auto

    @Option(help: "Megabytes of the transfer that is upgraded in flight: 1 to 10000.")
    var megabytes: Int?

    @Option(name: .customLong("set"), help: ArgumentHelp("Give a variable of the files another value; can be repeated.", valueName: "variable=value"))
    var variables: [String] = []

    @Flag(help: "This machine is emulated: limits stretch by their guest-factor.")
    var guest = false

    @Option(help: ArgumentHelp("Put the daemons' logs here when a claim fails.", valueName: "folder"))
    var logs: String?

    func validate() throws {
        guard (1...10_000).contains(megabytes ?? 1) else { throw ValidationError("--megabytes is 1 to 10000") }
        guard variables.allSatisfy({ $0.contains("=") }) else { throw ValidationError("--set takes VARIABLE=VALUE") }
        guard !all || (names.isEmpty && files.isEmpty) else { throw ValidationError("--all and named scenarios exclude each other") }
    }

    func run() throws {
        // The files say what holds with which engine, so it has to be known which one it is.
        let kernelWorks = engine == .auto && !list && KernelProbe.run().allSatisfy { $0.failure == nil }
        var conditions = RunConditions(
            engine: engine == .auto ? (kernelWorks ? .kernel : .user) : engine, guest: guest)
        for setting in variables {
            let parts = setting.split(separator: "=", maxSplits: 1).map(String.init)
            if parts.count == 2 { conditions.variables[parts[0]] = parts[1] }
        }
        if let megabytes { conditions.variables["megabytes"] = "\(megabytes)" }
        if list { return try printList(conditions) }
        let chosen = try scenarios(conditions)
        let json = options.json
        let say: @Sendable (String) -> Void = { line in if !json { print(line) } }
        say("engine: \(conditions.engine.rawValue)")
        say("alpha 10.77.0.1   beta 10.77.0.2   gamma 10.77.0.3   delta 10.77.0.4")
        say("      fd77::1          fd77::2           fd77::3           fd77::4")
        say("   eth0 ------------- eth0 ------------- eth0 ------------- eth0     (one wire)")
        say("   ndbpf              ndbpf              plain host         plain host")
        let checks = Story(conditions: conditions, logs: logs, say: say).tell(
            chosen, firstCaseOnly: names.isEmpty && files.isEmpty && !all)
        let failed = checks.filter { !$0.passed }
        if json {
            print(try JSONOutput.text("demo", checks))
        } else {
            print("")
            print("\(checks.count - failed.count) passed, \(failed.count) failed")
            for check in failed { print("  failed: \(check.scenario): \(check.claim): \(check.detail)") }
        }
        if !failed.isEmpty { throw ExitCode(1) }
    }

    private func scenarios(_ conditions: RunConditions) throws -> [Scenario] {
        guard names.isEmpty, files.isEmpty else {
            return try names.map { try ScenarioCatalog.scenario($0, conditions: conditions) }
                + files.map { try ScenarioFile.load(path: $0, conditions: conditions) }
        }
        return try ScenarioCatalog.all(conditions: conditions).filter { all || $0.chapter != nil }
    }

    private struct Entry: Encodable {
        var name: String
        var title: String
        var chapter: Int?
    }

    private func printList(_ conditions: RunConditions) throws {
        let entries = try ScenarioCatalog.all(conditions: conditions).map {
            Entry(name: $0.name, title: $0.title, chapter: $0.chapter?.number)
        }
        if options.json { return print(try JSONOutput.text("scenarios", entries)) }
        let width = entries.map(\.name.count).max() ?? 0
        for entry in entries {
            let name = entry.name.padding(toLength: width, withPad: " ", startingAt: 0)
            print("\(entry.chapter.map { "\($0)." } ?? "  ") \(name)  \(entry.title)")
        }
    }
}

extension RunConditions.Engine: ExpressibleByArgument {}
