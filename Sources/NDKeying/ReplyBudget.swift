import NDCore

/// A token bucket of one second's depth for replies that anyone can provoke.
struct ReplyBudget: Sendable {
    private let perSecond: Double
    private var tokens: Double
    private var filled: Instant?

    init(perSecond: Int) {
        self.perSecond = Double(max(perSecond, 0))
        tokens = self.perSecond
    }

    mutating func take(_ now: Instant) -> Bool {
        if let filled { tokens = min(perSecond, tokens + now.since(filled).seconds * perSecond) }
        filled = now
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }
}
