import NDCore
import NDPolicy
import Testing

@Suite("Malformed policies")
struct MalformedTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var name: String
        var text: String
        var expected: String
        var testDescription: String { name }
    }

    static func report(_ text: String) -> String {
        do {
            _ = try Policy.parse(text, file: "p.yaml")
            return "accepted"
        } catch {
            return error.errors.map { "\($0)" }.joined(separator: "\n")
        }
    }

    @Test("The operator is told where, what and how to mend it", arguments: Malformed.cases)
    func message(_ one: Case) {
        #expect(Self.report(one.text) == one.expected)
    }

    @Test("So it is with filters written out", arguments: MalformedFilters.cases)
    func filters(_ one: Case) {
        #expect(Self.report(one.text) == one.expected)
    }

    @Test("And with callouts of third parties", arguments: MalformedCallouts.cases)
    func callouts(_ one: Case) {
        #expect(Self.report(one.text) == one.expected)
    }

    @Test("There are enough of them")
    func enough() { #expect(Malformed.cases.count >= 25 && MalformedFilters.cases.count >= 30) }

    @Test("No more than fifty errors come at once")
    func bounded() {
        let text = Examples.smallest + (0..<200).map { "key\($0): 1\n" }.joined()
        #expect(Self.report(text).split(separator: "\n").filter { $0.contains("unknown key") }.count == 50)
    }
}
