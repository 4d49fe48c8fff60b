import NDCore

/// The peer machine: who is negotiated with, when, and what becomes of the packets that wait. One
/// instance for all peers; it takes events and returns actions, and does nothing itself.
public struct Discovery: Sendable {
    public struct Configuration: Sendable {
        public var backOff = BackOff()
        /// Peers that were secured before have latched connections: they are asked again soon.
        public var mostBackOffOfSecured = Span.seconds(30)
        /// Where packets wait for keys the peer is asked again after this, however often it failed.
        public var retryOfWaiting = Span.seconds(3)
        public var concurrent = 64
        public var perSecond = 20.0
        public var burst = 50.0
        /// How long a peer over the budget stays clear before it may ask again.
        public var pause = Span.seconds(2)
        public var mostPeers = 65_536
        /// A negotiation whose result never came.
        public var mostNegotiation = Span.seconds(180)
        /// A pair of ours that the peer never used; keying gives it up before.
        public var mostAnswering = Span.seconds(60)
        /// How long a peer without SA is remembered as secured. Past it a packet of an old
        /// connection whose flow entry is gone would pass in clear, so it equals the life of an
        /// idle TCP flow entry.
        public var secureMemory = Span.seconds(5 * 24 * 3600)
        public var store = ReplayStore.Limits()
        public var waiting = ReplayStore.Limits.waiting

        public init() {}
    }

    struct Peer: Sendable {
        var record: PeerRecord
        /// Start of the negotiation that this machine asked for; nil: none runs.
        var negotiatingSince: Instant?
        var toldToStop = false
        var failures = 0
        var lastFailure: FailureReason?
        var negotiations = 0
        var deadline: Instant?
        /// When it is asked again, if packets still wait for it.
        var retryAt: Instant?
        /// We want to talk to it too, but its own negotiation, which we answer, goes first.
        var isWanted = false

        var wasSecured: Bool { record.securedUntil != nil }
    }

    public let configuration: Configuration
    public private(set) var counters = DiscoveryCounters()
    var peers: [PeerKey: Peer] = [:]
    var store: ReplayStore
    /// The last packet of each flow that waits for its SA.
    var waiting: ReplayStore
    private var budget: NegotiationBudget
    private var deadlines = DeadlineQueue()
    private var retries = DeadlineQueue()
    private let random: (any RandomSource)?

    /// `random` is asked only for the back-off's jitter.
    public init(_ configuration: Configuration = Configuration(), random: (any RandomSource)? = nil) {
        self.configuration = configuration
        self.random = random
        store = ReplayStore(limits: configuration.store)
        waiting = ReplayStore(limits: configuration.waiting)
        budget = NegotiationBudget(
            concurrent: configuration.concurrent, perSecond: configuration.perSecond, burst: configuration.burst)
    }

    public mutating func handle(_ event: DiscoveryEvent, now: Instant) -> [DiscoveryAction] {
        switch event {
        case .negotiate(let peer, let flow, let packet): negotiate(peer, flow: flow, packet: packet, now: now)
        case .stash(let peer, let flow, let packet): stash(peer, flow: flow, packet: packet, now: now)
        case .clearReply(let peer, let flow): clearReply(peer, flow: flow)
        case .latched(let peer, let flow, let packet): latched(peer, flow: flow, packet: packet, now: now)
        case .wait(let peer, let flow, let packet): wait(peer, flow: flow, packet: packet, now: now)
        case .established(let peer, let isBoundary): established(peer, isBoundary: isBoundary, now: now)
        case .failed(let peer, let reason): failed(peer, reason, now: now)
        case .removed(let peer, let reason, let remaining):
            removed(peer, reason, remainingPairs: remaining, now: now)
        case .timer: timer(now)
        }
    }

    /// When `timer` has something to do next.
    public var nextTimer: Instant? {
        [deadlines.next, retries.next, store.nextExpiry, waiting.nextExpiry].compactMap { $0 }.min()
    }

    // MARK: what the datapath asks

    public mutating func negotiate(
        _ key: PeerKey, flow: FlowKey, packet: [UInt8]?, waits: Bool = false, now: Instant
    ) -> [DiscoveryAction] {
        guard waits else {
            return ask(key, assumeSecured: false, now: now) + stash(key, flow: flow, packet: packet, now: now)
        }
        let actions = ask(key, assumeSecured: false, waits: true, now: now)
        return actions + wait(key, flow: flow, packet: packet, now: now)
    }

