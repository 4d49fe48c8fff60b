import NDCore

/// What the peer machine is told.
public enum DiscoveryEvent: Sendable {
    /// BPF moved the peer to negotiating; the packet is nil when it can't be sent again.
    case negotiate(PeerKey, FlowKey, packet: [UInt8]?)
    /// First packet of another flow while the peer negotiates.
    case stash(PeerKey, FlowKey, packet: [UInt8]?)
    /// The peer answered this flow in clear.
    case clearReply(PeerKey, FlowKey)
    /// A latched flow wants its peer back.
    case latched(PeerKey, FlowKey, packet: [UInt8]?)
    /// A packet of a secured or held flow waits for the SA.
    case wait(PeerKey, FlowKey, packet: [UInt8]?)
    /// An SA pair is installed both ways, by whichever side's negotiation.
    case established(PeerKey, isBoundary: Bool)
    case failed(PeerKey, FailureReason)
    /// An SA pair went; how many the peer has left.
    case removed(PeerKey, RemovalReason, remainingPairs: Int)
    case timer
}

/// What the daemon is to do, in this order.
public enum DiscoveryAction: Hashable, Sendable {
    case startKeying(PeerKey)
    /// The peer answers in clear: it may still answer IKE, but need not be asked again.
    case stopRetransmitting(PeerKey)
    /// The keying module was silent for too long; whatever it does for the peer is to end.
    case abandonKeying(PeerKey)
    case setPeer(PeerKey, PeerRecord)
    case removePeer(PeerKey)
    case replay(StoredPacket)
    case dropStored(PeerKey, count: Int, StoredPacketFate)
    case log(DiscoveryNote)
}

/// What became of a stored packet; metric labels.
public enum StoredPacketFate: String, Hashable, Sendable, CaseIterable, Codable {
    case replayed
    case expired
    /// The negotiation failed.
    case failed
    /// No room for it.
    case full
    /// Its flow has one already.
    case duplicate
    /// The peer answered the flow in clear, so it has the packet.
    case answered
    /// A boundary peer took the datagram in clear.
    case boundary
    /// It can't be sent again, or its peer does not negotiate.
    case useless
}

/// For the log and the event stream.
public enum DiscoveryNote: Hashable, Sendable {
    case started(PeerKey, again: Bool)
    case secured(PeerKey, afterNanoseconds: UInt64?)
    case failed(PeerKey, FailureReason, clearFor: Span)
    case lost(PeerKey, RemovalReason)
    case overBudget(PeerKey)
    case forgotten(PeerKey)
}

/// Monotone over the life of the machine.
public struct DiscoveryCounters: Hashable, Sendable {
    public var asked: UInt64 = 0
    public var started: UInt64 = 0
    public var succeeded: UInt64 = 0
    public var failed: [FailureReason: UInt64] = Dictionary(
        uniqueKeysWithValues: FailureReason.allCases.map { ($0, 0) })
    /// Asked for while a negotiation ran.
    public var joined: UInt64 = 0
    public var overBudget: UInt64 = 0
    /// Asked for while the negative cache stood.
    public var negativeCacheHits: UInt64 = 0
    public var tableFull: UInt64 = 0
    public var lost: UInt64 = 0
    public var forgotten: UInt64 = 0
    public var retransmissionsStopped: UInt64 = 0
    public var stored: UInt64 = 0
    public var fates: [StoredPacketFate: UInt64] = Dictionary(
        uniqueKeysWithValues: StoredPacketFate.allCases.map { ($0, 0) })

    public init() {}
}

/// One line of `ndbpf peers`.
public struct PeerStatus: Hashable, Sendable {
    public var peer: PeerKey
    public var record: PeerRecord
    public var failures: Int
    public var lastFailure: FailureReason?
    public var negotiations: Int
    public var storedPackets: Int
}
