import ArgumentParser
import Foundation
import NDCore
import NDPolicy
import NDTelemetry

struct PolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Check a policy and see what it means.",
        subcommands: [Check.self, Show.self])

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
            abstract: "The filters that a policy stands for, with layers, weights, callouts and GUIDs.")
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The policy file.") var file: String

        func run() throws {
            let policy = try Policy.load(path: file)
            if options.json {
                print(try JSONOutput.text("policy", policy.expanded))
            } else {
                print(policy.expanded.listing)
            }
        }
    }
}