    /// A peer that this machine doesn't know and that has latched flows was secured by an earlier
    /// daemon.
    public mutating func latched(
        _ key: PeerKey, flow: FlowKey? = nil, packet: [UInt8]? = nil, now: Instant
    ) -> [DiscoveryAction] {
        let actions = ask(key, assumeSecured: true, waits: true, now: now)
        guard let flow else { return actions }
        return actions + wait(key, flow: flow, packet: packet, now: now)
    }

    /// A packet of a secured or held flow, which no failure of a negotiation lets go.
    public mutating func wait(
        _ key: PeerKey, flow: FlowKey, packet: [UInt8]?, now: Instant
    ) -> [DiscoveryAction] {
        if let peer = peers[key], peer.record.isAnswering, peer.negotiatingSince == nil { peers[key]?.isWanted = true }
        guard let packet, let peer = peers[key] else { return drop(key, .useless) }
        let stored = StoredPacket(flow: flow, peer: key, bytes: packet, storedAt: now, waits: true)
        // The event was on its way when the SA came up.
        if peer.record.state == .secured { return replay([stored], to: peer, now: now) }
        guard waiting.store(stored) == nil else { return drop(key, .full) }
        counters.stored += 1
        return []
    }

    public mutating func stash(
        _ key: PeerKey, flow: FlowKey, packet: [UInt8]?, now: Instant
    ) -> [DiscoveryAction] {
        if let peer = peers[key], peer.record.isAnswering, peer.negotiatingSince == nil { peers[key]?.isWanted = true }
        guard let packet, let peer = peers[key] else { return drop(key, .useless) }
        let stored = StoredPacket(flow: flow, peer: key, bytes: packet, storedAt: now)
        switch peer.record.state {
        case .negotiating:
            switch store.store(stored) {
            case nil:
                counters.stored += 1
                return []
            case .duplicate?: return drop(key, .duplicate)
            case .full?: return drop(key, .full)
            }
        case .secured:
            // The event was on its way when the SA came up.
            return replay([stored], to: peer, now: now)
        case .unknown, .lost, .clear:
            return drop(key, .useless)
        }
    }

    /// "Stop retransmitting when the responder answers the triggering connection in clear"
    /// ([MS-AIPS] note 12). An answer to message 1 is still welcome.
    public mutating func clearReply(_ key: PeerKey, flow: FlowKey) -> [DiscoveryAction] {
        var actions: [DiscoveryAction] = []
        if store.take(flow, of: key) != nil { actions += drop(key, .answered) }
        guard var peer = peers[key], peer.negotiatingSince != nil, !peer.toldToStop else { return actions }
        peer.toldToStop = true
        peers[key] = peer
        counters.retransmissionsStopped += 1
        return actions + [.stopRetransmitting(key)]
    }

    /// `waits`: for packets that don't leave before there are keys. The negative cache is for those that do.
    private mutating func ask(_ key: PeerKey, assumeSecured: Bool, waits: Bool = false, now: Instant) -> [DiscoveryAction] {
        counters.asked += 1
        var actions: [DiscoveryAction] = []
        if peers[key] == nil {
            actions += makeRoom(now: now)
            guard peers.count < configuration.mostPeers else {
                // Nobody can be given up. BPF's own table is bounded too; the entry is taken over
                // when the peer asks again.
                let until = now.advanced(by: configuration.pause)
                return actions + [.setPeer(key, PeerRecord(.clear, changedAt: now, clearUntil: until))]
            }
            var record = PeerRecord(.unknown, changedAt: now)
            if assumeSecured { record.securedUntil = now }
            peers[key] = Peer(record: record)
        }
        guard var peer = peers[key] else { return actions }
        if peer.negotiatingSince != nil {
            counters.joined += 1
            return actions
        }
        if peer.record.state == .secured {
            // BPF's entry was made anew or the event crossed the SA: say again what holds.
            return actions + [.setPeer(key, peer.record)]
        }
        if !waits, peer.record.state == .clear, let until = peer.record.clearUntil, now < until {
            counters.negativeCacheHits += 1
            return actions + [.setPeer(key, peer.record)]
        }
        guard budget.admit(wasSecured: peer.wasSecured, now: now) else {
            counters.overBudget += 1
            actions.append(.log(.overBudget(key)))
            if waits { retry(key, &peer, now: now) }
            return actions + clear(key, peer, for: configuration.pause, now: now)
        }
        counters.started += 1
        peer.negotiatingSince = now
        peer.toldToStop = false
        peer.negotiations += 1
        peer.record.state = .negotiating
        peer.record.changedAt = now
        peer.record.clearUntil = nil
        keep(key, peer, until: now.advanced(by: configuration.mostNegotiation))
        return actions + [
            .setPeer(key, peer.record), .startKeying(key), .log(.started(key, again: peer.negotiations > 1)),
        ]
    }

