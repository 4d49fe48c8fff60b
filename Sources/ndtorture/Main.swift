import ArgumentParser
import CNDSystem
import Foundation
import NDCore
import NDTorture

@main
struct NDTortureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ndtorture",
        abstract: "Random trials: whatever happens to two hosts, no packet of a secured connection is ever on the wire in clear.",
        discussion: "Exit code 0: nothing was wrong; 1: a trial failed; 2: wrong use. docs/torture.md tells how to read it.")

    @Option(help: "Of the first trial; each further one has the next. Drawn and printed when none is given.")
    var seed: UInt64?

    @Option(help: "How many.")
    var trials = 100

    @Option(help: "Only these events, separated by commas.")
    var events: String?

    @Option(help: "The ndbpf to torture; the one beside this program when none is given.")
    var binary: String?

    @Option(help: "ndbpf's engine: kernel or user.")
    var engine = "user"

    @Option(help: "Worlds at a time.")
    var worlds = 3

    @Option(help: "All times are multiplied by this; for slow machines.")
    var pace = 1.0

    @Option(help: "Where the captures and logs of failed trials are kept.")
    var results = "/tmp/ndtorture"

    @Flag(help: "Print the summary as JSON; the rest goes to standard error.")
    var json = false

    func validate() throws {
        guard (1...1_000_000).contains(trials) else { throw ValidationError("--trials is 1 to 1000000") }
        guard (1...16).contains(worlds) else { throw ValidationError("--worlds is 1 to 16") }
        guard (0.1...100).contains(pace) else { throw ValidationError("--pace is 0.1 to 100") }
        guard ["user", "kernel"].contains(engine) else { throw ValidationError("--engine is kernel or user") }
        _ = try kinds
    }

    private var kinds: [EventKind]? {
        get throws {
            try events.map { list in
                try list.split(separator: ",").map { name in
                    guard let kind = EventKind(rawValue: String(name)) else {
                        throw ValidationError("no event '\(name)'; there are \(EventKind.allCases.map(\.rawValue).joined(separator: ", "))")
                    }
                    return kind
                }
            }
        }
    }

    func run() throws {
        signal(SIGPIPE, SIG_IGN)
        nd_stdout_by_line()
        let beside = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().path + "/ndbpf"
        let chosen = binary ?? ProcessInfo.processInfo.environment["NDBPF_BINARY"] ?? beside
        // What takes a lab away uses it too.
        setenv("NDBPF_BINARY", chosen, 1)
        var options = try TortureOptions(binary: chosen, results: results)
        options.engine = engine
        options.worlds = worlds
        options.pace = pace
        if let kinds = try kinds { options.kinds = kinds }
        let first = seed ?? UInt64.random(in: 1...999_999) * 1000
        let toError = json
        let say: @Sendable (String) -> Void = { line in
            if toError { FileHandle.standardError.write(Data("\(line)\n".utf8)) } else { print(line) }
        }
        say("\(trials) trials from seed \(first)")
        let campaign = Campaign(seed: first, trials: trials, options: options, report: say)
        let signals = [SIGINT, SIGTERM].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { campaign.stop() }
            source.resume()
            return source
        }
        let summary = withExtendedLifetime(signals) { campaign.run() }
        if json {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
            print(String(decoding: try encoder.encode(summary), as: UTF8.self))
        } else {
            print(summary.text)
        }
        if !summary.isClean { throw ExitCode.failure }
    }
}
