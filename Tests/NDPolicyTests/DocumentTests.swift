import Foundation
import NDPolicy
import Testing

@Suite("The documented policies")
struct DocumentTests {
    @Test("Every example policy of the documents is a policy", arguments: ["docs/policy.md", "docs/callouts.md"])
    func examples(_ document: String) throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: document), encoding: .utf8)
        let blocks = text.components(separatedBy: "```yaml\n").dropFirst().compactMap { $0.components(separatedBy: "```").first }
        #expect(!blocks.isEmpty)
        for block in blocks { #expect(try !Policy.parse(block, file: document).expanded.filters.isEmpty) }
    }

    @Test("The document names every field, match type and context type")
    func names() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "docs/policy.md"), encoding: .utf8)
        let names =
            Condition.Field.allCases.map(\.rawValue) + Condition.Match.allCases.map(\.rawValue)
            + ProviderContext.Kind.allCases.map(\.rawValue) + NLAddressType.allCases.map(\.name)
        for name in names { #expect(text.contains("`\(name)`"), "\(name)") }
    }

    @Test("What a callout is told and may answer is in its document: every member, flag and answer of the header")
    func callouts() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let header = try String(contentsOf: root.appending(path: "bpf/nd_callout.h"), encoding: .utf8)
        let document = try String(contentsOf: root.appending(path: "docs/callouts.md"), encoding: .utf8)
        let parts = header.components(separatedBy: "struct nd_callout_metadata {\n")
        let body = try #require(parts.dropFirst().first?.components(separatedBy: "\n};").first)
        let members = body.split(separator: "\n").compactMap { line -> String? in
            guard let end = line.firstIndex(of: ";"), let space = line[..<end].lastIndex(of: " ") else { return nil }
            return String(line[line.index(after: space)..<end].prefix { $0 != "[" })
        }.filter { $0 != "zero" && $0 != "answer" }
        #expect(members.count >= 20 && members.contains("payload_length"))
        let answers = ["CONTINUE", "PERMIT", "BLOCK", "VETO"].map { "ND_CALLOUT_\($0)" }
        let flags = header.split(separator: "\n").compactMap { line -> String? in
            let words = line.split(separator: " ")
            guard words.first == "#define", words.count > 2, words[2].hasPrefix("0x") else { return nil }
            return String(words[1])
        }
        #expect(flags.count == 5 && answers.allSatisfy { header.contains($0) })
        for name in members + flags + answers { #expect(document.contains("`\(name)`"), "\(name)") }
    }
}
