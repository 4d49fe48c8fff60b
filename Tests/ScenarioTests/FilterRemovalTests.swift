import Foundation
import NDCore
import NDLab
import NDPolicy
import Testing

//     alpha (ndbpf) ---- beta (ndbpf) ---- gamma (plain)
//     10.77.0.1          10.77.0.2         10.77.0.3
//     fd77::1            fd77::2           fd77::3
//
// The hosts' policy is what negotiation-discovery expands to, written out filter by filter. Scenarios named
// filters-* hold with it (FileTests plays them so); here each is played once more for every filter that it
// is about, without that filter. Then the claim that the table names must fail, in the filter's family;
// in the other family, whose filters are all there, every claim must hold.

@Suite("Each filter of negotiation-discovery counts", .serialized)
struct FilterRemovalTests {
    /// One claim that stands or falls with a filter.
    struct Claim: Sendable, Hashable {
        var scenario: String
        var claim: String
    }

    /// By the filter's name and layer; the families' filters are twins.
    static let table: [String: [Claim]] = [
        "main mode IKEEXT": [
            Claim(scenario: "filters-negotiation", claim: "a new connection begins main mode"),
            Claim(scenario: "filters-answer", claim: "main mode is answered"),
        ],
        "quick mode IPSEC": [
            Claim(scenario: "filters-negotiation", claim: "a new connection begins main mode"),
            Claim(scenario: "filters-answer", claim: "quick mode ends with SAs that the peer uses"),
        ],
        "protect INBOUND_TRANSPORT": [
            Claim(scenario: "filters-persistence", claim: "a clear packet that a lost entry may be missing for is dropped as one")
        ],
        "exempt icmp INBOUND_TRANSPORT": [Claim(scenario: "filters-icmp", claim: "a secured peer's ping is answered")],
        "protect OUTBOUND_TRANSPORT": [
            Claim(scenario: "filters-negotiation", claim: "a new connection begins main mode")
        ],
        "exempt icmp OUTBOUND_TRANSPORT": [Claim(scenario: "filters-icmp", claim: "a ping starts no negotiation")],
        "protect ALE_AUTH_RECV_ACCEPT": [Claim(scenario: "filters-inbound", claim: "a clear host's connection is refused")],
        "exempt icmp ALE_AUTH_RECV_ACCEPT": [Claim(scenario: "filters-icmp", claim: "a plain host's ping is answered")],
    ]

    /// A filter of the expansion to go without.
    struct Removal: Sendable, CustomTestStringConvertible {
        var filter: String
        var twins: String
        var family: String
        var testDescription: String { filter }
    }

    static let removals = Policy(scenario: .negotiationDiscovery).expanded.filters.map { filter in
        let name = "\(filter.name) \(filter.layer.shortName)"
        return Removal(filter: name, twins: String(name.dropLast(3)), family: filter.layer.family == .v4 ? "ipv4" : "ipv6")
    }

    @Test("The table names every filter of the expansion and no other")
    func complete() {
        #expect(Self.removals.count == 16)
        #expect(Set(Self.removals.map(\.twins)) == Set(Self.table.keys))
        let claims = Self.table.mapValues(\.count)
        #expect(claims.values.allSatisfy { $0 > 0 })
    }

    @Test("Without it the claim that names it fails, in its family alone", arguments: removals)
    func counts(_ removal: Removal) throws {
        for claim in try #require(Self.table[removal.twins]) {
            let conditions = RunConditions(engine: .user, variables: ["without": removal.filter])
            let scenario = try ScenarioCatalog.scenario(claim.scenario, conditions: conditions)
            let checks = ScenarioRunner(conditions: conditions).run(scenario)
            let named = try #require(
                checks.first { $0.claim == "\(removal.family): \(claim.claim)" },
                "\(claim.scenario) was not played: \(checks.map { "\($0.claim): \($0.detail)" })")
            #expect(!named.passed, "\(removal.filter) is missed by nobody: \(named.claim): \(named.detail)")
            let others = checks.filter { !$0.claim.hasPrefix(removal.family) }
            #expect(others.contains { $0.claim.hasSuffix(claim.claim) }, "the other family was played")
            for check in others { #expect(check.passed, "\(removal.filter): \(check.claim): \(check.detail)") }
            print("without \(removal.filter) | \(claim.scenario) | \(named.claim) | \(named.detail)")
        }
    }
}
