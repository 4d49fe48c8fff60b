import Foundation
import NDCore
@testable import NDLab
import Testing

@Suite("Reading scenario files")
struct ReaderTests {
    private static let good = """
        title: An echo
        hosts:
          alpha: { ndbpf: {} }
          gamma: { serves: true }
        steps:
          - capture: { on: alpha, as: wire }
          - connect: { from: alpha, to: gamma, as: first }
          - echo: { over: first }
          - packets: { claim: it is clear, in: wire, where: { flow: first }, count: 1.. }
        """

    private func read(_ text: String, _ conditions: RunConditions = RunConditions(engine: .user)) -> [NDError] {
        do throws(ScenarioErrors) {
            _ = try ScenarioFile.parse(text, file: "s.yaml", conditions: conditions)
            return []
        } catch {
            return error.errors
        }
    }

    @Test("A good file has no errors and both families")
    func goodFile() throws {
        let scenario = try ScenarioFile.parse(Self.good, file: "x/echo.yaml", conditions: RunConditions(engine: .user))
        #expect(scenario.name == "echo")
        #expect(scenario.title == "An echo")
        #expect(scenario.cases.count == 1)
        #expect(scenario.cases.first?.runs.map(\.family) == [.ipv4, .ipv6])
        #expect(scenario.cases.first?.runs.first?.steps.count == 4)
    }

    /// One change of the good file, and where and how it is refused.
    struct Slip: Sendable, CustomTestStringConvertible {
        var from: String
        var to: String
        var place: String
        var says: String
        var testDescription: String { to.isEmpty ? "without \(from)" : to }
    }

    static let slips = [
        Slip(from: "title: An echo", to: "titel: An echo", place: "s.yaml:1:1", says: "did you mean 'title'?"),
        Slip(from: "on: alpha, as: wire", to: "on: alhpa, as: wire", place: "s.yaml:6:20", says: "did you mean 'alpha'?"),
        Slip(from: "- echo:", to: "- ecoh:", place: "s.yaml:8:5", says: "did you mean 'echo'?"),
        Slip(from: "over: first", to: "over: second", place: "s.yaml:8:19", says: "there is no connection 'second' here"),
        Slip(from: "in: wire", to: "in: wier", place: "s.yaml:9:40", says: "there is no capture 'wier' here"),
        Slip(from: "count: 1..", to: "count: many", place: "s.yaml:9:77", says: "write 3, 2..3, 8.. or ..5"),
        Slip(from: ", count: 1..", to: "", place: "s.yaml:9:14", says: "'packets' expects nothing"),
        Slip(from: "claim: it is clear, ", to: "", place: "s.yaml:9:5", says: "'packets' needs a claim"),
        Slip(from: "{ flow: first }", to: "{ kind: claer }", place: "s.yaml:9:61", says: "did you mean 'clear'?"),
        Slip(from: "{ ndbpf: {} }", to: "{ ndbpf: { scenario: bondary } }", place: "s.yaml:3:31", says: "did you mean 'boundary'?"),
        Slip(from: "{ ndbpf: {} }", to: "{ ndbpf: { without: protect STREAM_V4 } }", place: "s.yaml:3:30", says: "the policy has no filter 'protect STREAM_V4'"),
        Slip(from: "gamma: { serves: true }", to: "Gamma: { serves: true }", place: "s.yaml:4:3", says: "can't be a host's name"),
        Slip(from: "as: first", to: "as: first, within: 1", place: "s.yaml:7:59", says: "say the unit"),
        Slip(from: "as: first", to: "as: \"${frist}\"", place: "s.yaml:7:44", says: "there is no variable 'frist'"),
        Slip(from: "- echo: { over: first }", to: "- echo", place: "s.yaml:8:5", says: "a step is one action"),
        Slip(from: "- echo: { over: first }", to: "- wait: 2h", place: "s.yaml:8:11", says: "at most 60s"),
        Slip(from: "steps:", to: "families: [ipv5]\nsteps:", place: "s.yaml:5:12", says: "did you mean 'ipv4'?"),
        Slip(from: "steps:", to: "guest: { megabytes: 5 }\nsteps:", place: "s.yaml:5:10", says: "give it a value under `variables` first"),
        Slip(from: "steps:", to: "cases: [{ encapsulation: udp }]\nsteps:", place: "s.yaml:5:11", says: "is no variable of this file"),
        Slip(from: "steps:", to: "mtu: 100\nsteps:", place: "s.yaml:5:6", says: "from 1280 to 9000"),
        Slip(from: "{ on: alpha, as: wire }", to: "{ on: alpha }", place: "s.yaml:6:14", says: "'capture.as' is missing"),
    ]

