import NDCore

/// One deadline per key, the earliest at hand. Setting or cancelling leaves the old heap entry
/// behind; stale ones are skipped at the top and swept when they outnumber the live ones.
struct DeadlineQueue<Key: Hashable & Sendable>: Sendable {
    private struct Entry: Sendable {
        var at: Instant
        var key: Key
    }

    private var live: [Key: Instant] = [:]
    private var heap: [Entry] = []

    var next: Instant? { heap.first?.at }
    var count: Int { live.count }

    mutating func set(_ key: Key, _ at: Instant) {
        guard live[key] != at else { return }
        live[key] = at
        push(Entry(at: at, key: key))
        settle()
    }

    mutating func cancel(_ key: Key) {
        guard live.removeValue(forKey: key) != nil else { return }
        settle()
    }

    /// The next key whose deadline is not after `now`.
    mutating func popDue(_ now: Instant) -> Key? {
        guard let first = heap.first, first.at <= now else { return nil }
        removeFirst()
        live[first.key] = nil
        settle()
        return first.key
    }

    private mutating func settle() {
        while let first = heap.first, live[first.key] != first.at { removeFirst() }
        if heap.count > 64, heap.count > 2 * live.count {
            heap = []
            for (key, at) in live { push(Entry(at: at, key: key)) }
        }
    }

    private mutating func push(_ entry: Entry) {
        heap.append(entry)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].at < heap[parent].at else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    private mutating func removeFirst() {
        let last = heap.removeLast()
        guard !heap.isEmpty else { return }
        heap[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].at < heap[least].at { least = child }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
