import NDABI
import NDCore
import NDPolicy
import Testing

@Suite("Tables against filters, in Swift")
struct FilterTableTests {
    @Test("Tables say what the filters say, and give the filters back", arguments: 0..<8)
    func agrees(_ worker: Int) throws {
        var dice = FilterDice(random: Seeded(Seeded.chosen &+ UInt64(worker)))
        for round in 0..<40 {
            let filters = dice.filters(dice.random.pick([0, 1, 2, 5, 20, 63, 64, 65, 511, 512, 513, 1200]))
            let policy = CompiledPolicy(filters: filters)
            let image = try policy.image(generation: UInt32(round))
            let tables = TableClassifier(image)
            for _ in 0..<40 {
                let packet = dice.packet(filters)
                let values = packet.values
                let expected = policy.classifier.decide(packet.layer, packet.family, values, callout: FilterDice.callout)
                let found = tables.decide(packet.layer, packet.family, values, callout: FilterDice.callout)
                guard found != expected else { continue }
                Issue.record("seed \(Seeded.chosen) worker \(worker) round \(round): \(packet): filters \(String(describing: expected)), tables \(String(describing: found))")
                return
            }
            let back = try #require(CompiledPolicy(image))
            #expect(back.filters.count == filters.count)
            for (filter, read) in zip(policy.filters, back.filters) {
                #expect(filter.id == read.id && filter.fields == read.fields && filter.verdict == read.verdict && filter.isHard == read.isHard)
            }
        }
    }
}
