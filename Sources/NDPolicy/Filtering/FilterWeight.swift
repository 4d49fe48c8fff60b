/// How heavy a filter is in its sublayer: the three ways of "Filter Weight Assignment".
public enum FilterWeight: Hashable, Sendable {
    /// FWP_UINT64: taken as it is.
    case explicit(UInt64)
    /// FWP_EMPTY: the engine finds a weight below 2^60.
    case automatic
    /// FWP_UINT8: the top four bits, the engine finds the rest.
    case range(Range)

    public init(_ value: UInt64) { self = .explicit(value) }

    /// 0 to 15.
    public struct Range: Hashable, Sendable, Comparable {
        public let rawValue: UInt8

        public init?(rawValue: UInt8) {
            guard rawValue <= 15 else { return nil }
            self.rawValue = rawValue
        }

        private init(_ value: UInt8) { rawValue = value }

        /// FWPM_WEIGHT_RANGE_IPSEC
        public static let ipsec = Range(0x0)
        /// The operator's exemptions, between the two ranges that fwpmu.h names.
        public static let exemptions = Range(0x8)
        /// FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS
        public static let ikeExemptions = Range(0xc)

        private static let named: [(name: String, range: Range)] = [
            ("IPSEC", ipsec), ("EXEMPTIONS", exemptions), ("IKE_EXEMPTIONS", ikeExemptions),
        ]

        public static let names = named.map(\.name)

        public init?(name: String) {
            guard let found = Self.named.first(where: { $0.name == name }) else { return nil }
            self = found.range
        }

        public var name: String { Self.named.first { $0.range == self }?.name ?? "\(rawValue)" }

        public static func < (a: Range, b: Range) -> Bool { a.rawValue < b.rawValue }
    }
}

extension Filter {
    /// The 64 bits that the engine compares. Where it chooses them, a filter that matches less weighs more,
    /// and of two that match as much the older one.
    public var effectiveWeight: UInt64 {
        let chosen = min(specificity, (1 << 28) - 1) << 32 | UInt64(UInt32.max - id)
        switch weight {
        case .explicit(let value): return value
        case .automatic: return chosen
        case .range(let range): return UInt64(range.rawValue) << 60 | chosen
        }
    }

    /// The bits that a packet must have right to match.
    private var specificity: UInt64 {
        conditionGroups.reduce(0) { sum, group in
            guard let field = group.field.packetField(layer.kind) else { return sum + 64 }
            let width = field.width(layer.family)
            let values = group.conditions.reduce(RangeSet.none) {
                $0.union($1.values(layer.family, width: width) { _ in 1 })
            }
            var free = 0
            for range in values.ranges { free = max(free, (range.upperBound - range.lowerBound).bitWidthOfValue) }
            return sum + UInt64(max(0, width - free))
        }
    }
}

extension UInt128 {
    fileprivate var bitWidthOfValue: Int { UInt128.bitWidth - leadingZeroBitCount }
}
