import NDCore

/// When SAs are renewed before their end. A margin is a part of the lifetime; inside it the initiator
/// of the old SA begins early and its responder late, each at a random moment, so that both sides
/// rarely begin together.
public struct RekeyPolicy: Hashable, Sendable {
    /// Part of the lifetime that is left when renewing begins.
    public var margin = 0.1
    /// The least margin, where the lifetime has room for it (at most a third).
    public var leastMargin: Span = .seconds(5)
    /// Part of the negotiated kilobytes after which an SA is renewed.
    public var kilobytes = 0.9
    /// After an attempt that failed.
    public var retry: Span = .seconds(10)
    /// How long an SA that has a successor still receives, unless traffic has moved before.
    public var overlap: Span = .seconds(60)
    /// An SA taken over from an earlier daemon is renewed within this time.
    public var adoption: Span = .seconds(5)

    public init() {}

    /// What is left of `lifetime` when renewing begins; `fraction` is random.
    func lead(_ lifetime: Span, _ role: ExchangeRole, fraction: Double) -> Span {
        let margin = max(lifetime.times(self.margin), min(leastMargin, lifetime.times(1 / 3)))
        // Initiator: the first half of the margin. Responder: a late quarter.
        return margin.times(role == .initiator ? 1 - fraction / 2 : 0.5 - fraction / 4)
    }
}

/// RFC 3706: a peer that is sent to and sends nothing back is asked whether it lives.
public struct DeadPeerDetection: Hashable, Sendable {
    public var enabled = true
    /// Silence from the peer, while there is traffic to it, before the first question.
    public var idle: Span = .seconds(30)
    public var retry: Span = .seconds(5)
    public var tries = 4

    public init() {}
}

/// What an engine counted for a pair; monotone.
public struct TrafficSample: Hashable, Sendable {
    public var inboundSPI: UInt32
    public var inboundPackets: UInt64
    public var inboundBytes: UInt64
    public var outboundPackets: UInt64
    public var outboundBytes: UInt64

    public init(
        inboundSPI: UInt32, inboundPackets: UInt64 = 0, inboundBytes: UInt64 = 0, outboundPackets: UInt64 = 0,
        outboundBytes: UInt64 = 0
    ) {
        self.inboundSPI = inboundSPI
        self.inboundPackets = inboundPackets
        self.inboundBytes = inboundBytes
        self.outboundPackets = outboundPackets
        self.outboundBytes = outboundBytes
    }
}

/// A pair that a kernel still holds after a restart of the daemon; its keys and its ISAKMP SA are
/// gone with the earlier one.
public struct AdoptedPair: Sendable {
    public var peer: PeerKey
    public var inboundSPI: UInt32
    public var outboundSPI: UInt32
    public var suite: ESPSuite
    public var encapsulation: ESPEncapsulation
    public var extendedSequenceNumbers: Bool
    public var age: Span
    /// nil: no end is known.
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
