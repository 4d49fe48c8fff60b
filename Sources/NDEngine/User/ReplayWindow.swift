/// The anti-replay window of RFC 4303 §3.4.3 as the ring of RFC 6479: shifting it costs nothing.
struct ReplayWindow {
    private var words: [UInt64]
    private let mask: UInt64
    /// Highest sequence number authenticated so far.
    private(set) var top: UInt64 = 0
    /// Sequence numbers below top that can still be received.
    let size: UInt64

    private static let mostNumbers = 1 << 20

    /// The size is rounded up to a power of two; one word of the ring is the spare that RFC 6479
    /// needs.
    init(size wanted: Int) {
        var words = 2
        while words * 64 - 64 < min(max(wanted, 64), Self.mostNumbers) { words *= 2 }
        self.words = [UInt64](repeating: 0, count: words)
        mask = UInt64(words - 1)
        size = UInt64(words * 64 - 64)
    }

    /// The 64-bit number that the 32 bits on the wire stand for (RFC 4303 appendix A2.2).
    func infer(low: UInt32) -> UInt64 {
        let topLow = UInt32(truncatingIfNeeded: top)
        let topHigh = top >> 32
        if UInt64(topLow) >= size - 1 {
            // The window lies within one half of the 32-bit space.
            let bottom = topLow &- UInt32(truncatingIfNeeded: size - 1)
            return (low >= bottom ? topHigh : topHigh &+ 1) << 32 | UInt64(low)
        }
        let bottom = topLow &- UInt32(truncatingIfNeeded: size - 1)
        // It spans a wrap: large numbers belong to the high bits before.
        if low >= bottom, topHigh > 0 { return (topHigh &- 1) << 32 | UInt64(low) }
        return topHigh << 32 | UInt64(low)
    }

    func isFresh(_ sequence: UInt64) -> Bool {
        if sequence == 0 { return false }
        if sequence > top { return true }
        if top &- sequence >= size { return false }
        return words[Int((sequence >> 6) & mask)] & (1 << (sequence & 63)) == 0
    }

    /// Only after authentication. False when another packet with this number was first.
    mutating func accept(_ sequence: UInt64) -> Bool {
        guard isFresh(sequence) else { return false }
        if sequence > top {
            let from = top >> 6
            let distance = min((sequence >> 6) &- from, mask &+ 1)
            var step: UInt64 = 1
            while step <= distance {
                words[Int((from &+ step) & mask)] = 0
                step += 1
            }
            top = sequence
        }
        words[Int((sequence >> 6) & mask)] |= 1 << (sequence & 63)
        return true
    }
}
