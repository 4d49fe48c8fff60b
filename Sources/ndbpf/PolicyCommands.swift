import ArgumentParser
import Foundation
import Glibc
import NDCore
import NDDaemon
import NDDatapath
import NDPolicy
import NDTelemetry

struct PolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Check a policy, see what it means, put its filters in force.",
        subcommands: [Check.self, Show.self, Diff.self, Apply.self])

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
            let policy = try Policy.load(path: file, reading: PolicyCommit.reading)
            for key in policy.preSharedKeys { _ = try PreSharedKeyFile.read(path: key.file) }
            let compiled = try PolicyCommit(policy, generation: 1, interfaceIndex: { _ in 1 }).compiled
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

    struct Apply: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put a policy's filters in force where ndbpf is loaded: all of them at once, or nothing.",
            discussion:
                "Every packet sees either the old filters or the new ones; connections go on. Everything but filters is read when the daemon starts: where it differs the policy is refused.")
        @OptionGroup var options: GlobalOptions
        @Argument(help: "The policy file.") var file: String

        struct Result: Encodable {
            var file: String
            var generation: UInt32
            var filters: Int
            var milliseconds: Double
        }

        func run() throws {
            let instance = try Instance(options.instance)
            guard instance.isLoaded, let record = LoadRecord.read(instance), let loaded = record.policyFile else {
                throw NDError(
                    "instance.not-loaded", "instance '\(instance.name)' is not loaded",
                    hint: "ndbpf run --policy \(file); nothing was changed")
            }
            try instance.requireHere("policy.namespace")
            let policy = try Policy.load(path: file, reading: PolicyCommit.reading)
            let settings = policy.readAtStart(otherThan: try Policy.load(path: loaded))
            guard settings.isEmpty else {
                throw NDError(
                    "policy.settings",
                    "\(file) differs from \(loaded), which the daemon runs with, in \(settings.joined(separator: ", ")): only filters can be changed while it runs",
                    hint: "restart the daemon with it; nothing was changed")
            }
            let datapath = try Datapath(instance)
            let began = Instant.now()
            let ready = try PolicyCommit.apply(policy, to: datapath)
            let generation = ready.image.header.generation
            // Anew: the daemon writes into it too.
            var applied = LoadRecord.read(instance) ?? record
            applied.appliedFile = file
            try applied.write(instance)
            let result = Result(
                file: file, generation: generation, filters: ready.compiled.filters.count,
                milliseconds: Instant.now().since(began).milliseconds)
            if options.json {
                print(try JSONOutput.text("applied", result))
            } else {
                print("\(file): \(result.filters) filters in force, generation \(generation), after \((result.milliseconds * 10).rounded() / 10) ms")
                if file != loaded { print("the daemon reads \(loaded) when it starts: make it the same before then") }
            }
        }
    }
}
