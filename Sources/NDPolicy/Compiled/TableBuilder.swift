import CNDABI
import NDABI
import NDCore

/// Turns the filters of one layer and family, in the order they are asked, into a table
/// (docs/classification.md).
struct TableBuilder {
    let layer: DatapathLayer
    let family: IPFamily
    let filters: [RangeFilter]

    static let mostFilters = Int(ND_TABLE_FILTERS)
    private var isSmall: Bool { filters.count <= Int(ND_SMALL_TABLE) }

    func build(into arena: inout TableArena) throws(NDError) -> nd_table {
        guard filters.count <= Self.mostFilters else {
            throw NDError(
                "policy.too-many-filters",
                "layer \(layer.name(family)) has \(filters.count) filters, the limit is \(Self.mostFilters)",
                hint: "one filter can name many addresses and ports: join filters that say the same")
        }
        var table = nd_table()
        guard !filters.isEmpty else { return table }
        table.filters = UInt32(clamping: filters.count)
        table.says = try arena.place(says, aligned: 8)
        var rows = RowStore(filters: filters.count)
        var fields = [nd_field](repeating: nd_field(), count: PacketField.allCases.count)
        for field in PacketField.allCases where filters.contains(where: { $0.fields[field] != nil }) {
            table.tested |= 1 << UInt32(field.rawValue)
            fields[Int(table.fields_tested)] = try column(field, &rows, &arena)
            table.fields_tested += 1
        }
        withUnsafeMutableBytes(of: &table.fields) { target in
            fields.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0.prefix(target.count))) }
        }
        return table
    }

    private var says: [nd_filter] {
        var next = filters.count
        var result: [nd_filter] = []
        for index in filters.indices.reversed() {
            if index + 1 < filters.count, filters[index + 1].sublayer != filters[index].sublayer { next = index + 1 }
            result.append(filters[index].abi(next: next))
        }
        return result.reversed()
    }

    /// A filter begins or ceases to take the field's values.
    private struct Change {
        var value: UInt128
        var filter: Int
    }

    private func column(
        _ field: PacketField, _ rows: inout RowStore, _ arena: inout TableArena
    ) throws(NDError) -> nd_field {
        let largest = field.largest(family)
        var sweep = Sweep(blocks: rows.blockCount, isSmall: isSmall)
        var changes: [Change] = []
        for (index, filter) in filters.enumerated() {
            guard let ranges = filter.fields[field] else {
                sweep.flip(index)
                continue
            }
            for range in ranges where range.lowerBound <= largest {
                changes.append(Change(value: range.lowerBound, filter: index))
                if range.upperBound < largest { changes.append(Change(value: range.upperBound + 1, filter: index)) }
            }
        }
        var column = nd_field()
        column.number = UInt16(field.rawValue)
        let absent = try sweep.row(&rows, &arena)
        changes.sort { $0.value < $1.value }

        var starts: [UInt128] = []
        var sets: [UInt64] = []
        var index = 0
        var value: UInt128 = 0
        while true {
            while index < changes.count, changes[index].value == value {
                sweep.flip(changes[index].filter)
                index += 1
            }
            let row = try sweep.row(&rows, &arena)
            if row != sets.last {
                if !sets.isEmpty { starts.append(value) }
                sets.append(row)
            }
            guard index < changes.count else { break }
            value = changes[index].value
        }
        if field.width(family) == 8 {
            try place(Self.direct(starts, sets), absent, &column, &arena)
        } else {
            try place(starts, sets, absent, field, &column, &arena)
        }
        return column
    }

    /// One row for each of 256 values.
    private static func direct(_ starts: [UInt128], _ sets: [UInt64]) -> [UInt64] {
        var interval = 0
        return (0..<256).map { value in
            if interval < starts.count, starts[interval] == UInt128(value) { interval += 1 }
            return sets[interval]
        }
    }

    /// The rows, and behind them that of a packet without the field.
    private func place(
        _ sets: [UInt64], _ absent: UInt64, _ column: inout nd_field, _ arena: inout TableArena
    ) throws(NDError) {
        let all = sets + [absent]
        if isSmall {
            column.rows = try arena.place(all, aligned: 8)
        } else {
            column.rows = try arena.place(all.map { UInt32(truncatingIfNeeded: $0) }, aligned: 4)
        }
        column.absent = column.rows + UInt32(sets.count * (isSmall ? 8 : 4))
    }

    /// Padded to 2^depth intervals: the largest value as a start, and the last interval's row.
    private func place(
        _ starts: [UInt128], _ sets: [UInt64], _ absent: UInt64, _ field: PacketField, _ column: inout nd_field,
        _ arena: inout TableArena
    ) throws(NDError) {
        let isWide = field.width(family) > 64
        let most = Int(ND_SEARCH_DEPTH) - (isWide ? 1 : 0)
        var depth = 0
        while 1 << depth < sets.count { depth += 1 }
        guard depth <= most else {
            throw NDError(
                "policy.too-large",
                "the filters of layer \(layer.name(family)) cut \(field) into \(sets.count) intervals, the limit is \(1 << most)",
                hint: "use fewer or wider ranges")
        }
        let padding = (1 << depth) - sets.count
        let padded = starts + Array(repeating: field.largest(family), count: padding)
        column.depth = UInt16(clamping: depth)
        if isWide {
            let words = padded.flatMap { [UInt64(truncatingIfNeeded: $0 >> 64), UInt64(truncatingIfNeeded: $0)] }
            column.starts = try arena.place(words, aligned: 16)
        } else {
            column.starts = try arena.place(padded.map { UInt32(truncatingIfNeeded: $0) }, aligned: 4)
        }
        try place(sets + Array(repeating: sets.last ?? 0, count: padding), absent, &column, &arena)
    }
}

/// The set of filters that take the value at hand, block by block.
private struct Sweep {
    private var words: [UInt64]
    private var references: [UInt32]
    private var isStale: [Bool]
    private var stale: [Int]
    private let isSmall: Bool

    init(blocks: Int, isSmall: Bool) {
        self.isSmall = isSmall
        words = Array(repeating: 0, count: blocks * RowStore.blockWords)
        references = Array(repeating: 0, count: blocks)
        isStale = Array(repeating: false, count: blocks)
        stale = []
    }

    mutating func flip(_ filter: Int) {
        words[filter / 64] ^= 1 << UInt64(filter % 64)
        let block = filter / Int(ND_BLOCK_FILTERS)
        if !isStale[block] {
            isStale[block] = true
            stale.append(block)
        }
    }

    /// The row's address, or of a small table the filters themselves.
    mutating func row(_ rows: inout RowStore, _ arena: inout TableArena) throws(NDError) -> UInt64 {
        if isSmall { return words[0] }
        for block in stale {
            let first = block * RowStore.blockWords
            references[block] = try rows.reference(words[first..<first + RowStore.blockWords], &arena)
            isStale[block] = false
        }
        stale.removeAll(keepingCapacity: true)
        return UInt64(try rows.row(references, &arena))
    }
}