    // MARK: what keying reports

    /// A pair is about to be installed as responder: from then on the peer may send on it, and what
    /// answers must not leave in clear before our outbound SA is in use.
    public mutating func answering(_ key: PeerKey, now: Instant) -> [DiscoveryAction] {
        var actions: [DiscoveryAction] = []
        if peers[key] == nil { actions += makeRoom(now: now) }
        var peer = peers[key] ?? Peer(record: PeerRecord(.unknown, changedAt: now))
        guard peer.record.state != .secured else { return actions }
        peer.record.state = .negotiating
        peer.record.changedAt = now
        peer.record.isAnswering = true
        peer.record.clearUntil = nil
        keep(key, peer, until: peer.negotiatingSince == nil ? now.advanced(by: configuration.mostAnswering) : peer.deadline)
        return actions + [.setPeer(key, peer.record)]
    }

    public mutating func established(_ key: PeerKey, isBoundary: Bool, now: Instant) -> [DiscoveryAction] {
        var actions: [DiscoveryAction] = []
        if peers[key] == nil { actions += makeRoom(now: now) }
        var peer = peers[key] ?? Peer(record: PeerRecord(.unknown, changedAt: now))
        let since = peer.negotiatingSince
        if since != nil {
            counters.succeeded += 1
            budget.finish()
        }
        peer.negotiatingSince = nil
        peer.isWanted = false
        peer.failures = 0
        peer.lastFailure = nil
        let isNew = peer.record.state != .secured
        if isNew {
            peer.record.securedAt = now
            peer.record.changedAt = now
        }
        peer.record.state = .secured
        peer.record.securedUntil = PeerRecord.stillSecured
        peer.record.clearUntil = nil
        peer.record.isBoundary = isBoundary
        peer.record.isAnswering = false
        keep(key, peer, until: nil)
        actions.append(.setPeer(key, peer.record))
        if isNew { actions.append(.log(.secured(key, afterNanoseconds: since.map { now.since($0).nanoseconds }))) }
        return actions + replay(store.take(key) + waiting.take(key), to: peer, now: now)
    }

    public mutating func failed(_ key: PeerKey, _ reason: FailureReason, now: Instant) -> [DiscoveryAction] {
        guard var peer = peers[key], peer.negotiatingSince != nil else { return [] }
        counters.failed[reason, default: 0] += 1
        budget.finish()
        peer.negotiatingSince = nil
        peer.lastFailure = reason
        // The peer's own negotiation may have won meanwhile.
        guard peer.record.state != .secured else {
            peers[key] = peer
            return []
        }
        let isWaitedFor = waiting.packets(of: key) > 0
        // Asking for what waits says little of how long a host stays without IPsec.
        if !isWaitedFor || peer.failures == 0 { peer.failures += 1 }
        if isWaitedFor { retry(key, &peer, now: now) }
        var time = configuration.backOff.time(failures: peer.failures, random: randomFraction())
        if peer.wasSecured { time = min(time, configuration.mostBackOffOfSecured) }
        peer.deadline = nil
        let stored = store.take(key).count
        return [.log(.failed(key, reason, clearFor: time))]
            + (stored == 0 ? [] : drop(key, .failed, count: stored))
            + clear(key, peer, for: time, now: now)
    }

    public mutating func removed(
        _ key: PeerKey, _ reason: RemovalReason, remainingPairs: Int, now: Instant
    ) -> [DiscoveryAction] {
        guard remainingPairs <= 0, var peer = peers[key] else { return [] }
        if peer.record.isAnswering { return answered(key, peer, now: now) }
        guard peer.record.state == .secured else { return [] }
        counters.lost += 1
        peer.record.state = .lost
        peer.record.changedAt = now
        peer.record.securedUntil = now
        keep(key, peer, until: now.advanced(by: configuration.secureMemory))
        return [.setPeer(key, peer.record), .log(.lost(key, reason))]
    }

