import ArgumentParser
import Glibc
import NDCore
import NDDatapath
import NDPolicy
import NDTelemetry

struct Callouts: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The callouts of a policy that are programs of third parties, and what they did.",
        discussion:
            "Where ndbpf is loaded the counters are shown, and where the maps of the programs are pinned: bpftool map dump pinned PATH.")
    @OptionGroup var options: GlobalOptions

    @Option(help: "The policy file; otherwise the loaded one.")
    var policy: String?

    struct Row: Encodable {
        var name: String
        var layer: String
        var key: GUID
        var object: String
        var entry: String
        var readsPayload: Bool
        var changesPackets: Bool
        var filters: Int
        var maps: [String]
    }

    struct Result: Encodable {
        var policy: String
        var callouts: [Row]
        var asked: UInt64?
        var overridden: UInt64?
        var missing: UInt64?
    }

    func run() throws {
        let instance = try Instance(options.instance)
        let datapath = instance.isLoaded ? try Datapath(instance) : nil
        let record = LoadRecord.read(instance)
        guard let file = policy ?? record?.appliedFile ?? record?.policyFile else {
            throw NDError(
                "instance.not-loaded", "instance '\(instance.name)' is not loaded, and no policy is named",
                hint: "ndbpf callouts --policy FILE")
        }
        let expanded = try Policy.load(path: file).expanded
        var result = Result(policy: file, callouts: [])
        var objects = CalloutObjects()
        for callout in expanded.callouts {
            guard let program = callout.program else { continue }
            let object = try objects.object(program.object)
            let abilities = try object.check(program.entry)
            result.callouts.append(
                Row(
                    name: callout.name, layer: callout.layer.shortName, key: callout.key, object: program.object,
                    entry: program.entry, readsPayload: abilities.contains(.readsPayload),
                    changesPackets: abilities.contains(.changesPackets),
                    filters: expanded.filters.count {
                        if case .callout(_, let key) = $0.action { key == callout.key } else { false }
                    },
                    maps: datapath == nil ? [] : object.pinnedMaps(instance)))
        }
        if let stats = datapath?.stats() {
            result.asked = stats.callouts_asked
            result.overridden = stats.callouts_overridden
            result.missing = stats.callouts_missing
        }
        if options.json {
            print(try JSONOutput.text("callouts", result))
        } else {
            show(result)
        }
    }

    private func show(_ result: Result) {
        var table = TextTable([
            .init("NAME"), .init("LAYER"), .init("PROGRAM"), .init("OBJECT"), .init("PACKET"), .init("FILTERS", .right),
        ])
        for row in result.callouts {
            table.add([
                row.name, row.layer, row.entry, row.object,
                row.changesPackets ? "changes" : row.readsPayload ? "reads" : "-", "\(row.filters)",
            ])
        }
        print(result.callouts.isEmpty ? "\(result.policy): no callout has a program\n" : table.text, terminator: "")
        for map in Set(result.callouts.flatMap(\.maps)).sorted() { print("map \(map)") }
        if let asked = result.asked, let overridden = result.overridden, let missing = result.missing {
            print("asked \(asked) times, \(overridden) blocks overridden for ALE, \(missing) times nobody answered")
        }
    }
}
