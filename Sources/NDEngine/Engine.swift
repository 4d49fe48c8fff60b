import CNDABI
import NDCore

public enum EngineKind: String, Sendable { case user, kernel }

/// The device that encrypts: what BPF redirects into.
public struct EngineLink: Sendable {
    public var name: String
    public var ifindex: UInt32
    public var mtu: Int
    /// Where fragments of protected datagrams go; 0: into the device with everything else.
    public var fragments: UInt32 = 0
}

/// What an engine tells the daemon. Called from worker threads: be quick.
public protocol EngineEvents: AnyObject, Sendable {
    /// Before the first authenticated packet of an inbound SA is delivered, so that the answer to
    /// it already finds the outbound SA in use.
    func firstInboundPacket(spi: UInt32, peer: PeerKey)
    /// A datagram on UDP 4500 that is no ESP; it starts with the non-ESP marker (RFC 3948 §2.2).
    func ikeDatagram(_ bytes: [UInt8], local: Endpoint, remote: Endpoint)
    /// The outbound SA is near the end of its sequence numbers.
    func sequenceExhausted(spi: UInt32, peer: PeerKey)
    /// A limit of an SA is near (time, bytes, packets): it wants to be rekeyed.
    func softExpired(spi: UInt32, peer: PeerKey)
    /// An SA ended, by a limit or by somebody else's hand.
    func expired(spi: UInt32, peer: PeerKey)
    /// A packet found no SA.
    func acquire(_ peer: PeerKey)
    /// Fragments of a protected datagram wait for an SA of their own (`PeerKey.fragments`).
    func fragmentsWait(_ peer: PeerKey)
    func engineLog(_ text: String)
}

public struct EngineStatistics: Sendable {
    public var outboundPackets: UInt64 = 0
    public var outboundBytes: UInt64 = 0
    public var inboundPackets: UInt64 = 0
    public var inboundBytes: UInt64 = 0
    public var keepalives: UInt64 = 0
    public var ikeDatagrams: UInt64 = 0
    /// By enum nd_drop_reason.
    public var drops = [UInt64](repeating: 0, count: Int(ND_DROP_COUNT.rawValue))

    public init() {}
}

/// One installed SA as operators see it.
public struct SAStatus: Sendable {
    public var direction: SecurityAssociation.Direction
    public var spi: UInt32
    public var peer: PeerKey
    public var suite: ESPSuite
    public var encapsulation: ESPEncapsulation
    public var extendedSequenceNumbers: Bool
    public var packets: UInt64
    public var bytes: UInt64
    /// Last sent, or highest received.
    public var sequence: UInt64
    public var installedAt: Instant
    /// Inbound always; outbound once it carries traffic.
    public var active: Bool
}

/// A pair found in the kernel. Which inbound SPI belongs to which outbound one is not recorded
/// there: SAs of one peer are paired in the order in which they were made.
public struct SurvivingPair: Hashable, Sendable {
    public var peer: PeerKey
    public var inboundSPI: UInt32
    public var outboundSPI: UInt32
    public var suite: ESPSuite
    public var encapsulation: ESPEncapsulation
    public var extendedSequenceNumbers: Bool
    public var age: Span
    /// nil: the kernel ends it at no time.
    public var remaining: Span?

    public init(
        peer: PeerKey, inboundSPI: UInt32, outboundSPI: UInt32, suite: ESPSuite, encapsulation: ESPEncapsulation,
        extendedSequenceNumbers: Bool, age: Span, remaining: Span?
    ) {
        self.peer = peer
        self.inboundSPI = inboundSPI
        self.outboundSPI = outboundSPI
        self.suite = suite
        self.encapsulation = encapsulation
        self.extendedSequenceNumbers = extendedSequenceNumbers
        self.age = age
        self.remaining = remaining
    }
}

/// What does ESP behind nd0. BPF, discovery and keying see only this.
public protocol Engine: AnyObject, Sendable {
    var kind: EngineKind { get }
    /// Which AEAD implementation, for `status`.
    var cryptography: String { get }
    /// Creates or adopts the device and starts to work.
    func start(events: any EngineEvents) throws -> EngineLink
    /// Makes what somebody deleted again, and brings up what somebody put down. SAs stay.
    func restore() throws -> EngineLink
    /// Inbound is live at once, outbound is prepared.
    func install(_ pair: SecurityAssociationPair) throws
    /// From now on this outbound SA carries the peer's traffic.
    func activateOutbound(peer: PeerKey, spi: UInt32) throws
    func remove(peer: PeerKey, inboundSPI: UInt32, outboundSPI: UInt32)
    /// Sends an IKE datagram from UDP 4500; the non-ESP marker is in it.
    func sendIKE(_ datagram: [UInt8], from: Endpoint, to: Endpoint)
    /// Its UDP sockets at the NAT-traversal port.
    var ikeDescriptors: [Int32] { get }
    /// The pairs that an earlier daemon left and that are still in use.
    func adopted() -> [SurvivingPair]
    func statistics() -> EngineStatistics
    func securityAssociations() -> [SAStatus]
    /// With `keepDevice` the device stays: packets redirected there are dropped, never clear.
    func stop(keepDevice: Bool)
}
