import NDCore
import NDCrypto
import NDWire

struct MainModeID: Hashable, Sendable { var value: UInt64 }

struct QuickModeID: Hashable, Sendable {
    var mainMode: MainModeID
    var messageID: UInt32
}

struct AddressPair: Hashable, Sendable {
    var local: IPAddress
    var remote: IPAddress

    init(_ peer: PeerKey) {
        local = peer.local
        remote = peer.remote
    }

    init(_ local: Endpoint, _ remote: Endpoint) {
        self.local = local.address
        self.remote = remote.address
    }
}

/// An initiator's message on its way and when it leaves again.
struct Transmission: Sendable {
    var message: [UInt8]
    var attempts = 1
    var interval: Span
    var next: Instant

    init(_ message: [UInt8], _ policy: RetransmissionPolicy, _ now: Instant) {
        self.message = message
        interval = policy.firstInterval
        next = now.advanced(by: policy.firstInterval)
    }

    mutating func repeated(_ policy: RetransmissionPolicy, _ now: Instant) {
        attempts += 1
        interval = interval.times(policy.factor)
        next = now.advanced(by: interval)
    }
}

/// The last request of the peer's and the answer, for when it comes again (RFC 2408 §5.1).
struct AnsweredRequest: Sendable {
    var digest: [UInt8]
    var reply: [UInt8]?
    var repeats = 0
}

/// A main mode from its first message to the end of the ISAKMP SA.
struct MainMode: Sendable {
    enum Phase: Sendable {
        case negotiating(MainModeState)
        case established(ISAKMPAssociation)
    }

    let id: MainModeID
    let role: ExchangeRole
    var cookies: CookiePair
    var local: Endpoint
    var remote: Endpoint
    var phase: Phase
    var started: Instant
    var established: Instant?
    /// Half-open responders: when we stop waiting. Established: end of life.
    var expires: Instant?
    /// Initiator only.
    var transmission: Transmission?
    var answered: AnsweredRequest?
    /// An unauthenticated sign of failure: believed when the interval ends without a valid reply.
    var hint: KeyingFailure?
    /// The peer answered the triggering connection in clear: no more of message 1.
    var stopRetransmitting = false
    /// Simultaneous start: the peer's exchange goes first until then. Set once.
    var yieldedUntil: Instant?
    var cookieDemands = 0
    /// Deleted by the peer: no new exchanges, but deletes of its pairs are still honoured
    /// ([MS-IKEE] §3.8).
    var closing = false
    /// Established: when it is renewed while pairs need it.
    var rekeyAt: Instant?
    /// The last R-U-THERE of the peer's, and of ours: numbers begin at random and count on (RFC 3706 §6.2).
    var lastProbe: UInt32?
    var ownProbe: UInt32?
    var messageIDs = MessageIDHistory()
    /// Phase-2 exchanges that are remembered.
    var quickModes: Set<UInt32> = []

    var addresses: AddressPair { AddressPair(local, remote) }

    var association: ISAKMPAssociation? {
        if case .established(let association) = phase { return association }
        return nil
    }

    var isNegotiating: Bool { association == nil }
    var isUsable: Bool { association != nil && !closing }

    /// Nothing of the peer's was ever accepted.
    var isUnanswered: Bool {
        if case .negotiating(.proposalSent) = phase { return true }
        return false
    }
}

/// Message ids that were used in verified messages: a repeated one is a replay (RFC 2409 §5.5).
/// Bounded; the oldest are forgotten.
struct MessageIDHistory: Sendable {
    private static let capacity = 512
    private var known: Set<UInt32> = []
    private var order: [UInt32] = []
    private var oldest = 0

    func contains(_ id: UInt32) -> Bool { known.contains(id) }

    mutating func insert(_ id: UInt32) {
        guard known.insert(id).inserted else { return }
        if order.count < Self.capacity {
            order.append(id)
        } else {
            known.remove(order[oldest])
            order[oldest] = id
            oldest = (oldest + 1) % Self.capacity
        }
    }
}

/// A quick-mode exchange.
struct QuickMode: Sendable {
    enum Phase: Sendable {
        case offered(QuickModeOffered)
        case answered(QuickModeAnswered)
        /// Kept to answer retransmissions.
        case finished
    }

    let id: QuickModeID
    let role: ExchangeRole
    let peer: PeerKey
    let inboundSPI: UInt32
    var phase: Phase
    var started: Instant
    var transmission: Transmission?
    var answered: AnsweredRequest?
    /// The main-mode SA was not fresh: give up early and try a new one.
    var reusedMainMode = false
    var hint: KeyingFailure?
    var yieldedUntil: Instant?

    var isFinished: Bool {
        if case .finished = phase { return true }
        return false
    }
}

/// An installed pair.
struct Pair: Sendable {
    let peer: PeerKey
    let role: ExchangeRole
    let mainMode: MainModeID
    let quickMode: QuickModeID
    let result: QuickModeResult
    let encapsulation: ESPEncapsulation
    let established: Established
    let created: Instant
    /// Whose it is where several hosts have one address (`ISAKMPAssociation.client`).
    var client: AuthenticatedIdentity?
    /// Responder: the peer used the pair.
    var confirmed: Bool
    /// Unconfirmed: when we stop waiting. Confirmed: end of life.
    var expires: Instant
    /// When a successor is negotiated.
    var rekeyAt: Instant?
    /// The pair that took over.
    var successor: UInt32?
    /// We replaced it: when it goes, traffic or not.
    var retireAt: Instant?
    var sample: TrafficSample?

    /// A pair that this one can replace.
    func isAkin(to other: Pair) -> Bool { peer == other.peer && client == other.client }

    /// We can't begin with a host behind a NAT; it renews in time, or begins anew.
    var isRenewedByPeer: Bool { client != nil && role == .responder }

    /// Which of two concurrent pairs stays: the lower. Both ends have the same two SPIs.
    var rank: UInt64 {
        let (a, b) = (UInt64(result.inboundSPI), UInt64(result.outboundSPI))
        return max(a, b) << 32 | min(a, b)
    }
}

/// What `negotiate` asked for, until it is established or failed.
struct Negotiation: Sendable {
    enum Step: Hashable, Sendable {
        case mainMode(MainModeID)
        case quickMode(QuickModeID)
        /// The peer is just doing the same; act ourselves if nothing came of it by then.
        case awaitingPeer(until: Instant)
    }

    let peer: PeerKey
    let started: Instant
    var step: Step
    /// The stale main-mode SA was already replaced once.
    var restarted = false
    /// The pair to be replaced; nobody waits for the result then.
    var rekeyOf: UInt32?
}

/// Everything that concerns one pair of addresses.
struct PeerIndex: Sendable {
    var mainModes: [MainModeID] = []
    var pairs: [UInt32] = []
    var negotiations: [PeerKey] = []
    var liveness: Liveness?

    var isEmpty: Bool { mainModes.isEmpty && pairs.isEmpty && negotiations.isEmpty }
}

enum TimerKey: Hashable, Sendable {
    case mainMode(MainModeID)
    case quickMode(QuickModeID)
    case negotiation(PeerKey)
    case pair(UInt32)
    case liveness(AddressPair)
}
