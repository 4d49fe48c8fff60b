import ArgumentParser
import NDCore
import NDPolicy
import NDTelemetry

struct PolicyFileOption: ParsableArguments {
    @Option(help: "The policy file.")
    var policy = "/etc/ndbpf/policy.yaml"
}

struct Filters: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The filters of a policy, layer by layer in the order in which they are asked.")
    @OptionGroup var options: GlobalOptions
    @OptionGroup var source: PolicyFileOption

    @Option(help: "One layer only, such as OUTBOUND_TRANSPORT_V4.")
    var layer: String?

    func run() throws {
        let policy = try Policy.load(path: source.policy).expanded
        var layers = Layer.all
        if let layer {
            guard let one = Layer(layer) else {
                throw NDError(
                    "usage.layer", "there is no layer '\(layer)'",
                    hint: "known: \(Layer.all.map(\.shortName).joined(separator: ", "))")
            }
            layers = [one]
        }
        let asked = layers.flatMap { policy.filters(at: $0) }
        if options.json {
            print(try JSONOutput.text("filters", asked.map { FilterRecord($0.filter, in: policy) }))
            return
        }
        var table = TextTable([
            .init("ID", .right), .init("LAYER"), .init("SUBLAYER"), .init("WEIGHT"), .init("NAME"), .init("ACTION"), .init("WHEN"),
        ])
        for (sublayer, filter) in asked {
            let context =
                filter.context.raw.name(for: filter.builtInCallout) ?? policy.context(of: filter).map { "\"\($0.name)\"" }
            table.add([
                "\(filter.id)", filter.layer.shortName, sublayer?.shortName ?? "?", FilterRecord(filter, in: policy).weight,
                filter.name, policy.actionText(filter) + (context.map { " \($0)" } ?? ""), filter.conditionText,
            ])
        }
        print(table.text, terminator: "")
    }
}

struct Sublayers: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The sublayers from heavy to light, built-in ones included, with the number of their filters.")
    @OptionGroup var options: GlobalOptions
    @OptionGroup var source: PolicyFileOption

    struct Row: Encodable {
        var name: String
        var key: GUID
        var weight: UInt16
        var builtIn: Bool
        var filters: Int
    }

    func run() throws {
        let policy = try Policy.load(path: source.policy).expanded
        let counts = Dictionary(grouping: policy.filters, by: \.sublayer).mapValues(\.count)
        let rows = policy.allSublayers.map {
            Row(name: $0.name, key: $0.key, weight: $0.weight, builtIn: $0.isBuiltIn, filters: counts[$0.key] ?? 0)
        }
        if options.json {
            print(try JSONOutput.text("sublayers", rows))
            return
        }
        var table = TextTable([.init("WEIGHT", .right), .init("NAME"), .init("KEY"), .init("FILTERS", .right)])
        for row in rows { table.add(["\(row.weight)", row.name, "{\(row.key)}", "\(row.filters)"]) }
        print(table.text, terminator: "")
    }
}