    /// The pair that we answered with never came into use.
    private mutating func answered(_ key: PeerKey, _ before: Peer, now: Instant) -> [DiscoveryAction] {
        var peer = before
        peer.record.isAnswering = false
        peer.record.changedAt = now
        if peer.isWanted, peer.negotiatingSince == nil {
            peer.isWanted = false
            peer.record.state = peer.wasSecured ? .lost : .unknown
            peers[key] = peer
            return ask(key, assumeSecured: false, now: now)
        }
        if peer.negotiatingSince != nil {
            peers[key] = peer
        } else if peer.wasSecured {
            peer.record.state = .lost
            keep(key, peer, until: now.advanced(by: configuration.secureMemory))
        } else {
            return forget(key)
        }
        return [.setPeer(key, peer.record)]
    }

    // MARK: time

    public mutating func timer(_ now: Instant) -> [DiscoveryAction] {
        var actions: [DiscoveryAction] = []
        while let (at, key) = retries.pop(due: now) {
            guard peers[key]?.retryAt == at else { continue }
            peers[key]?.retryAt = nil
            guard waiting.packets(of: key) > 0, let peer = peers[key], peer.negotiatingSince == nil,
                peer.record.state == .clear
            else { continue }
            actions += ask(key, assumeSecured: false, waits: true, now: now)
        }
        for (key, count) in store.expire(now).merging(waiting.expire(now), uniquingKeysWith: +)
            .sorted(by: { $0.key.description < $1.key.description })
        {
            actions += drop(key, .expired, count: count)
        }
        while let (at, key) = deadlines.pop(due: now) {
            guard var peer = peers[key], peer.deadline == at else { continue }
            if peer.negotiatingSince != nil {
                actions.append(.abandonKeying(key))
                actions += failed(key, .abandoned, now: now)
            } else if peer.record.isAnswering {
                actions += answered(key, peer, now: now)
            } else if let until = peer.record.securedUntil, now.since(until) < configuration.secureMemory {
                peer.deadline = nil
                keep(key, peer, until: until.advanced(by: configuration.secureMemory))
            } else {
                actions += forget(key)
            }
        }
        return actions
    }

    // MARK: the table

    /// Takes over what an earlier daemon left in BPF's table. Whatever negotiated has nobody to
    /// end it; whatever was secured is so only where its SAs live on in the kernel.
    public mutating func adopt(
        _ found: [(peer: PeerKey, record: PeerRecord)], now: Instant, hasSA: (PeerKey) -> Bool = { _ in false }
    ) -> [DiscoveryAction] {
        var actions: [DiscoveryAction] = []
        for (key, record) in found where peers[key] == nil {
            var peer = Peer(record: record)
            if let until = record.securedUntil, until != PeerRecord.stillSecured {
                peer.record.securedUntil = min(until, now)
            }
            if hasSA(key) {
                peer.record.state = .secured
                peer.record.securedUntil = PeerRecord.stillSecured
                peer.record.securedAt = record.securedAt ?? now
                keep(key, peer, until: nil)
                if peer.record != record { actions.append(.setPeer(key, peer.record)) }
                continue
            }
            if record.state == .secured || record.securedUntil == PeerRecord.stillSecured {
                peer.record.securedUntil = now
            }
            if record.state == .clear, let until = record.clearUntil, now < until {
                // A time from elsewhere must not keep a peer clear for ever.
                peer.record.clearUntil = min(until, now.advanced(by: configuration.backOff.most))
                peer.failures = 1
                keep(key, peer, until: rest(of: peer, now: now))
            } else if peer.wasSecured {
                if record.state != .lost {
                    peer.record.state = .lost
                    peer.record.changedAt = now
                }
                peer.record.clearUntil = nil
                keep(key, peer, until: now.advanced(by: configuration.secureMemory))
            } else {
                actions.append(.removePeer(key))
                continue
            }
            if peer.record != record { actions.append(.setPeer(key, peer.record)) }
        }
        return actions
    }

    public var peerCount: Int { peers.count }
    public var storedPackets: Int { store.count + waiting.count }
    public var negotiating: Int { budget.running }

    public func record(_ peer: PeerKey) -> PeerRecord? { peers[peer]?.record }

