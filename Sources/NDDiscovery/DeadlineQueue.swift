import NDCore

/// A binary heap of deadlines. Entries are never removed early: whoever pops one asks its owner
/// whether it still holds.
struct DeadlineQueue: Sendable {
    private var heap: [(at: Instant, peer: PeerKey)] = []

    var next: Instant? { heap.first?.at }
    var count: Int { heap.count }

    mutating func push(_ at: Instant, _ peer: PeerKey) {
        heap.append((at, peer))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].at < heap[parent].at else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    /// The earliest one that is due.
    mutating func pop(due now: Instant) -> (at: Instant, peer: PeerKey)? {
        guard let first = heap.first, first.at <= now, let last = heap.popLast() else { return nil }
        guard !heap.isEmpty else { return first }
        heap[0] = last
        var parent = 0
        while true {
            let left = 2 * parent + 1
            guard left < heap.count else { break }
            let right = left + 1
            let child = right < heap.count && heap[right].at < heap[left].at ? right : left
            guard heap[child].at < heap[parent].at else { break }
            heap.swapAt(child, parent)
            parent = child
        }
        return first
    }
}
