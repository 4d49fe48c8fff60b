import NDCore
import Testing

@testable import NDEngine

private let key = Reassembly.Key(source: alice4, destination: bob4, identification: 7, proto: 17)
private let start = Instant(nanoseconds: 1_000_000_000)

private struct Piece {
    var offset: Int
    var more: Bool
    var bytes: [UInt8]
}

private func cut(_ whole: [UInt8], _ size: Int) -> [Piece] {
    stride(from: 0, to: whole.count, by: size).map {
        Piece(offset: $0, more: $0 + size < whole.count, bytes: Array(whole[$0..<min($0 + size, whole.count)]))
    }
}

extension Reassembly {
    fileprivate mutating func insert(_ piece: Piece, key: Key = key, now: Instant = start) -> Outcome {
        insert(key, offset: piece.offset, more: piece.more, payload: piece.bytes, now: now)
    }
}

struct ReassemblyTests {
    @Test("Fragments make the datagram in every order")
    func permutations() {
        var random = Seeded(3)
        let whole = random.bytes(4 * 24 + 5)
        func orders(_ left: [Piece]) -> [[Piece]] {
            left.isEmpty ? [[]] : left.indices.flatMap { i in
                var rest = left
                let first = rest.remove(at: i)
                return orders(rest).map { [first] + $0 }
            }
        }
        for order in orders(cut(whole, 24)) {
            var reassembly = Reassembly(ReassemblyLimits())
            for piece in order.dropLast() { #expect(reassembly.insert(piece) == .waiting) }
            #expect(reassembly.insert(order[order.count - 1]) == .whole(whole))
            #expect(reassembly.count == 0)
        }
    }

    @Test("A datagram of 60,000 bytes in random order comes out whole")
    func large() {
        var random = Seeded(4)
        let whole = random.bytes(60_000)
        var reassembly = Reassembly(ReassemblyLimits())
        let pieces = cut(whole, 1480).shuffled(using: &random)
        for piece in pieces.dropLast() { #expect(reassembly.insert(piece) == .waiting) }
        #expect(reassembly.insert(pieces[pieces.count - 1]) == .whole(whole))
    }

    @Test("An overlap or a duplicate condemns the datagram", arguments: [0, 8, 16])
    func overlap(offset: Int) {
        var reassembly = Reassembly(ReassemblyLimits())
        let bytes = [UInt8](repeating: 1, count: 24)
        #expect(reassembly.insert(Piece(offset: 8, more: true, bytes: bytes)) == .waiting)
        #expect(reassembly.insert(Piece(offset: offset, more: true, bytes: bytes)) == .refused)
        #expect(reassembly.count == 0)
    }

    @Test("Two last fragments that contradict each other, or data behind the end, condemn the datagram")
    func lastFragments() {
        let eight = [UInt8](repeating: 1, count: 8)
        var reassembly = Reassembly(ReassemblyLimits())
        #expect(reassembly.insert(Piece(offset: 80, more: false, bytes: eight)) == .waiting)
        #expect(reassembly.insert(Piece(offset: 64, more: false, bytes: eight)) == .refused)
        #expect(reassembly.insert(Piece(offset: 80, more: false, bytes: eight)) == .waiting)
        #expect(reassembly.insert(Piece(offset: 88, more: true, bytes: eight)) == .refused)
        #expect(reassembly.insert(Piece(offset: 88, more: true, bytes: eight)) == .waiting)
        #expect(reassembly.insert(Piece(offset: 72, more: false, bytes: eight)) == .refused)
        #expect(reassembly.count == 0)
    }

    @Test("Empty, misaligned and too large fragments are refused and forget the datagram")
    func malformed() {
        let eight = [UInt8](repeating: 1, count: 8)
        for bad in [
            Piece(offset: 0, more: true, bytes: []), Piece(offset: 0, more: true, bytes: [1, 2, 3]),
            Piece(offset: 65_528, more: false, bytes: eight),
        ] {
            var reassembly = Reassembly(ReassemblyLimits())
            #expect(reassembly.insert(Piece(offset: 800, more: true, bytes: eight)) == .waiting)
            #expect(reassembly.insert(bad) == .refused)
            #expect(reassembly.count == 0)
        }
    }

    @Test("What takes too long is forgotten and counted, and its bytes are free again")
    func timeout() {
        var limits = ReassemblyLimits()
        limits.timeout = .seconds(30)
        limits.totalBytes = 16
        var reassembly = Reassembly(limits)
        #expect(reassembly.insert(Piece(offset: 0, more: true, bytes: [UInt8](repeating: 1, count: 16))) == .waiting)
        #expect(reassembly.expire(now: start.advanced(by: .seconds(30))) == 0)
        #expect(reassembly.expire(now: start.advanced(by: .seconds(31))) == 1)
        #expect(reassembly.count == 0)
        #expect(reassembly.insert(Piece(offset: 0, more: true, bytes: [UInt8](repeating: 1, count: 16))) == .waiting)
    }

    @Test("Datagrams and bytes are bounded")
    func bounds() {
        var limits = ReassemblyLimits()
        limits.datagrams = 3
        limits.totalBytes = 64
        var reassembly = Reassembly(limits)
        func other(_ n: UInt32) -> Reassembly.Key {
            Reassembly.Key(source: alice4, destination: bob4, identification: n, proto: 17)
        }
        let sixteen = [UInt8](repeating: 1, count: 16)
        for n in 0..<3 { #expect(reassembly.insert(Piece(offset: 0, more: true, bytes: sixteen), key: other(UInt32(n))) == .waiting) }
        #expect(reassembly.insert(Piece(offset: 0, more: true, bytes: sixteen), key: other(9)) == .full)
        #expect(reassembly.insert(Piece(offset: 16, more: true, bytes: [UInt8](repeating: 1, count: 24)), key: other(1)) == .full)
        #expect(reassembly.count == 2)
        #expect(reassembly.insert(Piece(offset: 16, more: false, bytes: sixteen), key: other(0)) == .whole(sixteen + sixteen))
    }

    @Test("A flood of tiny fragments is bounded in pieces of one datagram")
    func manyPieces() {
        var reassembly = Reassembly(ReassemblyLimits())
        var refused = false
        for n in stride(from: 0, to: 8000, by: 2) where !refused {
            refused = reassembly.insert(Piece(offset: n * 8, more: true, bytes: [UInt8](repeating: 1, count: 8))) == .refused
        }
        #expect(refused)
        #expect(reassembly.count == 0)
    }

    @Test("Fragments that differ in any part of the key do not mix")
    func keys() {
        var reassembly = Reassembly(ReassemblyLimits())
        var other = key
        other.proto = 1
        #expect(reassembly.insert(Piece(offset: 0, more: true, bytes: [UInt8](repeating: 1, count: 8))) == .waiting)
        #expect(reassembly.insert(Piece(offset: 8, more: false, bytes: [2]), key: other) == .waiting)
        #expect(reassembly.count == 2)
    }
}
