import CNDABI
import NDABI
import NDCore
import Testing

@testable import NDPolicy

extension RangeFilter {
    /// Without what tables don't keep: the numbers of sublayers and weights, only their order counts.
    var plain: RangeFilter {
        var filter = self
        (filter.sublayer, filter.weight) = (0, 0)
        return filter
    }
}

@Suite("Arbitration between filters that match")
struct RangeArbitrationTests {
    /// Heaviest first; each is a sublayer's list of verdicts, a trailing true makes one hard.
    private func decide(
        _ sublayers: [[(RangeFilter.Verdict, Bool)]], callout: @escaping (UInt32) -> CalloutAnswer? = { _ in nil }
    ) throws -> FilterDecision? {
        var filters: [RangeFilter] = []
        for (sublayer, verdicts) in sublayers.enumerated() {
            for (verdict, isHard) in verdicts {
                filters.append(
                    RangeFilter(
                        id: UInt64(filters.count + 1), layer: .inboundTransport, family: .v4, sublayer: sublayer, weight: 1,
                        fields: [:], verdict: verdict, isHard: isHard))
            }
        }
        let compiled = CompiledPolicy(filters: filters)
        let linear = compiled.classifier.decide(.inboundTransport, .v4, FieldValues(), callout: callout)
        let tables = TableClassifier(try compiled.image(generation: 1))
        #expect(tables.decide(.inboundTransport, .v4, FieldValues(), callout: callout) == linear)
        return linear
    }

    private let protect = RangeFilter.Verdict.callout(.persistSecurity, context: 7)

    @Test("In a sublayer the first filter that gives its word decides")
    func first() throws {
        #expect(try decide([[(.permit, false), (.block, false)]]) == FilterDecision(.permit, filter: 1))
        #expect(try decide([[(.unregistered(terminating: false), false), (.block, false)]])?.filter == 2)
        #expect(try decide([]) == nil)
    }

    @Test("A block of any sublayer beats a soft permit, a soft one can be lifted, and the heaviest block is named")
    func block() throws {
        #expect(try decide([[(.permit, false)], [(.block, false)]]) == FilterDecision(.block, filter: 2))
        #expect(try decide([[(.block, true)], [(.permit, true)]]) == FilterDecision(.block, filter: 1))
        #expect(try decide([[(.block, false)], [(.permit, false)]]) == FilterDecision(.permit, filter: 2))
        #expect(try decide([[(.block, false)], [(protect, false)]]) == FilterDecision(.persistSecurity, context: 7, filter: 2))
        #expect(try decide([[(.block, false)], [(.block, true)]]) == FilterDecision(.block, filter: 1))
        #expect(try decide([[(.block, false)], [(.block, true)], [(.permit, true)]]) == FilterDecision(.block, filter: 1))
    }

    @Test("A program's block is lifted by a lighter permit, its veto by nothing")
    func programBlock() throws {
        let program = RangeFilter.Verdict.program(3, inspection: false, changes: false)
        #expect(try decide([[(program, false)], [(.permit, false)]]) { _ in .block } == FilterDecision(.permit, filter: 2))
        #expect(try decide([[(program, true)], [(.permit, false)]]) { _ in .block } == FilterDecision(.block, filter: 1))
        #expect(try decide([[(program, false)], [(.permit, true)]]) { _ in .veto } == FilterDecision(.block, filter: 1))
        #expect(try decide([[(.permit, true)], [(program, false)]]) { _ in .veto } == FilterDecision(.block, filter: 2))
        // Nobody's is no veto.
        #expect(try decide([[(.permit, true)], [(program, false)]]) == FilterDecision(.permit, filter: 1))
    }

    @Test("A hard permit stands against lighter blocks, but not against a veto")
    func hardPermit() throws {
        let veto = RangeFilter.Verdict.program(3, inspection: false, changes: false)
        #expect(try decide([[(.permit, true)], [(.block, true)]]) == FilterDecision(.permit, filter: 1))
        #expect(try decide([[(.permit, true)], [(veto, true)]]) { _ in .block } == FilterDecision(.block, filter: 2))
        #expect(try decide([[(.permit, true)], [(veto, false)]]) { _ in .block } == FilterDecision(.permit, filter: 1))
        #expect(try decide([[(.permit, true)], [(veto, true)]]) { _ in .permit } == FilterDecision(.permit, filter: 1))
    }

