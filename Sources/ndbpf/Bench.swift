import ArgumentParser
import NDCore

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Measure the datapath.", shouldDisplay: false)
    @OptionGroup var options: GlobalOptions
    func run() throws { throw NDError("usage.bench", "not here yet", hint: "make bench") }
}
