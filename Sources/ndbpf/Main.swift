import ArgumentParser
import CNDSystem
import Foundation
import NDCore
import NDLab
import NDPolicy
import NDTelemetry

let ndbpfVersion = "0.1.0"

@main
enum Main {
    static func main() {
        // Broken pipes are errors of one write, not of the process.
        signal(SIGPIPE, SIG_IGN)
        nd_stdout_by_line()
        let json = CommandLine.arguments.contains("--json")
        do {
            // A namespace is a thread's: it is entered before there is a second thread.
            try enterNamespace()
            var command = try NDBPF.parseAsRoot()
            if let asynchronous = command as? any AsyncParsableCommand {
                try wait(for: asynchronous)
            } else {
                try command.run()
            }
        } catch let errors as PolicyErrors {
            fail(errors.errors, json)
        } catch let errors as ScenarioErrors {
            fail(errors.errors, json)
        } catch let error as NDError {
            fail([error], json)
        } catch {
            let code = NDBPF.exitCode(for: error)
            let text = NDBPF.fullMessage(for: error)
            if code == .success {
                if !text.isEmpty { print(text) }
                exit(0)
            }
            if !text.isEmpty { FileHandle.standardError.write(Data((text + "\n").utf8)) }
            exit(error is ExitCode ? code.rawValue : 2)
        }
    }

    private static func fail(_ errors: [NDError], _ json: Bool) -> Never {
        let text = json ? ((try? ErrorReport.json(errors)) ?? "") + "\n" : ErrorReport.text(errors)
        FileHandle.standardError.write(Data(text.utf8))
        // A scenario file that is wrong is not a claim that failed.
        exit(errors.contains { $0.code.hasPrefix("usage.") || $0.code.hasPrefix("scenario.") } ? 2 : 1)
    }

    private static func enterNamespace() throws {
        let arguments = CommandLine.arguments
        var value: String?
        for (index, argument) in arguments.enumerated() {
            if argument == "--netns", index + 1 < arguments.count { value = arguments[index + 1] }
            if argument.hasPrefix("--netns=") { value = String(argument.dropFirst(8)) }
        }
        guard let value else { return }
        let path = value.contains("/") ? value : "/run/netns/\(value)"
        let error = nd_setns_net(path)
        guard error == 0 else {
            throw NDError(
                "netns.enter", "can't enter the network namespace \(path): \(String(cString: strerror(-error)))",
                hint: "`ip netns list` lists the named ones; root is needed")
        }
    }

    private static func wait(for command: any AsyncParsableCommand) throws {
        let box = Outcome(command)
        let done = DispatchSemaphore(value: 0)
        Task.detached {
            do { try await box.command.run() } catch { box.error = error }
            done.signal()
        }
        done.wait()
        if let error = box.error { throw error }
    }

    private final class Outcome: @unchecked Sendable {
        var command: any AsyncParsableCommand
        var error: (any Error)?
        init(_ command: any AsyncParsableCommand) { self.command = command }
    }
}

struct NDBPF: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ndbpf",
        abstract: "Opportunistic host-to-host IPsec: clear at once, upgraded to ESP, never back.",
        version: ndbpfVersion,
        subcommands: [
            Load.self, Unload.self, Run.self, Status.self, Maps.self, Peers.self, Flows.self, SAs.self,
            Monitor.self, PolicyCommand.self, Filters.self, Sublayers.self, Callouts.self, Explain.self, Doctor.self, Demo.self, Bench.self,
        ])
}

struct GlobalOptions: ParsableArguments {
    @Option(help: "Which ndbpf of this host: a-z, 0-9, '-' and '_'.")
    var instance = "default"

    @Option(help: "Network namespace to work in: a name of `ip netns`, or a path.")
    var netns: String?

    @Flag(help: "Print JSON.")
    var json = false
}
