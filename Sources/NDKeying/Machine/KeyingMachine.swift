import NDCore
import NDCrypto
import NDWire

/// All IKEv1 exchanges of a host, without input or output: datagrams, times and requests go in,
/// actions come out. One machine serves any number of peers.
public struct KeyingMachine: Sendable {
    var configuration: KeyingConfiguration
    let random: any RandomSource
    let responderCookie: ResponderCookie

    var mainModeRecords: [MainModeID: MainMode] = [:]
    var byCookies: [CookiePair: MainModeID] = [:]
    /// Cookies we made as initiator: a message 1 that carries one is our own, reflected.
    var ownInitiatorCookies: Set<UInt64> = []
    var quickModeRecords: [QuickModeID: QuickMode] = [:]
    var pairs: [UInt32: Pair] = [:]
    /// How many of them are not confirmed.
    var unconfirmedPairs = 0
    /// Inbound SPIs of quick modes under way.
    var reservedSPIs: Set<UInt32> = []
    var negotiations: [PeerKey: Negotiation] = [:]
    var peers: [AddressPair: PeerIndex] = [:]
    var timers = DeadlineQueue<TimerKey>()

    var halfOpen = 0
    var halfOpenBySource: [IPAddress: Int] = [:]
    var demandsCookies = false
    var errorReplies: ReplyBudget
    var cookieReplies: ReplyBudget
    private var lastMainModeID: UInt64 = 0

    /// Monotone.
    public internal(set) var counters = KeyingCounters()

    // Of the call in progress.
    var now = Instant(nanoseconds: 0)
    var actions: [KeyingAction] = []

    public init(configuration: KeyingConfiguration, random: any RandomSource) {
        self.configuration = configuration
        self.random = random
        responderCookie = ResponderCookie(random: random)
        errorReplies = ReplyBudget(perSecond: configuration.limits.errorRepliesPerSecond)
        cookieReplies = ReplyBudget(perSecond: configuration.limits.cookieRepliesPerSecond)
    }

    /// Starts a negotiation as initiator; nothing happens when one with this peer is under way. An
    /// existing main-mode SA is used.
    public mutating func negotiate(_ peer: PeerKey, now: Instant) -> [KeyingAction] {
        run(now) { $0.beginNegotiation(peer) }
    }

    /// A datagram as it came from the socket; on local port 4500 with its non-ESP marker.
    public mutating func receive(
        _ datagram: [UInt8], local: Endpoint, remote: Endpoint, now: Instant
    ) -> [KeyingAction] {
        run(now) { $0.receiveDatagram(datagram, local: local, remote: remote) }
    }

    public mutating func timerFired(now: Instant) -> [KeyingAction] {
        run(now) { machine in
            while let key = machine.timers.popDue(now) {
                switch key {
                case .mainMode(let id): machine.mainModeTimer(id)
                case .quickMode(let id): machine.quickModeTimer(id)
                case .negotiation(let peer): machine.negotiationTimer(peer)
                case .pair(let spi): machine.pairTimer(spi)
                case .liveness(let addresses): machine.livenessTimer(addresses)
                }
            }
        }
    }

    /// When `timerFired` wants to be called next.
    public var nextDeadline: Instant? { timers.next }

    /// ICMP unreachable for one of our datagrams: fails an initiator's main mode that has heard
    /// nothing of the peer yet. Later in an exchange it is ignored: ICMP is not authenticated.
    public mutating func unreachable(remote: Endpoint, local: Endpoint, now: Instant) -> [KeyingAction] {
        run(now) { machine in
            let ids = machine.peers[AddressPair(local, remote)]?.mainModes ?? []
            for id in ids {
                guard let mode = machine.mainModeRecords[id], mode.role == .initiator, mode.isUnanswered,
                    mode.remote == remote, mode.local == local
                else { continue }
                machine.failMainMode(id, .unreachable)
            }
        }
    }

    /// The peer answered the triggering connection in clear ([MS-AIPS] note 12): message 1 is not
    /// repeated, and the negotiation fails when the current interval ends unanswered.
    public mutating func stopRetransmitting(_ peer: PeerKey, now: Instant) -> [KeyingAction] {
        run(now) { machine in
            guard case .mainMode(let id)? = machine.negotiations[peer]?.step else { return }
            machine.mainModeRecords[id]?.stopRetransmitting = true
        }
    }

    /// The first authenticated ESP packet on a new inbound SA proves what message 3 would.
    public mutating func firstInboundPacket(spi: UInt32, now: Instant) -> [KeyingAction] {
        run(now) { machine in
            guard let pair = machine.pairs[spi], !pair.confirmed else { return }
            machine.confirm(spi)
        }
    }

    /// Renews the SAs with a peer now; nothing happens without any.
    public mutating func rekey(_ peer: PeerKey, now: Instant) -> [KeyingAction] {
        run(now) { $0.beginRekey(peer) }
    }

