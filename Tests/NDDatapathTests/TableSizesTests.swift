import NDDatapath
import Testing

@Suite("Sizes of tables")
struct TableSizesTests {
    @Test("A server of 24 GiB holds a million connections, a small one some thousands")
    func byMemory() {
        // What a kernel leaves of 24 GiB.
        #expect(TableSizes(memory: 23_500 << 20).flows > 1_000_000)
        #expect(TableSizes(memory: 1 << 30).flows == 52_428)
        #expect(TableSizes(memory: 128 << 20).flows == 16_384)
        for bytes in [0, 1 << 20, 1 << 34, 1 << 44, UInt64.max] as [UInt64] {
            let sizes = TableSizes(memory: bytes)
            #expect(TableSizes.flowsRange.contains(sizes.flows))
            #expect(TableSizes.securedRange.contains(sizes.secured))
            #expect(TableSizes.peersRange.contains(sizes.peers))
        }
        #expect(TableSizes.ofHost().flows >= 16_384)
    }

    @Test("What the operator says goes before the memory, the command line before the policy")
    func chosen() {
        let host = TableSizes(memory: 1 << 34)
        #expect(TableSizeChoice().resolved(for: host) == host)
        let flows = TableSizeChoice(flows: 2000).resolved(for: host)
        #expect(flows.flows == 2000 && flows.secured == 2000 && flows.peers == host.peers)
        let all = TableSizeChoice(flows: 2000).or(TableSizeChoice(flows: 9999, secured: 64, peers: 70)).resolved(for: host)
        #expect(all.flows == 2000 && all.secured == 64 && all.peers == 70)
    }

    @Test("From 80 % on there is a warning, which says what comes and what helps")
    func fill() {
        #expect(!TableFill(name: "secured", entries: 79, size: 100).isHigh)
        let fill = TableFill(name: "secured", entries: 80, size: 100)
        #expect(fill.isHigh)
        #expect(fill.warning.contains("80 %") && fill.warning.contains("no new connection") && fill.warning.contains("tables: { secured: N }"))
        #expect(TableFill(name: "secured", entries: 0, size: 0).share == 0)
    }
}
