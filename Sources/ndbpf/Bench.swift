import ArgumentParser
import Foundation
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
        progress("BPF programs")
        let text = "version: 1\nscenario: negotiation-discovery\nauthentication: { pre-shared-keys: [ { remote: any, file: /none } ] }\n"
        let policy = try Policy.parse(text, file: "bench").compiled().image(generation: 1)
        let costs = try ProgramCost.measure(policy: policy)
        guard costs.count == 4 else { throw NDError("bench.run", "a program was not measured") }
        let floor = costs[1].median - costs[0].median
        var figures = costs.prefix(2).map { Figure($0.name, "ns", $0.runs) }
        for cost in costs.dropFirst(2) {
            let own = cost.median - costs[0].median
            figures.append(
                Figure(
                    cost.name, "ns", cost.runs,
                    goal: "<= 2 x bare, both over empty: \((own / floor * 100).rounded() / 100)", reached: own <= 2 * floor))
        }
        figures += try FilterBenchmark(runs: runs, progress: progress).measure()
        figures += try Benchmark(seconds: seconds, runs: runs, progress: progress).run()
        try report(figures)
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
            .init("GOAL"), .init(""),
        ])
        func number(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }
        for figure in figures {
            table.add([
                figure.what, number(figure.median), number(figure.lowest), number(figure.highest), figure.unit,
                figure.goal ?? "", figure.reached.map { $0 ? "reached" : "MISSED" } ?? "",
            ])
        }
        print(table.text, terminator: "")
    }
}
