import ArgumentParser
import Foundation
import NDCore
import NDPolicy
import NDTelemetry

struct PolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Check a policy and see what it means.",
        subcommands: [Check.self, Show.self, Diff.self])

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check a policy file, key files included. Nothing is changed.")
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The policy file.") var file: String

        struct Result: Encodable {
            var file: String
            var scenario: String
            var filters: Int
            var rules: Int
        }

        func run() throws {
            let policy = try Policy.load(path: file)
            for key in policy.preSharedKeys { _ = try PreSharedKeyFile.read(path: key.file) }
            let compiled = try policy.compiled()
            _ = try compiled.image(generation: 1)
            let result = Result(
                file: file, scenario: policy.scenarioName, filters: policy.expanded.filters.count,
                rules: compiled.filters.count)
            if options.json {
                print(try JSONOutput.text("check", result))
            } else {
                print("\(file): good, \(result.scenario), \(result.filters) filters, \(result.rules) of them in BPF")
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The policy in the full WFP form, which reads back as the same policy.")
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The policy file.") var file: String

        @Flag(help: "A listing in the words of the WFP documentation, with layers, weights, callouts and GUIDs.")
        var expanded = false

        func run() throws {
            let policy = try Policy.load(path: file)
            if options.json {
                print(try JSONOutput.text("policy", policy.expanded))
            } else {
                print(expanded ? policy.expanded.listing : policy.wfpText, terminator: "")
            }
        }
    }

    struct Diff: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "What changes from one policy to another: filters, contexts, sublayers, callouts and settings.")
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The policy as it is.") var old: String
        @Argument(help: "The policy as it shall be.") var new: String

        func run() throws {
            let difference = PolicyDifference(from: try Policy.load(path: old), to: try Policy.load(path: new))
            print(options.json ? try JSONOutput.text("difference", difference) + "\n" : difference.text, terminator: "")
        }
    }
}