    public func peersByState() -> [PeerState: Int] {
        var result = Dictionary(uniqueKeysWithValues: PeerState.allCases.map { ($0, 0) })
        for peer in peers.values { result[peer.record.state, default: 0] += 1 }
        return result
    }

    /// Ordered by remote address.
    public func statuses() -> [PeerStatus] {
        peers.sorted { a, b in
            (a.key.remote, a.key.local, a.key.context) < (b.key.remote, b.key.local, b.key.context)
        }.map { key, peer in
            PeerStatus(
                peer: key, record: peer.record, failures: peer.failures, lastFailure: peer.lastFailure,
                negotiations: peer.negotiations, storedPackets: store.packets(of: key) + waiting.packets(of: key))
        }
    }

    private mutating func keep(_ key: PeerKey, _ peer: Peer, until deadline: Instant?) {
        var peer = peer
        if let deadline, deadline != peer.deadline { deadlines.push(deadline, key) }
        peer.deadline = deadline
        peers[key] = peer
        if deadlines.count > 4 * peers.count + 1024 {
            deadlines = DeadlineQueue()
            for (key, peer) in peers { peer.deadline.map { deadlines.push($0, key) } }
        }
    }

    private mutating func retry(_ key: PeerKey, _ peer: inout Peer, now: Instant) {
        guard peer.retryAt == nil else { return }
        let at = now.advanced(by: configuration.retryOfWaiting)
        peer.retryAt = at
        retries.push(at, key)
    }

    private mutating func clear(
        _ key: PeerKey, _ peer: Peer, for time: Span, now: Instant
    ) -> [DiscoveryAction] {
        var peer = peer
        peer.record.state = .clear
        peer.record.changedAt = now
        peer.record.clearUntil = now.advanced(by: time)
        // Failures are remembered at least as long as before: a pause must not wipe a back-off.
        let remembered = peer.failures > 0 ? peer.deadline ?? now : now
        keep(key, peer, until: max(rest(of: peer, now: now), remembered))
        return [.setPeer(key, peer.record)]
    }

    /// A clear peer is forgotten when it was not asked for during as much time again as it stayed
    /// clear: earlier the back-off could never grow.
    private func rest(of peer: Peer, now: Instant) -> Instant {
        guard let until = peer.record.clearUntil else { return now }
        return until.advanced(by: until.since(peer.record.changedAt))
    }

    private mutating func forget(_ key: PeerKey) -> [DiscoveryAction] {
        peers[key] = nil
        counters.forgotten += 1
        let waiting = store.take(key).count + waiting.take(key).count
        return (waiting == 0 ? [] : drop(key, .useless, count: waiting)) + [.removePeer(key), .log(.forgotten(key))]
    }

    /// A full table gives up the clear peers whose time ends first, many at once so that a scan
    /// doesn't sort the table for every address. Peers that were secured stay: forgetting one
    /// could open its connections.
    private mutating func makeRoom(now: Instant) -> [DiscoveryAction] {
        guard peers.count >= configuration.mostPeers else { return [] }
        counters.tableFull += 1
        let candidates = peers.filter { $0.value.record.state == .clear && !$0.value.wasSecured }
            .map { (key: $0.key, until: $0.value.record.clearUntil ?? now) }
            .sorted { $0.until < $1.until }
        return candidates.prefix(max(1, configuration.mostPeers / 8)).flatMap { forget($0.key) }
    }

    // MARK: stored packets

    private mutating func replay(_ packets: [StoredPacket], to peer: Peer, now: Instant) -> [DiscoveryAction] {
        packets.flatMap { packet -> [DiscoveryAction] in
            if (packet.waits ? waiting : store).isOver(packet, now) { return drop(packet.peer, .expired) }
            if peer.record.isBoundary, !packet.waits, packet.flow.proto != IPProtocol.tcp { return drop(packet.peer, .boundary) }
            counters.fates[.replayed, default: 0] += 1
            return [.replay(packet)]
        }
    }

    private mutating func drop(_ key: PeerKey, _ fate: StoredPacketFate, count: Int = 1) -> [DiscoveryAction] {
        counters.fates[fate, default: 0] += UInt64(count)
        return [.dropStored(key, count: count, fate)]
    }

    private func randomFraction() -> Double {
        guard configuration.backOff.jitter > 0, let random else { return 0.5 }
        return Double(random.bytes(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }) / 4_294_967_296
    }
}
