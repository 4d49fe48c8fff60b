import Foundation
import NDCore
import NDLab

/// The matrix as it runs inside one guest. What it saw goes into the result folder.
public struct MatrixRun {
    private let stage: InteropStage
    private let results: String
    private let cells: [InteropCell]
    private let say: (String) -> Void
    private var outcome: MatrixResult
    private var keys: [PeerKind: [KernelState]] = [:]

    public static let resultFile = "matrix.json"
    public static func keyFile(_ kind: PeerKind) -> String { "\(kind.rawValue)-keys.json" }

    public init(
        cells: [InteropCell] = InteropCell.all, tree: String, results: String, engine: String, say: @escaping (String) -> Void
    ) throws {
        self.cells = cells
        self.results = results
        self.say = say
        stage = try InteropStage(tree: tree, results: results, engine: engine)
        var name = utsname()
        uname(&name)
        let release = withUnsafeBytes(of: &name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        outcome = MatrixResult(kernel: release, engine: engine, versions: [:])
    }

    public mutating func run() throws -> MatrixResult {
        let began = Instant.now()
        do {
            try walk(began)
        } catch {
            try? stage.close()
            throw error
        }
        outcome.seconds = Instant.now().since(began).seconds
        try stage.close()
        for (kind, states) in keys { try write(states, Self.keyFile(kind)) }
        try write(outcome, Self.resultFile)
        return outcome
    }

    private mutating func walk(_ began: Instant) throws {
        for kind in PeerKind.allCases where cells.contains(where: { $0.peer == kind }) {
            try stage.start(kind)
            outcome.versions[kind.rawValue] = try stage.peer(kind).version
            say("\(kind.rawValue) \(try stage.peer(kind).version) runs, \(Int(Instant.now().since(began).seconds)) s")
        }
        if cells.contains(where: { $0.peer == .strongSwan }) {
            coldConnects(ColdConnects.baselineName) { try ColdConnects.baseline($0) }
        }
        var variants: [InteropCell.Variant] = []
        for cell in cells where !variants.contains(cell.variant) { variants.append(cell.variant) }
        for variant in variants {
            try stage.useDaemon(variant)
            say("ndbpf with \(variant.name) runs, \(Int(Instant.now().since(began).seconds)) s")
            if variant == InteropCell.Variant(forwardSecrecy: nil, encapsulation: .native) {
                for kind in PeerKind.allCases where stage.peers[kind] != nil {
                    coldConnects("ndbpf to \(kind.rawValue) that requires IPsec") { try ColdConnects.upgraded($0, kind) }
                    check("\(kind.rawValue) finds ndbpf alive by RFC 3706") { try Liveness.askedByPeer($0, kind) }
                }
            }
            for cell in cells where cell.variant == variant {
                let start = Instant.now()
                var run = try CellRun(stage, cell)
                run.run()
                outcome.cells.append(run.result)
                keys[cell.peer, default: []] += run.keys
                let failures = run.result.failures
                say(
                    "\(failures.isEmpty ? "ok  " : "FAIL") \(cell.name): \(run.result.espPackets) ESP\(run.result.fragments > 0 ? " (\(run.result.fragments) fragments)" : ""), connect \(Int(run.result.connectMilliseconds ?? -1)) ms, \(Int(Instant.now().since(start).milliseconds)) ms in all")
                for failure in failures { say("     \(failure)") }
            }
        }
    }

    private mutating func coldConnects(_ name: String, _ measure: (InteropStage) throws -> [Double]) {
        do {
            let medians = MatrixResult.Medians(name: name, milliseconds: try measure(stage))
            outcome.coldConnects.append(medians)
            if name != ColdConnects.baselineName {
                outcome.checks.append(
                    .init(
                        name: name, outcome: medians.median < 1000 ? .passed : .failed("a step of a second in the median"),
                        detail: "median \(Int(medians.median)) ms"))
            }
            say("\(name): median \(Int(medians.median)) ms of \(medians.milliseconds.map { Int($0) })")
        } catch {
            outcome.checks.append(.init(name: name, outcome: .failed("\(error)"), detail: ""))
            say("FAIL \(name): \(error)")
        }
    }

    private mutating func check(_ name: String, _ body: (InteropStage) throws -> String) {
        let check: MatrixResult.Check
        do {
            check = .init(name: name, outcome: .passed, detail: try body(stage))
        } catch {
            check = .init(name: name, outcome: .failed("\(error)"), detail: "")
        }
        outcome.checks.append(check)
        say("\(check.outcome.isFailure ? "FAIL" : "ok  ") \(name): \(check.detail)")
        if case .failed(let why) = check.outcome { say("     \(why)") }
    }

    private func write(_ value: some Encodable, _ name: String) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        try encoder.encode(value).write(to: URL(fileURLWithPath: "\(results)/\(name)"))
    }
}
