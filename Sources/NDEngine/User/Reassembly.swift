import NDCore

/// Bounds of the reassembly before ESP.
public struct ReassemblyLimits: Sendable {
    /// All datagrams together, bytes.
    public var totalBytes = 16 << 20
    public var datagrams = 1024
    public var timeout: Span = .seconds(30)

    public init() {}
}

/// Puts fragments of protected datagrams together: transport-mode ESP covers a whole datagram
/// (RFC 4303 §3.1.1). Overlaps condemn a datagram, as RFC 5722 has it for IPv6.
struct Reassembly {
    struct Key: Hashable {
        var source: IPAddress
        var destination: IPAddress
        var identification: UInt32
        var proto: UInt8
    }

    enum Outcome: Equatable {
        case waiting
        /// The whole payload behind the IP header.
        case whole([UInt8])
        /// Malformed, overlapping or too large: the datagram is forgotten.
        case refused
        /// No room for another datagram or more bytes.
        case full
    }

    private struct Datagram {
        var started: Instant
        var pieces: [(offset: Int, bytes: [UInt8])] = []
        var have = 0
        var end: Int?
    }

    static let mostBytes = 65_507
    /// Enough for the smallest MTU of IPv4 (68 bytes, RFC 791); every piece costs memory of its own
    /// and a look at it by all that follow.
    static let mostPieces = 1400

    private let limits: ReassemblyLimits
    private var datagrams: [Key: Datagram] = [:]
    private var bytes = 0

    init(_ limits: ReassemblyLimits) { self.limits = limits }

    var count: Int { datagrams.count }

    mutating func insert(_ key: Key, offset: Int, more: Bool, payload: [UInt8], now: Instant) -> Outcome {
        let end = offset + payload.count
        guard !payload.isEmpty, end <= Self.mostBytes, !more || payload.count % 8 == 0 else {
            forget(key)
            return .refused
        }
        if datagrams[key] == nil {
            guard datagrams.count < limits.datagrams else { return .full }
            datagrams[key] = Datagram(started: now)
        }
        guard bytes + payload.count <= limits.totalBytes else {
            forget(key)
            return .full
        }
        guard var datagram = datagrams[key] else { return .refused }
        // Out of the table while it is changed, so that its arrays are not copied.
        datagrams[key] = nil
        let overlaps = datagram.pieces.contains { offset < $0.offset + $0.bytes.count && $0.offset < end }
        let contradicts =
            (!more && (datagram.end ?? end) != end) || (datagram.end.map { end > $0 } ?? false)
            || (!more && datagram.pieces.contains { $0.offset + $0.bytes.count > end })
        guard !overlaps, !contradicts, datagram.pieces.count < Self.mostPieces else {
            bytes -= datagram.have
            return .refused
        }
        datagram.pieces.append((offset, payload))
        datagram.have += payload.count
        bytes += payload.count
        if !more { datagram.end = end }
        guard datagram.have == datagram.end else {
            datagrams[key] = datagram
            return .waiting
        }
        bytes -= datagram.have
        var whole = [UInt8]()
        whole.reserveCapacity(datagram.have)
        for piece in datagram.pieces.sorted(by: { $0.offset < $1.offset }) { whole += piece.bytes }
        return .whole(whole)
    }

    /// Forgets what took too long; returns how many datagrams that were.
    mutating func expire(now: Instant) -> Int {
        let late = datagrams.filter { now.since($0.value.started) > limits.timeout }.map(\.key)
        for key in late { forget(key) }
        return late.count
    }

    private mutating func forget(_ key: Key) {
        if let gone = datagrams.removeValue(forKey: key) { bytes -= gone.have }
    }
}
