import CNDABI
import NDABI
import NDCore

/// Asks a policy's tables as BPF does (bpf/classify.h), step by step.
public struct TableClassifier: Sendable {
    public let image: PolicyImage

    public init(_ image: PolicyImage) { self.image = image }

    public func decide(
        _ layer: DatapathLayer, _ family: IPFamily, _ values: FieldValues,
        callout: (UInt32) -> CalloutAnswer? = { _ in nil }
    ) -> FilterDecision? {
        let table = image.table(layer, family)
        let rows = PacketField.allCases.filter { table.tests($0) }.map { image.row($0, family, table[$0], values[$0]) }
        let blocks = (Int(table.filters) + Int(ND_BLOCK_FILTERS) - 1) / Int(ND_BLOCK_FILTERS)
        var arbitration = RangeArbitration()
        var from = 0
        for block in 0..<blocks where rows.allSatisfy({ image.word32($0) >> UInt32(block) & 1 != 0 }) {
            let references = rows.map { image.word32($0 + 4 + 4 * block) }
            let mask = references.reduce(~0, &)
            for index in 0..<RowStore.blockWords where mask >> UInt32(index) & 1 != 0 {
                let first = block * Int(ND_BLOCK_FILTERS) + index * 64
                var word = references.reduce(~UInt64(0)) {
                    $0 & image.word64(Int($1 >> ND_REFERENCE_SHIFT) * 64 + index * 8)
                }
                while word != 0 {
                    let filter = first + word.trailingZeroBitCount
                    word &= word - 1
                    guard filter >= from, filter < Int(table.filters) else { continue }
                    guard let says = image.filter(table, filter), let verdict = RangeFilter.verdict(says) else { continue }
                    let isHard = UInt32(says.flags) & ND_FILTER_HARD != 0
                    switch arbitration.consider(says.id, verdict, isHard: isHard, callout: callout) {
                    case .nextFilter: continue
                    case .nextSublayer: from = Int(says.next)
                    case .end: return arbitration.decision
                    }
                }
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

    /// The address of the row of a value.
    func row(_ field: PacketField, _ family: IPFamily, _ column: nd_field, _ value: UInt128?) -> Int {
        guard let value else { return Int(column.absent) }
        if field.width(family) == 8 { return Int(word32(Int(column.rows) + 4 * Int(value & 255))) }
        var step = 1 << Int(min(column.depth, UInt32(ND_SEARCH_DEPTH)))
        var place = 0
        while step > 1 {
            step >>= 1
            if value >= start(field, family, column, place + step - 1) { place += step }
        }
        return Int(word32(Int(column.rows) + 4 * place))
    }

    func start(_ field: PacketField, _ family: IPFamily, _ column: nd_field, _ index: Int) -> UInt128 {
        guard field.width(family) > 64 else { return UInt128(word32(Int(column.starts) + 4 * index)) }
        let address = Int(column.starts) + 16 * index
        return UInt128(word64(address)) << 64 | UInt128(word64(address + 8))
    }
}

extension nd_table {
    func tests(_ field: PacketField) -> Bool { tested >> UInt32(field.rawValue) & 1 != 0 }

    subscript(field: PacketField) -> nd_field {
        withUnsafeBytes(of: fields) { bytes in
            let offset = Int(field.rawValue) * MemoryLayout<nd_field>.stride
            guard offset + MemoryLayout<nd_field>.size <= bytes.count else { return nd_field() }
            return bytes.loadUnaligned(fromByteOffset: offset, as: nd_field.self)
        }
    }
}