    @Test("A hard block ends the matter: what is lighter is not asked")
    func hardBlock() throws {
        let program = RangeFilter.Verdict.program(3, inspection: true, changes: false)
        nonisolated(unsafe) var asked = 0
        let count: (UInt32) -> CalloutAnswer? = { _ in
            asked += 1
            return nil
        }
        #expect(try decide([[(.block, true)], [(program, false)]], callout: count)?.action == .block)
        #expect(asked == 0)
        #expect(try decide([[(.block, false)], [(program, false)]], callout: count)?.action == .block)
        // Once by the filters, once by the tables.
        #expect(asked == 2)
    }

    @Test("An IPsec callout takes the place of a plain permit and gives way to a block")
    func callout() throws {
        let work = FilterDecision(.persistSecurity, context: 7, filter: 2)
        #expect(try decide([[(.permit, false)], [(protect, false)]]) == work)
        #expect(try decide([[(protect, false)], [(.permit, false)]])?.filter == 1)
        #expect(try decide([[(protect, false)], [(.callout(.initiateSecure, context: 1), false)]])?.context == 7)
        #expect(try decide([[(protect, false)], [(.block, false)]])?.action == .block)
        #expect(try decide([[(protect, true)], [(.block, false)]])?.action == .persistSecurity)
        #expect(try decide([[(.permit, true)], [(protect, false)]])?.action == .permit)
    }

    @Test("A terminating callout that nobody registered blocks, an inspection goes on; a program's answer counts")
    func programs() throws {
        let program = RangeFilter.Verdict.program(9, inspection: false, changes: false)
        #expect(try decide([[(.unregistered(terminating: true), false)]])?.action == .block)
        #expect(try decide([[(program, false), (.permit, false)]])?.action == .block)
        #expect(try decide([[(program, false), (.permit, false)]]) { $0 == 9 ? .goOn : nil }?.filter == 2)
        #expect(try decide([[(program, false), (.block, false)]]) { _ in .permit }?.filter == 1)
        #expect(try decide([[(.program(9, inspection: true, changes: false), false), (.permit, false)]]) { _ in .block }?.action == .permit)
    }
}

@Suite("Tables")
struct TableTests {
    @Test("Filters that need more room than the banks have are refused with the way out")
    func tooLarge() {
        let filters = DatapathLayer.all.flatMap { layer in
            IPFamily.allCases.flatMap { family in
                (0..<16384).map { index in
                    let (local, remote) = (UInt128(index), UInt128(index) * 3)
                    return RangeFilter(
                        id: UInt64(index), layer: layer, family: family, sublayer: 0, weight: UInt64(index),
                        fields: [.localPort: [local...local + 5], .remotePort: [remote...remote + 9]], verdict: .permit)
                }
            }
        }
        do {
            _ = try CompiledPolicy(filters: filters).image(generation: 1)
            Issue.record("compiled")
        } catch {
            #expect(error.code == "policy.too-large" && error.message.contains("32 MiB") && error.hint != nil)
        }
    }

    @Test("A filter with no value in a field never matches, and absent fields match only filters that don't test them")
    func absent() throws {
        func filter(_ id: UInt64, _ fields: [PacketField: [ClosedRange<UInt128>]]) -> RangeFilter {
            RangeFilter(
                id: id, layer: .outboundTransport, family: .v6, sublayer: 0, weight: 100 - id, fields: fields, verdict: .permit)
        }
        let all: ClosedRange<UInt128> = 0...UInt128.max
        let compiled = CompiledPolicy(filters: [filter(1, [.proto: []]), filter(2, [.localPort: [all]]), filter(3, [.localAddress: [all]])])
        let tables = TableClassifier(try compiled.image(generation: 1))
        var values = FieldValues()
        values[.localAddress] = UInt128.max
        values[.proto] = 6
        #expect(tables.decide(.outboundTransport, .v6, values)?.filter == 3)
        values[.localPort] = 65535
        #expect(tables.decide(.outboundTransport, .v6, values)?.filter == 2)
    }
}
