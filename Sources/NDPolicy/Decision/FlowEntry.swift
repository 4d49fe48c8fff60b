import CNDABI
import NDCore

/// What the flow table knows of a connection, without counters and cached verdicts.
public struct FlowEntry: Hashable, Sendable {
    public enum Direction: UInt8, Hashable, Sendable { case outbound, inbound }

    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        public static let secure = Flags(rawValue: ND_FLOW_SECURE)
        public static let exempt = Flags(rawValue: ND_FLOW_EXEMPT)
        public static let finOut = Flags(rawValue: ND_FLOW_FIN_OUT)
        public static let finIn = Flags(rawValue: ND_FLOW_FIN_IN)
        public static let reset = Flags(rawValue: ND_FLOW_RESET)
        public static let trigger = Flags(rawValue: ND_FLOW_TRIGGER)
        public static let clearReply = Flags(rawValue: ND_FLOW_CLEAR_REPLY)
        public static let answer = Flags(rawValue: ND_FLOW_ANSWER)
        public static let accepted = Flags(rawValue: ND_FLOW_ACCEPTED)
    }

    public var direction: Direction
    public var firstSeen: Instant
    public var lastSeen: Instant
    public var securedAt: Instant?
    public var protectedReceivedAt: Instant?
    public var flags: Flags
    public var context: UInt32

    public init(
        direction: Direction, firstSeen: Instant, lastSeen: Instant? = nil, securedAt: Instant? = nil,
        protectedReceivedAt: Instant? = nil, flags: Flags = [], context: UInt32 = 0
    ) {
        self.direction = direction
        self.firstSeen = firstSeen
        self.lastSeen = lastSeen ?? firstSeen
        self.securedAt = securedAt
        self.protectedReceivedAt = protectedReceivedAt
        self.flags = flags
        self.context = context
    }

    public init(abi flow: nd_flow) {
        self.init(
            direction: Direction(rawValue: flow.direction) ?? .inbound,
            firstSeen: Instant(nanoseconds: flow.first_seen), lastSeen: Instant(nanoseconds: flow.last_seen),
            securedAt: Instant(orNever: flow.secured_at), protectedReceivedAt: Instant(orNever: flow.protected_rx_at),
            flags: Flags(rawValue: flow.flags), context: flow.context)
    }

    public var isSecure: Bool { flags.contains(.secure) }

    public var hasEnded: Bool { flags.contains(.reset) || flags.isSuperset(of: [.finOut, .finIn]) }

    /// Nothing, where the entry's life is over: idle too long, or a new connection opens on the
    /// 5-tuple of an ended one.
    func alive(for packet: Packet, _ policy: CompiledPolicy, _ now: Instant) -> FlowEntry? {
        isOver(packet, policy, now) || (packet.opensConnection && hasEnded) ? nil : self
    }

    /// No packet of it came for the time that its kind is remembered.
    func isOver(_ packet: Packet, _ policy: CompiledPolicy, _ now: Instant) -> Bool {
        let idle = packet.key.proto == IPProtocol.tcp ? policy.tcpIdle : isSecure ? policy.securedIdle : policy.idle
        return now > lastSeen.advanced(by: idle)
    }

    mutating func note(_ packet: Packet, outbound: Bool) {
        guard packet.key.proto == IPProtocol.tcp else { return }
        if packet.tcpFlags.contains(.fin) { flags.insert(outbound ? .finOut : .finIn) }
        if packet.tcpFlags.contains(.rst) { flags.insert(.reset) }
    }

    /// A clear flow becomes a secured one. Clear packets may have forged what ended it.
    mutating func secure(context: UInt32, _ now: Instant) {
        guard !isSecure else { return }
        flags.subtract([.finIn, .finOut, .reset])
        flags.insert(.secure)
        securedAt = now
        protectedReceivedAt = nil
        self.context = context
    }
}

extension Instant {
    /// nd.h writes 0 for "never".
    init?(orNever nanoseconds: UInt64) {
        guard nanoseconds != 0 else { return nil }
        self.init(nanoseconds: nanoseconds)
    }
}
