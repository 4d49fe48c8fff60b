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
}
