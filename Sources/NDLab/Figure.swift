/// One figure of the benchmark: median of its runs, and what it is held against.
public struct Figure: Sendable, Encodable {
    public var what: String
    public var unit: String
    public var median: Double
    public var lowest: Double
    public var highest: Double
    /// Times the floor that the limit names.
    public var ratio: Double?
    public var limit: String?
    public var met: Bool?

    public init(_ what: String, _ unit: String, _ values: [Double], limit: String? = nil, met: Bool? = nil) {
        let sorted = values.sorted()
        self.what = what
        self.unit = unit
        median = sorted.isEmpty ? .nan : sorted[sorted.count / 2]
        lowest = sorted.first ?? .nan
        highest = sorted.last ?? .nan
        self.limit = limit
        self.met = met
    }

    public mutating func hold(_ ratio: Double, atMost most: Double, _ floor: String) {
        self.ratio = ratio
        limit = "<= \(most) x \(floor)"
        met = ratio <= most
    }

    public mutating func hold(_ ratio: Double, atLeast least: Double, _ floor: String) {
        self.ratio = ratio
        limit = ">= \(least) x \(floor)"
        met = ratio >= least
    }
}
