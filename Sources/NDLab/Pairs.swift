import NDCore

/// The same work on a plain path and on one with ndbpf, in turns. Both of a pair meet the same machine, so its noise is
/// in each ratio's spread and not in their median.
public struct Pairs: Sendable {
    public private(set) var plain: [Double] = []
    public private(set) var guarded: [Double] = []

    public init() {}

    /// Which one begins changes from pair to pair.
    public mutating func add(plain measurePlain: () throws -> Double, guarded measureGuarded: () throws -> Double) rethrows {
        if plain.count % 2 == 0 {
            plain.append(try measurePlain())
            guarded.append(try measureGuarded())
        } else {
            let first = try measureGuarded()
            plain.append(try measurePlain())
            guarded.append(first)
        }
    }

    public var count: Int { guarded.count }

    /// Guarded over plain of each pair, sorted.
    public var ratios: [Double] { zip(guarded, plain).map { $0 / $1 }.sorted() }

    public var median: Double { at(0.5) }
    /// A quarter of the pairs is below it.
    public var lowerQuartile: Double { at(0.25) }
    public var upperQuartile: Double { at(0.75) }

    private func at(_ share: Double) -> Double {
        let sorted = ratios
        return sorted.isEmpty ? .nan : sorted[min(Int(Double(sorted.count) * share), sorted.count - 1)]
    }
}
