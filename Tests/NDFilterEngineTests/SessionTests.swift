import NDFilterEngine
import Testing

@testable import NegotiationDiscoveryExample

@Suite("The filter engine as a library")
struct SessionTests {
    @Test("The documented program builds, call by call, what the scenario expands to")
    func example() throws {
        let session = FilterEngineSession()
        try NegotiationDiscovery.configure(session)
        var expected = Policy(scenario: .negotiationDiscovery).expanded
        expected.scenario = nil
        #expect(session.state == expected)
        // A second run finds everything there.
        #expect(throws: NDError.self) { try NegotiationDiscovery.configure(session) }
        #expect(session.state == expected)
    }

    @Test("A session hands each committed state to its datapath, and keeps the old one when that fails")
    func apply() throws {
        final class Datapath: Sendable {
            let seen = SeenStates()
        }
        let datapath = Datapath()
        let session = FilterEngineSession { state in
            if state.filters.contains(where: { $0.name == "impossible" }) { throw NDError("test", "the datapath refuses") }
            datapath.seen.append(state)
        }
        let layer = Layer(.outboundTransport, .v4)
        try session.transaction { try $0.add(Filter(name: "a", layer: layer, action: .block)) }
        #expect(throws: NDError.self) {
            try session.transaction { try $0.add(Filter(name: "impossible", layer: layer, action: .block)) }
        }
        #expect(throws: EngineErrors.self) {
            try session.transaction { try $0.add(Filter(name: "dangling", layer: layer, sublayer: GUID(high: 1, low: 2), action: .block)) }
        }
        #expect(session.state.filters.map(\.name) == ["a"])
        #expect(datapath.seen.all.map { $0.filters.count } == [1])
    }

    @Test("Threads that commit at the same time lose nothing silently: each wins or is told of the conflict")
    func threads() async throws {
        let session = FilterEngineSession()
        let won = await withTaskGroup(of: Bool.self) { group in
            for index in 0..<64 {
                group.addTask {
                    do {
                        try session.transaction {
                            try $0.add(Filter(name: "f\(index)", layer: Layer(.outboundTransport, .v4), action: .permit))
                        }
                        return true
                    } catch { return false }
                }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(won >= 1 && session.state.filters.count == won)
        #expect(Set(session.state.filters.map(\.id)).count == won)
    }
}

/// What a datapath was given, for the test to look at.
final class SeenStates: Sendable {
    private let states = Locked<[ExpandedPolicy]>([])

    func append(_ state: ExpandedPolicy) { states.with { $0.append(state) } }

    var all: [ExpandedPolicy] { states.with { $0 } }
}
