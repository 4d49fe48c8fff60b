import CNDABI

/// One worker's counters: written by it alone, read by anybody.
final class WorkerCounters: @unchecked Sendable {
    private let words: UnsafeMutablePointer<UInt64>
    private static let named = 6
    private static let total = named + Int(ND_DROP_COUNT.rawValue)

    init() {
        words = .allocate(capacity: Self.total)
        words.initialize(repeating: 0, count: Self.total)
    }

    deinit { words.deallocate() }

    func outbound(packets: Int, bytes: Int) {
        words[0] &+= UInt64(packets)
        words[1] &+= UInt64(bytes)
    }

    func inbound(packets: Int, bytes: Int) {
        words[2] &+= UInt64(packets)
        words[3] &+= UInt64(bytes)
    }

    func keepalive() { words[4] &+= 1 }
    func ikeDatagram() { words[5] &+= 1 }

    func drop(_ reason: nd_drop_reason, _ count: Int = 1) {
        words[Self.named + Int(reason.rawValue)] &+= UInt64(count)
    }

    func add(to sum: inout EngineStatistics) {
        sum.outboundPackets &+= words[0]
        sum.outboundBytes &+= words[1]
        sum.inboundPackets &+= words[2]
        sum.inboundBytes &+= words[3]
        sum.keepalives &+= words[4]
        sum.ikeDatagrams &+= words[5]
        for index in sum.drops.indices { sum.drops[index] &+= words[Self.named + index] }
    }
}