    @Test("A slip of the pen is refused with its place, its cause and the fix", arguments: slips)
    func slip(slip: Slip) {
        let text = Self.good.replacingOccurrences(of: slip.from, with: slip.to)
        #expect(text != Self.good)
        let errors = read(text)
        #expect(
            errors.contains { $0.context == slip.place && $0.description.contains(slip.says) },
            "\(errors.map(\.description).joined(separator: "\n"))")
        #expect(errors.allSatisfy { $0.code.hasPrefix("scenario.") })
        #expect(errors.allSatisfy { $0.hint != nil }, "every error has a fix: \(errors)")
    }

    @Test("An error that every case and family would repeat is said once")
    func once() {
        let text = Self.good.replacingOccurrences(of: "- echo:", with: "- ecoh:").replacingOccurrences(of: "hosts:", with: "variables: { a: 1 }\ncases: [{ name: one }, { name: two }]\nhosts:")
        #expect(read(text).count == 1)
    }

    @Test("What is no scenario at all is refused", arguments: ["", "- a\n- b\n", "title: [", "title: x\nhosts: {}\nsteps: []\n", "a: &x 1\nb: *x\n"])
    func nothing(text: String) {
        #expect(!read(text).isEmpty)
    }

    @Test("A file that claims nothing proves nothing, and is refused")
    func noClaim() {
        let text = Self.good.split(separator: "\n").filter { !$0.contains("packets") }.joined(separator: "\n")
        #expect(read(text).contains { $0.message.contains("claims nothing") })
    }

    @Test("Guest variables and factors count in guests only; what the caller sets is stronger")
    func guest() throws {
        let text = Self.good.replacingOccurrences(of: "hosts:", with: "variables: { times: 20 }\nguest: { times: 5 }\nhosts:")
            .replacingOccurrences(of: "over: first", with: "over: first, times: \"${times}\", within: 1s, guest-factor: 3")
        func echo(_ conditions: RunConditions) throws -> Step.Echo? {
            let steps = try ScenarioFile.parse(text, file: "s.yaml", conditions: conditions).cases.first?.runs.first?.steps ?? []
            for step in steps { if case .echo(let echo) = step.action { return echo } }
            return nil
        }
        let native = try #require(try echo(RunConditions(engine: .user)))
        #expect(native.times == 20 && native.within == .seconds(1))
        let guest = try #require(try echo(RunConditions(engine: .user, guest: true)))
        #expect(guest.times == 5 && guest.within == .seconds(3))
        let set = try #require(try echo(RunConditions(engine: .user, guest: true, variables: ["times": "7"])))
        #expect(set.times == 7)
    }

    @Test("Steps and files for another engine are left out")
    func engines() throws {
        let step = Self.good.replacingOccurrences(of: "over: first", with: "over: first, engines: [kernel]")
        func steps(_ engine: RunConditions.Engine) throws -> Int? {
            try ScenarioFile.parse(step, file: "s.yaml", conditions: RunConditions(engine: engine)).cases.first?.runs.first?.steps.count
        }
        #expect(try steps(.user) == 3)
        #expect(try steps(.kernel) == 4)
        let file = Self.good.replacingOccurrences(of: "hosts:", with: "engines: [kernel]\nhosts:")
        #expect(try ScenarioFile.parse(file, file: "s.yaml", conditions: RunConditions(engine: .user)).cases.isEmpty)
    }

    @Test("The documentation names every action with its keys")
    func documented() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let lines = try String(contentsOf: folder.appendingPathComponent("docs/scenarios.md"), encoding: .utf8)
            .split(separator: "\n").filter { $0.hasPrefix("|") }
        for action in StepReader.actions {
            let row = lines.first { $0.hasPrefix("| `\(action)`") }
            #expect(row != nil, "\(action)")
            for key in StepReader.keys[action] ?? [] { #expect(row?.contains("`\(key)") == true, "\(action): \(key)") }
        }
    }

    @Test("Counts are read and printed as people say them")
    func counts() throws {
        let cases: [(String, [Int], [Int], String)] = [
            ("0", [0], [1], "0"), ("2..3", [2, 3], [1, 4], "2 to 3"), ("8..", [8, 99], [7], "at least 8"),
            ("..5", [0, 5], [6], "at most 5"),
        ]
        for (text, inside, outside, says) in cases {
            let range = try #require(CountRange(text))
            #expect(inside.allSatisfy(range.contains) && !outside.contains(where: range.contains))
            #expect(range.description == says)
        }
        for wrong in ["", "..", "3..2", "-1", "a", "1..b", "1...2"] { #expect(CountRange(wrong) == nil, "\(wrong)") }
    }
}
