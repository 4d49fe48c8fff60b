import ArgumentParser
import Foundation
import NDABI
import NDCore
import NDDatapath
import NDLab
import NDPolicy
import NDTelemetry

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure: cost per packet, throughput, latency, connect times, beside wireguard-go.",
        discussion:
            "Works in network namespaces of its own. Medians of interleaved runs; the machine should have nothing else to do.")

    @OptionGroup var options: GlobalOptions

    @Option(help: "Seconds of one throughput run: 1 to 60.")
    var seconds = 3

    @Option(help: "Runs of each measurement: 1 to 50.")
    var runs = 5

    @Option(help: "Only this: install so many SA pairs into the kernel, 1 to 1000000.")
    var saPairs: Int?

    @Flag(help: "Only this: nanoseconds that the BPF programs take for a packet.")
    var programs = false

    @Flag(help: "Only this: clear throughput and connect() through ndbpf, beside a plain wire in turns.")
    var pairs = false

    @Flag(help: "Only this: what filters cost, 10 to 10,000 of them, beside nftables.")
    var filters = false

    @Flag(help: "Only this: the steps that this kernel's verifier takes for each BPF program.")
    var verifier = false

    func validate() throws {
        guard (1...1_000_000).contains(saPairs ?? 1) else { throw ValidationError("--sa-pairs is 1 to 1000000") }
        guard (1...60).contains(seconds) else { throw ValidationError("--seconds is 1 to 60") }
        guard (1...50).contains(runs) else { throw ValidationError("--runs is 1 to 50") }
    }

    func run() throws {
        func progress(_ text: String) { FileHandle.standardError.write(Data("... \(text)\n".utf8)) }
        if let saPairs {
            try report(try SACapacity.measure(pairs: saPairs, progress: progress))
            return
        }
        if verifier {
            try report(try VerifierReport.all())
            return
        }
        if filters {
            try report(try FilterBenchmark(runs: runs, progress: progress).measure())
            return
        }
        if pairs {
            try report(try PairBenchmark(pairs: runs, progress: progress).run())
            return
        }
        var figures = try programs(progress)
        if programs {
            try report(figures)
            return
        }
        figures += try PairBenchmark(pairs: runs, progress: progress).run()
        figures += try FilterBenchmark(runs: runs, progress: progress).measure()
        figures += try Benchmark(seconds: seconds, runs: runs, progress: progress).run()
        try report(figures)
    }

    private func programs(_ progress: (String) -> Void) throws -> [Figure] {
        progress("BPF programs")
        func image(_ scenario: String) throws -> PolicyImage {
            let keys = "authentication: { pre-shared-keys: [ { remote: any, file: /none } ] }"
            return try Policy.parse("version: 1\nscenario: \(scenario)\n\(keys)\n", file: "bench").compiled().image(generation: 1)
        }
        return try ProgramCost.measure(
            discovery: image("negotiation-discovery"), boundary: image("boundary"), rounds: max(runs, 15)
        ).map { cost in
            let floor = "bare, both over empty"
            var figure = Figure(cost.name, "ns", cost.rounds)
            figure.ratio = cost.ratios.isEmpty ? nil : Figure("", "", cost.ratios).median
            guard let limit = cost.standard.limit else { return figure }
            figure.hold(Figure("", "", cost.ratios).median, atMost: limit, floor)
            return figure
        }
    }

    private func report(_ programs: [VerifierReport]) throws {
        if options.json {
            print(try JSONOutput.text("verifier", programs))
            return
        }
        print("verifier of Linux \(VerifierReport.kernelRelease)")
        var table = TextTable([.init("PROGRAM"), .init("STEPS", .right), .init("GOAL"), .init("")])
        for program in programs {
            table.add([
                program.program, program.steps.map { "\($0)" } ?? "-", "<= \(VerifierReport.goal)",
                program.isAbsent ? program.remark ?? "" : program.error != 0 ? "REFUSED" : (program.steps ?? .max) <= VerifierReport.goal ? "reached" : "MISSED",
            ])
        }
        print(table.text, terminator: "")
    }

    private func report(_ figures: [Figure]) throws {
        if options.json {
            print(try JSONOutput.text("bench", figures))
            return
        }
        var table = TextTable([
            .init("WHAT"), .init("MEDIAN", .right), .init("LOWEST", .right), .init("HIGHEST", .right), .init("UNIT"),
            .init("RATIO", .right), .init("LIMIT"), .init(""),
        ])
        func number(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
        for figure in figures {
            table.add([
                figure.what, number(figure.median), number(figure.lowest), number(figure.highest), figure.unit,
                figure.ratio.map(number) ?? "", figure.limit ?? "", figure.met.map { $0 ? "met" : "missed" } ?? "",
            ])
        }
        print(table.text, terminator: "")
    }
}
