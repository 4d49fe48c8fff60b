import NDCore

/// The negative cache's times: how long a peer that did not negotiate stays clear.
public struct BackOff: Hashable, Sendable {
    public var first: Span
    public var factor: Double
    public var most: Span
    /// Part of the time, at most, that is added or taken at random; 0: none.
    public var jitter: Double

    public init(
        first: Span = .seconds(60), factor: Double = 2, most: Span = .seconds(3600), jitter: Double = 0
    ) {
        self.first = first
        self.factor = factor
        self.most = most
        self.jitter = jitter
    }

    /// After the n-th failure in a row, from 1. `random` is 0 up to 1.
    public func time(failures: Int, random: Double = 0.5) -> Span {
        var span = first
        for _ in 1..<max(1, min(failures, 64) ) where span < most {
            span = span.times(max(1, factor))
        }
        span = min(span, most)
        guard jitter > 0 else { return span }
        return span.times(1 + min(jitter, 1) * (2 * random - 1))
    }
}
