import CNDABI
import NDABI
import NDCore
import Testing

@testable import NDDatapath
@testable import NDPolicy

/// BPF's classifier against the Swift reference on random filter sets and packets. ND_SEED chooses the
/// numbers, ND_FILTER_CASES how many pairs.
@Suite("BPF's filters against the reference")
struct FilterDifferentialTests {
    static let workers = 2

    /// Sizes of sets, and packets for each: a large set costs the reference a linear walk a packet.
    static let sizes: [(filters: Int, packets: Int)] = [
        (0, 256), (1, 2048), (3, 4096), (10, 4096), (30, 4096), (64, 4096), (65, 4096), (200, 2048), (513, 1024),
        (1000, 512), (3000, 128), (10_000, 64),
    ]

    @Test("No pair of filter set and packet is judged differently", arguments: 0..<workers)
    func agrees(_ worker: Int) throws {
        let wanted = Seeded.count("ND_FILTER_CASES", 1_000_000) / Self.workers
        var dice = FilterDice(random: Seeded(Seeded.chosen &+ UInt64(worker) &* 7919))
        let probe = try FilterProbe()
        for address in FilterPacket.unicast { try probe.local.update(nd_addr(bytesOf: address), ND_LOCAL_UNICAST) }
        try probe.local.update(nd_addr(bytesOf: FilterPacket.broadcast), ND_LOCAL_BROADCAST)
        var (cases, sets, decided, differences) = (0, 0, 0, 0)
        var layers: Set<String> = []
        var effects: [Arbitration<FilterDecision>.Effect: Int] = [:]
        while cases < wanted, differences == 0 {
            let (count, packets) = Self.sizes[sets % Self.sizes.count]
            sets += 1
            let filters = dice.filters(count)
            let policy = CompiledPolicy(filters: filters)
            try probe.commit(policy.image(generation: UInt32(sets)))
            let asked = (0..<packets).map { _ in dice.packet(filters) }
            try probe.put(asked.map(\.question))
            #expect(try probe.run(packets).generation == UInt32(sets))
            for (packet, answer) in zip(asked, try probe.answers(packets)) {
                let reference = policy.classifier.arbitrate(
                    packet.layer, packet.family, packet.values, callout: FilterDice.callout)
                let expected = reference.decision
                for effect in reference.effects { effects[effect, default: 0] += 1 }
                if expected != nil {
                    decided += 1
                    layers.insert(packet.layer.name(packet.family))
                }
                guard answer.decision != expected else { continue }
                differences += 1
                if differences > 3 { continue }
                Issue.record(
                    "ND_SEED=\(Seeded.chosen) worker \(worker) set \(sets) of \(count): \(packet)\n  reference \(String(describing: expected))\n  BPF \(String(describing: answer.decision))")
            }
            cases += packets
        }
        print("filters: ND_SEED=\(Seeded.chosen) worker \(worker): \(cases) pairs, \(sets) sets, \(decided) decided, \(differences) differences")
        print("filters: drawn \(dice.drawn.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))")
        print("filters: words: \(effects.map { "\($0.key.rawValue) \($0.value)" }.sorted().joined(separator: ", "))")
        guard cases >= 100_000 else { return }
        for effect in Arbitration<FilterDecision>.Effect.allCases { #expect(effects[effect, default: 0] > cases / 5000, "\(effect) hardly happens") }
        let all = PacketField.allCases.map { "\($0)" } + FilterDice.shapes + FilterDice.verdicts
            + FilterDice.answers + ["hard", "changes"]
        for what in all { #expect(dice.drawn[what, default: 0] > 100, "\(what) is hardly drawn") }
        #expect(layers.count == DatapathLayer.all.count * 2)
        #expect(decided > cases / 3)
    }

    @Test("Packets during 1,000 commits see the old policy or the new one, whole")
    func commits() throws {
        let probe = try FilterProbe()
        // Every filter of a policy says its generation, in every layer and several banks.
        func image(_ generation: UInt32, filters: Int) throws -> PolicyImage {
            let filters = DatapathLayer.all.flatMap { layer in
                (0..<filters).map { index in
                    RangeFilter(
                        id: UInt64(generation), layer: layer, family: .v4, sublayer: 0, weight: UInt64(filters - index),
                        fields: [.remoteAddress: [UInt128(index)...UInt128(index)]],
                        verdict: .callout(.negotiateDiscover, context: generation))
                }
            }
            return try CompiledPolicy(filters: filters).image(generation: generation)
        }
        let small = try image(1, filters: 10), large = try image(2, filters: 3000)
        #expect(large.banks > 1)
        try probe.commit(small)
        let questions = (0..<10).flatMap { index in
            DatapathLayer.all.map { layer in
                FilterPacket(layer: layer, family: .v4, [.remoteAddress: UInt128(index), .proto: 6]).question
            }
        }
        try probe.put(questions)
        let stream = PacketStream(probe, questions: questions.count)
        stream.start()
        for commit in 0..<1000 { try probe.commit(commit % 2 == 0 ? large : small) }
        let seen = stream.stop()
        #expect(seen.mixed == 0 && seen.failed == 0)
        #expect(seen.generations[1, default: 0] > 0 && seen.generations[2, default: 0] > 0)
        print("commits: 1000 under \(seen.runs) runs of \(questions.count) packets, \(seen.generations)")
    }
}

extension nd_question {
    var decision: FilterDecision? {
        guard found >= 0, let action = RuleAction(rawValue: UInt8(truncatingIfNeeded: found)) else { return nil }
        return FilterDecision(action, context: UInt32(truncatingIfNeeded: found >> 8), filter: filter)
    }
}
