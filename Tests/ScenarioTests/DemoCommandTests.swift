import Foundation
import NDCore
import NDLab
import Testing

@Suite("The demo command", .serialized)
struct DemoCommandTests {
    private func demo(_ arguments: String...) throws -> Shell.Output {
        try Shell.capture([Lab.ownBinary, "demo"] + arguments)
    }

    private func file(_ text: String) throws -> String {
        let path = "/tmp/nd\(getpid())-\(UUID().uuidString.prefix(8)).yaml"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    @Test("--list names every scenario, as text and as JSON")
    func list() throws {
        let text = try demo("--list")
        #expect(text.status == 0)
        let json = try demo("--list", "--json")
        let object = try #require(try JSONSerialization.jsonObject(with: Data(json.text.utf8)) as? [String: Any])
        let entries = try #require(object["scenarios"] as? [[String: Any]])
        #expect(entries.count == ScenarioCatalog.files.count)
        for file in ScenarioCatalog.files { #expect(text.text.contains(file.name)) }
    }

    @Test("A claim that holds ends with 0, one that does not with 1 and with what was seen")
    func exitCodes() throws {
        func play(_ count: String) throws -> Shell.Output {
            let path = try file(
                """
                title: A shell command
                families: [ipv4]
                hosts: { alpha: {}, beta: {} }
                steps:
                  - capture: { on: alpha, as: wire }
                  - ping: { from: alpha, to: beta, count: 2 }
                  - packets: { claim: echo requests leave, in: wire, where: { kind: icmp, protocol: icmp, direction: out, to: beta }, count: "\(count)" }
                """)
            defer { try? FileManager.default.removeItem(atPath: path) }
            return try demo("--engine", "user", "--json", "--scenario", path)
        }
        #expect(try play("2").status == 0)
        let failed = try play("0")
        #expect(failed.status == 1)
        #expect(failed.text.contains("2 of "), "\(failed.text)")
    }

    @Test("Wrong use and wrong files end with 2 before anything is done")
    func wrong() throws {
        #expect(try demo("nosuch").status == 2)
        #expect(try demo("--engine", "wooden").status == 2)
        #expect(try demo("--all", "latch").status == 2)
        #expect(try demo("--set", "megabytes").status == 2)
        let path = try file("title: x\nhosts: { alpha: {} }\nsteps:\n  - pong: { from: alpha, to: alpha }\n")
        defer { try? FileManager.default.removeItem(atPath: path) }
        let output = try demo("--scenario", path)
        #expect(output.status == 2, "\(output.text)")
        #expect(output.text.contains("\(path):4:5") && output.text.contains("did you mean 'ping'?"), "\(output.text)")
    }
}
