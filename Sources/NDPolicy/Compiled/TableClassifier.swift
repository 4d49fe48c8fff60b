import CNDABI
import NDABI
import NDCore

/// Asks a policy's tables as BPF does (bpf/match.h), step by step.
public struct TableClassifier: Sendable {
    public let image: PolicyImage

    public init(_ image: PolicyImage) { self.image = image }

    public func decide(
        _ layer: DatapathLayer, _ family: IPFamily, _ values: FieldValues,
        callout: (UInt32) -> CalloutAnswer? = { _ in nil }
    ) -> FilterDecision? {
        let table = image.table(layer, family)
        let rows = PacketField.allCases.filter { table.tests($0) }.map { image.row($0, family, table, values[$0]) }
        var arbitration = RangeArbitration()
        var from = 0
        /// Asks the filters of a word of 64; false: nobody else is asked.
        func ask(_ word: UInt64, _ first: Int) -> Bool {
            var word = word
            while word != 0 {
                let filter = first + word.trailingZeroBitCount
                word &= word - 1
                guard filter >= from, filter < Int(table.filters) else { continue }
                guard let says = image.filter(table, filter), let verdict = RangeFilter.verdict(says) else { continue }
                let isHard = UInt32(says.flags) & ND_FILTER_HARD != 0
                switch arbitration.consider(says.id, verdict, isHard: isHard, callout: callout) {
                case .nextFilter: continue
                case .nextSublayer: from = Int(says.next)
                case .end: return false
                }
            }
            return true
        }
        if table.isSmall {
            _ = ask(rows.reduce(~0, &), 0)
            return arbitration.decision
        }
        let addresses = rows.map { Int($0) }
        let blocks = (Int(table.filters) + Int(ND_BLOCK_FILTERS) - 1) / Int(ND_BLOCK_FILTERS)
        for block in 0..<blocks where addresses.allSatisfy({ image.word32($0) >> UInt32(block) & 1 != 0 }) {
            let references = addresses.map { image.word32($0 + 4 + 4 * block) }
            let mask = references.reduce(~0, &)
            for index in 0..<RowStore.blockWords where mask >> UInt32(index) & 1 != 0 {
                let word = references.reduce(~UInt64(0)) {
                    $0 & image.word64(Int($1 >> ND_REFERENCE_SHIFT) * 64 + index * 8)
                }
                guard ask(word, block * Int(ND_BLOCK_FILTERS) + index * 64) else { return arbitration.decision }
            }
        }
        return arbitration.decision
    }
}

extension PolicyImage {
    func word32(_ address: Int) -> UInt32 { load(at: address, as: UInt32.self) ?? 0 }
    func word64(_ address: Int) -> UInt64 { load(at: address, as: UInt64.self) ?? 0 }

    func table(_ layer: DatapathLayer, _ family: IPFamily) -> nd_table {
        let first = MemoryLayout<nd_policy>.offset(of: \nd_policy.tables) ?? 0
        let index = LinearClassifier.group(layer, family)
        return load(at: first + index * MemoryLayout<nd_table>.stride, as: nd_table.self) ?? nd_table()
    }

    func filter(_ table: nd_table, _ index: Int) -> nd_filter? {
        load(at: Int(table.says) + index * MemoryLayout<nd_filter>.stride, as: nd_filter.self)
    }

    /// The row of a value: its address, or of a small table the filters themselves.
    func row(_ field: PacketField, _ family: IPFamily, _ table: nd_table, _ value: UInt128?) -> UInt64 {
        let column = table[field]
        guard let value else { return absent(table, column) }
        if field.width(family) == 8 { return row(at: Int(value & 255), table, column) }
        var step = 1 << Int(min(column.depth, UInt16(ND_SEARCH_DEPTH)))
        var place = 0
        while step > 1 {
            step >>= 1
            if value >= start(field, family, column, place + step - 1) { place += step }
        }
        return row(at: place, table, column)
    }

    func row(at place: Int, _ table: nd_table, _ column: nd_field) -> UInt64 {
        table.isSmall ? word64(Int(column.rows) + 8 * place) : UInt64(word32(Int(column.rows) + 4 * place))
    }

    /// The row of a packet without the field.
    func absent(_ table: nd_table, _ column: nd_field) -> UInt64 {
        table.isSmall ? word64(Int(column.absent)) : UInt64(word32(Int(column.absent)))
    }

    func start(_ field: PacketField, _ family: IPFamily, _ column: nd_field, _ index: Int) -> UInt128 {
        guard field.width(family) > 64 else { return UInt128(word32(Int(column.starts) + 4 * index)) }
        let address = Int(column.starts) + 16 * index
        return UInt128(word64(address)) << 64 | UInt128(word64(address + 8))
    }
}

extension nd_table {
    func tests(_ field: PacketField) -> Bool { tested >> UInt32(field.rawValue) & 1 != 0 }

    var isSmall: Bool { filters <= ND_SMALL_TABLE }

    /// Empty where no filter tests the field.
    subscript(field: PacketField) -> nd_field {
        withUnsafeBytes(of: fields) { bytes in
            bytes.bindMemory(to: nd_field.self).prefix(Int(fields_tested)).first { $0.number == UInt16(field.rawValue) } ?? nd_field()
        }
    }
}
