import NDCore

/// A packet that waits for its peer's SA.
public struct StoredPacket: Hashable, Sendable {
    public var flow: FlowKey
    public var peer: PeerKey
    /// From the IP header on, whole.
    public var bytes: [UInt8]
    public var storedAt: Instant
    /// To its sender it was sent and lost; it may not leave before the SA is up.
    public var waits: Bool

    public init(flow: FlowKey, peer: PeerKey, bytes: [UInt8], storedAt: Instant, waits: Bool = false) {
        self.flow = flow
        self.peer = peer
        self.bytes = bytes
        self.storedAt = storedAt
        self.waits = waits
    }

    /// A SYN or SYN-ACK.
    public var opensTCP: Bool {
        guard flow.proto == IPProtocol.tcp, let first = bytes.first else { return false }
        let flags = (first >> 4 == 4 ? Int(first & 0xf) * 4 : 40) + 13
        return flags < bytes.count && bytes[flags] & 0x02 != 0
    }
}

/// Packets that are sent again when the SA is up: at most one a flow, bounded in number, bytes and time. First
/// packets of clear flows are kept as they are; of a packet that waits a later one of its flow takes the place.
public struct ReplayStore: Sendable {
    public struct Limits: Hashable, Sendable {
        public var packets = 1024
        public var bytes = 1 << 20
        /// A TCP sender has sent its SYN again by then, twice.
        public var life = Span.seconds(3)

        public init() {}

        /// TCP keeps trying for minutes, the last time after two without a word.
        public static let waiting: Limits = {
            var limits = Limits()
            limits.packets = 8192
            limits.bytes = 8 << 20
            limits.life = .seconds(150)
            return limits
        }()
    }

    public let limits: Limits
    public private(set) var count = 0
    public private(set) var bytes = 0
    private var packets: [PeerKey: [StoredPacket]] = [:]
    private var flows: Set<FlowKey> = []
    /// Arrivals in order, for expiry; entries whose packet is gone are skipped.
    private var arrivals: [(peer: PeerKey, flow: FlowKey, at: Instant)] = []
    private var firstArrival = 0

    public init(limits: Limits = Limits()) { self.limits = limits }

    public enum Refusal: Hashable, Sendable { case duplicate, full }

    /// nil: stored.
    public mutating func store(_ packet: StoredPacket) -> Refusal? {
        if flows.contains(packet.flow) {
            guard packet.waits else { return .duplicate }
            _ = take(packet.flow, of: packet.peer)
        }
        guard count < limits.packets, bytes + packet.bytes.count <= limits.bytes else { return .full }
        flows.insert(packet.flow)
        packets[packet.peer, default: []].append(packet)
        arrivals.append((packet.peer, packet.flow, packet.storedAt))
        count += 1
        bytes += packet.bytes.count
        return nil
    }

    /// All packets of a peer in the order of their arrival.
    public mutating func take(_ peer: PeerKey) -> [StoredPacket] {
        guard let taken = packets.removeValue(forKey: peer) else { return [] }
        taken.forEach { forget($0) }
        return taken
    }

    /// The packet of one flow.
    public mutating func take(_ flow: FlowKey, of peer: PeerKey) -> StoredPacket? {
        guard let at = packets[peer]?.firstIndex(where: { $0.flow == flow }),
            let packet = packets[peer]?.remove(at: at)
        else { return nil }
        if packets[peer]?.isEmpty == true { packets[peer] = nil }
        forget(packet)
        return packet
    }

    public func isOver(_ packet: StoredPacket, _ now: Instant) -> Bool {
        now.since(packet.storedAt) > limits.life
    }

    /// Drops what is over; tells whose and how many.
    public mutating func expire(_ now: Instant) -> [PeerKey: Int] {
        var dropped: [PeerKey: Int] = [:]
        while firstArrival < arrivals.count, now.since(arrivals[firstArrival].at) > limits.life {
            let arrival = arrivals[firstArrival]
            firstArrival += 1
            // The flow may have been stored anew since; its own arrival comes later in the list.
            if let stored = packets[arrival.peer]?.first(where: { $0.flow == arrival.flow }),
                stored.storedAt == arrival.at, take(arrival.flow, of: arrival.peer) != nil
            {
                dropped[arrival.peer, default: 0] += 1
            }
        }
        if firstArrival > 512 && firstArrival * 2 > arrivals.count {
            arrivals.removeFirst(firstArrival)
            firstArrival = 0
        }
        return dropped
    }

    /// When the oldest packet is over; nil for an empty store.
    public var nextExpiry: Instant? {
        guard count > 0, firstArrival < arrivals.count else { return nil }
        return arrivals[firstArrival].at.advanced(by: limits.life)
    }

    public func packets(of peer: PeerKey) -> Int { packets[peer]?.count ?? 0 }

    private mutating func forget(_ packet: StoredPacket) {
        flows.remove(packet.flow)
        count -= 1
        bytes -= packet.bytes.count
        if count == 0 {
            arrivals.removeAll(keepingCapacity: true)
            firstArrival = 0
        }
    }
}
