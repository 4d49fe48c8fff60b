import CNDABI
import NDABI
import NDCore

/// Rows of one layer and family: sets of filters, each stored once however many intervals share it.
struct RowStore {
    static let blockWords = Int(ND_BLOCK_WORDS)

    private var blocks = ContentIndex<UInt64>(width: RowStore.blockWords)
    private var rows: ContentIndex<UInt32>
    let blockCount: Int

    init(filters: Int) {
        blockCount = (filters + Int(ND_BLOCK_FILTERS) - 1) / Int(ND_BLOCK_FILTERS)
        rows = ContentIndex(width: 1 + blockCount)
    }

    /// A row's reference to a block: where its bits are, and which words of it are not zero. 0: none.
    mutating func reference(_ words: ArraySlice<UInt64>, _ arena: inout TableArena) throws(NDError) -> UInt32 {
        var mask: UInt32 = 0
        for (bit, word) in words.enumerated() where word != 0 { mask |= 1 << UInt32(bit) }
        guard mask != 0 else { return 0 }
        let address = try blocks.address(of: words) { content throws(NDError) in try arena.place(content, aligned: 64) }
        return (address / 64) << ND_REFERENCE_SHIFT | mask
    }

    mutating func row(_ references: [UInt32], _ arena: inout TableArena) throws(NDError) -> UInt32 {
        var summary: UInt32 = 0
        for (bit, reference) in references.enumerated() where reference != 0 { summary |= 1 << UInt32(bit) }
        return try rows.address(of: ([summary] + references)[...]) { content throws(NDError) in
            try arena.place(content, aligned: 4)
        }
    }
}

/// Where content of a fixed width was placed, by the content.
private struct ContentIndex<Word: FixedWidthInteger> {
    private let width: Int
    private var contents: [Word] = []
    private var addresses: [UInt32] = []
    /// Open addressing; -1 is free. Never more than half full.
    private var slots = [Int32](repeating: -1, count: 64)

    init(width: Int) { self.width = width }

    mutating func address(of content: ArraySlice<Word>, place: ([Word]) throws(NDError) -> UInt32) throws(NDError) -> UInt32 {
        var slot = Self.hash(content) & (slots.count - 1)
        while slots[slot] >= 0 {
            let index = Int(slots[slot])
            if contents[index * width..<(index + 1) * width].elementsEqual(content) { return addresses[index] }
            slot = (slot + 1) & (slots.count - 1)
        }
        let address = try place(Array(content))
        slots[slot] = Int32(truncatingIfNeeded: addresses.count)
        contents.append(contentsOf: content)
        addresses.append(address)
        if addresses.count * 2 > slots.count { grow() }
        return address
    }

    private mutating func grow() {
        slots = [Int32](repeating: -1, count: slots.count * 2)
        for index in addresses.indices {
            var slot = Self.hash(contents[index * width..<(index + 1) * width]) & (slots.count - 1)
            while slots[slot] >= 0 { slot = (slot + 1) & (slots.count - 1) }
            slots[slot] = Int32(truncatingIfNeeded: index)
        }
    }

    private static func hash(_ content: ArraySlice<Word>) -> Int {
        var hash: UInt64 = 0x9e37_79b9_7f4a_7c15
        for word in content {
            hash = (hash ^ UInt64(truncatingIfNeeded: word)) &* 0xff51_afd7_ed55_8ccd
            hash ^= hash >> 32
        }
        return Int(truncatingIfNeeded: hash >> 1)
    }
}
