import NDCore

/// How many negotiations may start: a token bucket and a number of simultaneous ones. A scan of
/// many addresses must not become a storm of key exchanges.
public struct NegotiationBudget: Sendable {
    public let concurrent: Int
    public let perSecond: Double
    public let burst: Double
    public private(set) var running = 0
    private var tokens: Double
    private var filledAt: Instant?

    public init(concurrent: Int = 64, perSecond: Double = 20, burst: Double = 50) {
        self.concurrent = max(1, concurrent)
        self.perSecond = max(0, perSecond)
        self.burst = max(1, burst)
        tokens = self.burst
    }

    /// Peers that were secured before have latched connections behind them: they need no token,
    /// and a quarter of the simultaneous negotiations is theirs alone.
    public mutating func admit(wasSecured: Bool, now: Instant) -> Bool {
        if let filledAt {
            tokens = min(burst, tokens + now.since(filledAt).seconds * perSecond)
        }
        filledAt = max(filledAt ?? now, now)
        if wasSecured {
            guard running < concurrent else { return false }
            tokens = max(0, tokens - 1)
        } else {
            guard running < max(1, concurrent - concurrent / 4), tokens >= 1 else { return false }
            tokens -= 1
        }
        running += 1
        return true
    }

    public mutating func finish() { running = max(0, running - 1) }
}