    /// A limit of an SA is near; the SPI is of either direction.
    public mutating func softExpired(spi: UInt32, now: Instant) -> [KeyingAction] {
        run(now) { $0.limitReached(spi, hard: false) }
    }

    /// An SA has ended, or can't be used any more; the SPI is of either direction.
    public mutating func hardExpired(spi: UInt32, now: Instant) -> [KeyingAction] {
        run(now) { $0.limitReached(spi, hard: true) }
    }

    /// What passed through the pairs, every few seconds: drives liveness, limits of bytes, and the end
    /// of pairs that have successors.
    public mutating func traffic(_ samples: [TrafficSample], now: Instant) -> [KeyingAction] {
        run(now) { machine in
            machine.observe(samples)
            for sample in samples { machine.sample(sample) }
        }
    }

    /// A pair that a kernel kept over a restart of the daemon.
    public mutating func adopt(_ pair: AdoptedPair, now: Instant) -> [KeyingAction] {
        run(now) { $0.adoptPair(pair) }
    }

    /// Removes the peer's pairs and its negotiation, telling the peer. Without pairs left to that
    /// address the ISAKMP SA goes too.
    public mutating func delete(_ peer: PeerKey, reason: RemovalReason, now: Instant) -> [KeyingAction] {
        run(now) { $0.deletePeer(peer, reason) }
    }

    /// At shutdown.
    public mutating func deleteAll(now: Instant) -> [KeyingAction] {
        run(now) { machine in
            for peer in Set(machine.pairs.values.map(\.peer)).union(machine.negotiations.keys) {
                machine.deletePeer(peer, .shutdown)
            }
            for id in machine.mainModeRecords.keys.sorted(by: { $0.value < $1.value }) {
                machine.closeMainMode(id, tellPeer: true)
            }
        }
    }

    /// Takes effect for exchanges that begin from now on; what is established stays.
    public mutating func reconfigure(_ configuration: KeyingConfiguration) {
        self.configuration = configuration
        errorReplies = ReplyBudget(perSecond: configuration.limits.errorRepliesPerSecond)
        cookieReplies = ReplyBudget(perSecond: configuration.limits.cookieRepliesPerSecond)
    }

    private mutating func run(_ now: Instant, _ body: (inout KeyingMachine) -> Void) -> [KeyingAction] {
        self.now = now
        body(&self)
        defer { actions = [] }
        return actions
    }

    mutating func makeMainModeID() -> MainModeID {
        lastMainModeID &+= 1
        return MainModeID(value: lastMainModeID)
    }

    /// A non-zero random number that `taken` does not know.
    func fresh<N: FixedWidthInteger & UnsignedInteger>(
        _ type: N.Type, atLeast minimum: N = 1, taken: (N) -> Bool
    ) -> N {
        var value: N = 0
        for _ in 0..<64 {
            value = random.bytes(N.bitWidth / 8).reduce(N(0)) { $0 << 8 | N(truncatingIfNeeded: $1) }
            if value >= minimum, !taken(value) { return value }
        }
        // A broken random source repeats itself: count on from its last value.
        while value < minimum || taken(value) { value = max(value &+ 1, minimum) }
        return value
    }

    // MARK: Sending

    /// On the NAT-traversal port four zero bytes tell IKE from ESP (RFC 3948 §2.2).
    mutating func transmit(_ message: [UInt8], from local: Endpoint, to remote: Endpoint) {
        counters.count(.datagramsSent)
        let marked = local.port == configuration.natTraversalPort ? [0, 0, 0, 0] + message : message
        actions.append(.send(datagram: marked, from: local, to: remote))
    }

    mutating func event(_ level: KeyingEvent.Level, _ code: String, _ text: String, _ peer: AddressPair) {
        actions.append(
            .event(KeyingEvent(level: level, code: code, text: text, local: peer.local, remote: peer.remote)))
    }

    mutating func drop(_ reason: DropReason) { counters.count(reason) }

    mutating func count(_ refusal: Refusal) {
        switch refusal.cause {
        case .dropped(let reason): counters.count(reason)
        case .malformed(let error): counters.count(error)
        }
    }

    // MARK: The index by peer

    mutating func updatePeer(_ addresses: AddressPair, _ body: (inout PeerIndex) -> Void) {
        body(&peers[addresses, default: PeerIndex()])
        if peers[addresses]?.isEmpty == true { peers[addresses] = nil }
    }

    /// The newest ISAKMP SA that can carry a new exchange.
    func usableMainMode(_ addresses: AddressPair, _ client: AuthenticatedIdentity? = nil) -> MainMode? {
        peers[addresses]?.mainModes.reversed().lazy.compactMap { mainModeRecords[$0] }.first {
            $0.isUsable && (client == nil || $0.association?.identity == client)
        }
    }
}
