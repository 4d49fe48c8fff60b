import Testing

@testable import NDEngine

/// RFC 4303 §3.4.3 as a set.
private struct Model {
    var top: UInt64 = 0
    var seen: Set<UInt64> = []
    let size: UInt64

    func isFresh(_ n: UInt64) -> Bool { n != 0 && (n > top || (top - n < size && !seen.contains(n))) }

    mutating func accept(_ n: UInt64) -> Bool {
        guard isFresh(n) else { return false }
        seen.insert(n)
        top = max(top, n)
        return true
    }
}

struct ReplayWindowTests {
    @Test("The window agrees with a set of seen numbers for random orders, duplicates and edges", arguments: [64, 65, 100, 128, 1000, 1024, 4096, 8192])
    func agreesWithModel(wanted: Int) {
        var random = Seeded(UInt64(wanted))
        var window = ReplayWindow(size: wanted)
        var model = Model(size: window.size)
        #expect(window.size >= UInt64(wanted))
        var wrong: [UInt64] = []
        for round in 0..<60_000 {
            let s = window.size
            let top = window.top
            let n: UInt64 =
                switch random.below(8) {
                case 0: top &+ UInt64(random.below(3))
                case 1: top &+ UInt64(random.below(200))
                case 2: round % 50 == 0 ? top &+ s &+ UInt64(random.below(3 * Int(s))) : top &+ 1
                case 3: top &- min(top, s - 2 + UInt64(random.below(5)))
                case 4: top &- min(top, UInt64(random.below(70)))
                case 5: top | 63
                case 6: (top | 63) + 1
                default: top &- min(top, UInt64(random.below(Int(s) * 2)))
                }
            if window.isFresh(n) != model.isFresh(n) || window.accept(n) != model.accept(n) || window.top != model.top { wrong.append(n) }
        }
        #expect(wrong == [])
    }

    @Test("Number 0 is never fresh and a number is accepted once")
    func zeroAndTwice() {
        var window = ReplayWindow(size: 64)
        #expect(!window.isFresh(0))
        let first = window.accept(1)
        let second = window.accept(1)
        #expect(first)
        #expect(!second)
    }

    @Test("ESN inference finds the number from its low half across wraps", arguments: [64, 1024, 8192])
    func inference(wanted: Int) {
        var random = Seeded(7)
        var wrong: [String] = []
        let wraps: [UInt64] = [1, 2, 5, 0x10_0000, 0x7fff_ffff]
        for wrap in wraps {
            for _ in 0..<4000 {
                var window = ReplayWindow(size: wanted)
                let near = wrap << 32
                let top = near &- 20_000 &+ UInt64(random.below(40_000))
                _ = window.accept(top)
                // Within the window below, or less than half the space ahead.
                let ahead = random.below(2) == 0
                let n = ahead ? top &+ UInt64(random.below(0x8000_0000)) : top &- UInt64(random.below(Int(window.size)))
                if window.infer(low: UInt32(truncatingIfNeeded: n)) != n { wrong.append("\(top) \(n)") }
            }
        }
        #expect(wrong == [])
    }

    @Test("Before the first wrap no low half is taken for a number of a round before")
    func inferenceAtStart() {
        let window = ReplayWindow(size: 1024)
        #expect(window.infer(low: 1) == 1)
        #expect(window.infer(low: UInt32.max) == UInt64(UInt32.max))
    }

    @Test("A size from a careless configuration is bounded")
    func sizeIsBounded() {
        #expect(ReplayWindow(size: Int.max).size < UInt64(4_000_000))
        #expect(ReplayWindow(size: -5).size >= UInt64(64))
    }
}
