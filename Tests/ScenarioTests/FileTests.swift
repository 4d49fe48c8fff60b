import Foundation
import NDCore
import NDLab
import Testing

/// A scenario file, shown by its title.
struct ScenarioName: Sendable, CustomTestStringConvertible {
    let name: String
    let title: String
    var testDescription: String { title }

    /// Those for this engine.
    static let all: [ScenarioName] = ScenarioCatalog.files.compactMap { file in
        guard let scenario = try? ScenarioCatalog.scenario(file.name, conditions: RunConditions(engine: .user)) else {
            return ScenarioName(name: file.name, title: file.name)
        }
        return scenario.cases.isEmpty ? nil : ScenarioName(name: file.name, title: scenario.title)
    }
}

//     alpha (ndbpf) ---- beta (ndbpf) ---- gamma (plain) ---- delta (plain)
//     10.77.0.1          10.77.0.2         10.77.0.3          10.77.0.4
//     fd77::1            fd77::2           fd77::3            fd77::4

@Suite("Scenario files on this kernel", .serialized)
struct FileTests {
    @Test("It holds with the user engine", arguments: ScenarioName.all)
    func holds(scenario: ScenarioName) throws {
        let conditions = RunConditions(engine: .user)
        let checks = ScenarioRunner(conditions: conditions).run(
            try ScenarioCatalog.scenario(scenario.name, conditions: conditions))
        expect(checks)
    }

    @Test("The binary carries the files of Tests/Scenarios")
    func embedded() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Scenarios")
        let onDisk = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".yaml") }
        #expect(Set(onDisk) == Set(ScenarioCatalog.files.map { "\($0.name).yaml" }))
        for file in ScenarioCatalog.files {
            let text = try String(contentsOf: folder.appendingPathComponent("\(file.name).yaml"), encoding: .utf8)
            #expect(file.text == text, "\(file.name).yaml: `make bpf` and build again")
        }
    }
}
