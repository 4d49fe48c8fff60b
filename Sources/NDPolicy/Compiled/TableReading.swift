import CNDABI
import NDABI
import NDCore

extension PolicyImage {
    /// The filters that the tables were made of, for `policy show --loaded` and for tests; nil where
    /// they can't be. Sublayers are numbered by their order, weights too.
    public func filters() -> [RangeFilter]? {
        var result: [RangeFilter] = []
        for layer in DatapathLayer.all {
            for family in IPFamily.allCases {
                guard let filters = filters(layer, family) else { return nil }
                result += filters
            }
        }
        return result
    }

    private func filters(_ layer: DatapathLayer, _ family: IPFamily) -> [RangeFilter]? {
        let table = table(layer, family)
        let count = Int(table.filters)
        guard count <= TableBuilder.mostFilters else { return nil }
        var result: [RangeFilter] = []
        var sublayer = 0
        for index in 0..<count {
            guard let says = filter(table, index), let verdict = RangeFilter.verdict(says) else { return nil }
            if index > 0, let before = filter(table, index - 1), before.next == UInt32(clamping: index) { sublayer += 1 }
            result.append(
                RangeFilter(
                    id: says.id, layer: layer, family: family, sublayer: sublayer, weight: UInt64(count - index),
                    fields: [:], verdict: verdict, isHard: UInt32(says.flags) & ND_FILTER_HARD != 0))
        }
        for field in PacketField.allCases where table.tests(field) {
            let column = table[field]
            let absent = set(self.absent(table, column), table)
            var ranges: [[ClosedRange<UInt128>]] = Array(repeating: [], count: count)
            for (row, interval) in intervals(field, family, table, column) {
                for index in set(row, table) {
                    if let last = ranges[index].last, last.upperBound + 1 == interval.lowerBound {
                        ranges[index][ranges[index].count - 1] = last.lowerBound...interval.upperBound
                    } else {
                        ranges[index].append(interval)
                    }
                }
            }
            // Who takes a packet without the field doesn't test it.
            let untested = Set(absent)
            for index in 0..<count where !untested.contains(index) { result[index].fields[field] = ranges[index] }
        }
        return result
    }

    private func intervals(
        _ field: PacketField, _ family: IPFamily, _ table: nd_table, _ column: nd_field
    ) -> [(row: UInt64, interval: ClosedRange<UInt128>)] {
        let largest = field.largest(family)
        if field.width(family) == 8 {
            return (0...255).map { (row(at: $0, table, column), UInt128($0)...UInt128($0)) }
        }
        var result: [(row: UInt64, interval: ClosedRange<UInt128>)] = []
        var first: UInt128 = 0
        let count = 1 << Int(min(column.depth, UInt16(ND_SEARCH_DEPTH)))
        for place in 0..<count {
            let row = row(at: place, table, column)
            let next = place + 1 < count ? start(field, family, column, place) : 0
            // The padding repeats the last row.
            let isLast = place + 1 == count || next == largest && self.row(at: count - 1, table, column) == row
            if isLast {
                result.append((row, first...largest))
                break
            }
            guard next > first else { break }
            result.append((row, first...(next - 1)))
            first = next
        }
        return result
    }

    /// The filters of a row.
    private func set(_ row: UInt64, _ table: nd_table) -> [Int] {
        let count = Int(table.filters)
        if table.isSmall { return (0..<count).filter { row >> UInt64($0) & 1 != 0 } }
        let row = Int(row)
        var result: [Int] = []
        for block in 0..<(count + Int(ND_BLOCK_FILTERS) - 1) / Int(ND_BLOCK_FILTERS) {
            let reference = word32(row + 4 + 4 * block)
            for index in 0..<RowStore.blockWords where reference >> UInt32(index) & 1 != 0 {
                var word = word64(Int(reference >> ND_REFERENCE_SHIFT) * 64 + index * 8)
                while word != 0 {
                    let filter = block * Int(ND_BLOCK_FILTERS) + index * 64 + word.trailingZeroBitCount
                    if filter < count { result.append(filter) }
                    word &= word - 1
                }
            }
        }
        return result
    }
}
