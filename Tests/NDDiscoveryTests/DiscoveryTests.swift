import NDCore
import NDDiscovery
import Testing

/// A machine with its clock, and short ways to speak to it.
struct Bench {
    var machine: Discovery
    var now = Instant(nanoseconds: 1_000_000_000_000)

    init(_ change: (inout Discovery.Configuration) -> Void = { _ in }, random: (any RandomSource)? = nil) {
        var configuration = Discovery.Configuration()
        change(&configuration)
        machine = Discovery(configuration, random: random)
    }

    static func peer(_ number: Int) -> PeerKey {
        PeerKey(
            local: IPAddress(high: 0, low: 0xffff_c000_0201),
            remote: IPAddress(high: 0, low: 0xffff_0a00_0000 + UInt64(number)))
    }

    static func flow(_ peer: PeerKey, _ port: Int, _ proto: UInt8 = IPProtocol.tcp) -> FlowKey {
        FlowKey(
            local: Endpoint(peer.local, UInt16(truncatingIfNeeded: port)), remote: Endpoint(peer.remote, 443), proto: proto)
    }

    mutating func wait(_ seconds: Double) { now = now.advanced(by: .seconds(seconds)) }

    mutating func negotiate(_ peer: PeerKey, port: Int = 1, proto: UInt8 = IPProtocol.tcp, packet: [UInt8]? = [0x45]) -> [DiscoveryAction] {
        machine.handle(.negotiate(peer, Self.flow(peer, port, proto), packet: packet), now: now)
    }

    mutating func stash(_ peer: PeerKey, port: Int, proto: UInt8 = IPProtocol.tcp, packet: [UInt8]? = [0x45]) -> [DiscoveryAction] {
        machine.handle(.stash(peer, Self.flow(peer, port, proto), packet: packet), now: now)
    }

    mutating func established(_ peer: PeerKey, boundary: Bool = false) -> [DiscoveryAction] {
        machine.handle(.established(peer, isBoundary: boundary), now: now)
    }

    mutating func failed(_ peer: PeerKey, _ reason: FailureReason = .noAnswer) -> [DiscoveryAction] {
        machine.handle(.failed(peer, reason), now: now)
    }

    mutating func timer() -> [DiscoveryAction] { machine.handle(.timer, now: now) }
}

extension [DiscoveryAction] {
    var starts: [PeerKey] { compactMap { if case .startKeying(let peer) = $0 { peer } else { nil } } }
    var records: [PeerRecord] { compactMap { if case .setPeer(_, let record) = $0 { record } else { nil } } }
    var replays: [StoredPacket] { compactMap { if case .replay(let packet) = $0 { packet } else { nil } } }
    var removals: [PeerKey] { compactMap { if case .removePeer(let peer) = $0 { peer } else { nil } } }
    var drops: [StoredPacketFate: Int] {
        reduce(into: [:]) { if case .dropStored(_, let count, let fate) = $1 { $0[fate, default: 0] += count } }
    }
}

@Suite("The peer machine")
struct DiscoveryTests {
    let peer = Bench.peer(1)

    @Test("A thousand flows to one peer make one negotiation")
    func oneNegotiation() {
        var bench = Bench()
        var starts = bench.negotiate(peer, port: 0).starts
        for port in 1..<1000 {
            bench.wait(0.001)
            starts += port % 3 == 0 ? bench.negotiate(peer, port: port).starts : bench.stash(peer, port: port).starts
        }
        #expect(starts == [peer])
        #expect(bench.machine.counters.started == 1)
        #expect(bench.machine.counters.joined == 333)
        #expect(bench.machine.storedPackets == 1000)
        #expect(bench.machine.peerCount == 1)
    }

    @Test("A scan of ten thousand addresses starts no more negotiations than the budget allows")
    func scan() {
        var bench = Bench { $0.concurrent = 64; $0.perSecond = 20; $0.burst = 50 }
        var starts = 0
        var deferred = 0
        for number in 0..<10_000 {
            bench.wait(0.0001)
            let actions = bench.negotiate(Bench.peer(number))
            starts += actions.starts.count
            if let record = actions.records.last, record.state == .clear {
                deferred += 1
                #expect(record.clearUntil == bench.now.advanced(by: .seconds(2)))
            }
        }
        // A quarter of the 64 is for peers that were secured before.
        #expect(starts == 48)
        #expect(starts + deferred == 10_000)
        #expect(bench.machine.counters.overBudget == UInt64(deferred))
        #expect(bench.machine.negotiating == 48)
        // The deferred ones are forgotten soon; nothing piles up.
        bench.wait(10)
        let removed = bench.timer().removals.count
        #expect(removed == deferred)
        #expect(bench.machine.peerCount == 48)
    }

    @Test("The token bucket fills again")
    func tokens() {
        var bench = Bench { $0.concurrent = 10_000; $0.perSecond = 20; $0.burst = 50 }
        var starts = 0
        for number in 0..<100 { starts += bench.negotiate(Bench.peer(number)).starts.count }
        #expect(starts == 50)
        bench.wait(1)
        for number in 100..<200 { starts += bench.negotiate(Bench.peer(number)).starts.count }
        #expect(starts == 70)
    }

    @Test("A peer over the budget may ask again after the pause")
    func pause() {
        var bench = Bench { $0.concurrent = 1 }
        #expect(bench.negotiate(peer).starts == [peer])
        let other = Bench.peer(2)
        #expect(bench.negotiate(other).records.map(\.state) == [.clear])
        _ = bench.failed(peer)
        #expect(bench.negotiate(other).starts.isEmpty)
        bench.wait(2)
        #expect(bench.negotiate(other).starts == [other])
    }

    @Test("Peers that were secured before come first when the budget is short")
    func priority() {
        var bench = Bench { $0.concurrent = 8; $0.perSecond = 0; $0.burst = 100 }
        _ = bench.negotiate(peer)
        _ = bench.established(peer)
        _ = bench.machine.removed(peer, .expired, remainingPairs: 0, now: bench.now)
        for number in 10..<30 { _ = bench.negotiate(Bench.peer(number)) }
        #expect(bench.machine.negotiating == 6)
        #expect(bench.machine.handle(.latched(peer, Bench.flow(peer, 1), packet: nil), now: bench.now).starts == [peer])
        #expect(bench.negotiate(Bench.peer(31)).starts.isEmpty)
    }

    @Test("The negative cache backs off: one minute, two, four, up to the most, and anew after success")
    func backOff() {
        var bench = Bench()
        var times: [Double] = []
        for _ in 0..<9 {
            #expect(bench.negotiate(peer).starts == [peer])
            let record = bench.failed(peer).records.last
            #expect(record?.state == .clear)
            let time = record?.clearUntil?.since(bench.now) ?? .seconds(0)
            times.append(time.seconds)
            bench.now = bench.now.advanced(by: Span(nanoseconds: time.nanoseconds - 1))
            #expect(bench.negotiate(peer).starts.isEmpty)
            bench.now = bench.now.advanced(by: Span(nanoseconds: 1))
            #expect(bench.timer().removals.isEmpty)
        }
        #expect(times == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600])
        #expect(bench.machine.counters.negativeCacheHits == 9)
        #expect(bench.negotiate(peer).starts == [peer])
        _ = bench.established(peer)
        _ = bench.machine.removed(peer, .expired, remainingPairs: 0, now: bench.now)
        _ = bench.negotiate(peer)
        // Secured before: asked again soon.
        #expect(bench.failed(peer).records.last?.clearUntil == bench.now.advanced(by: .seconds(30)))
        #expect(bench.machine.counters.failed[.noAnswer] == 10)
    }

    @Test("Jitter stays within its part of the time")
    func jitter() {
        struct Fixed: RandomSource {
            var byte: UInt8
            func bytes(_ count: Int) -> [UInt8] { Array(repeating: byte, count: count) }
        }
        for (byte, expected) in [(UInt8(0), 54.0), (255, 66.0)] {
            var bench = Bench({ $0.backOff.jitter = 0.1 }, random: Fixed(byte: byte))
            _ = bench.negotiate(peer)
            let time = bench.failed(peer).records.last?.clearUntil?.since(bench.now).seconds ?? 0
            #expect(abs(time - expected) < 0.001)
        }
    }

    @Test("A clear peer is forgotten when nobody asked for as long again, and then starts anew")
    func forgotten() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        _ = bench.failed(peer)
        bench.wait(119)
        #expect(bench.timer().removals.isEmpty)
        bench.wait(1)
        #expect(bench.timer() == [.removePeer(peer), .log(.forgotten(peer))])
        #expect(bench.machine.peerCount == 0)
    }

    @Test("A negotiation that never ends is abandoned and counts as failed")
    func abandoned() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        #expect(bench.machine.nextTimer != nil)
        bench.wait(180)
        let actions = bench.timer()
        #expect(actions.contains(.abandonKeying(peer)))
        #expect(actions.records.last?.state == .clear)
        #expect(bench.machine.counters.failed[.abandoned] == 1)
        #expect(bench.machine.negotiating == 0)
        #expect(bench.failed(peer).isEmpty)
    }

    @Test("A clear answer stops the retransmissions once and drops that flow's packet")
    func clearReply() {
        var bench = Bench()
        _ = bench.negotiate(peer, port: 1)
        _ = bench.stash(peer, port: 2)
        let actions = bench.machine.handle(.clearReply(peer, Bench.flow(peer, 1)), now: bench.now)
        #expect(actions == [.dropStored(peer, count: 1, .answered), .stopRetransmitting(peer)])
        let again = bench.machine.handle(.clearReply(peer, Bench.flow(peer, 3)), now: bench.now)
        #expect(again.isEmpty)
        // The peer may answer all the same.
        #expect(bench.established(peer).replays.map(\.flow) == [Bench.flow(peer, 2)])
        #expect(bench.machine.handle(.clearReply(Bench.peer(9), Bench.flow(peer, 1)), now: bench.now).isEmpty)
    }

    @Test("An established peer is set secured first, then its packets go in the order they came")
    func replayOrder() {
        var bench = Bench()
        _ = bench.negotiate(peer, port: 0, packet: [0])
        for port in 1..<20 {
            bench.wait(0.01)
            _ = bench.stash(peer, port: port, proto: port % 2 == 0 ? IPProtocol.tcp : IPProtocol.udp, packet: [UInt8(port)])
        }
        let other = Bench.peer(2)
        _ = bench.negotiate(other, packet: [99])
        let actions = bench.established(peer)
        #expect(actions.first == .setPeer(peer, PeerRecord(.secured, changedAt: bench.now, securedAt: bench.now, securedUntil: PeerRecord.stillSecured)))
        #expect(actions.replays.map(\.bytes) == (0..<20).map { [UInt8($0)] })
        #expect(bench.machine.storedPackets == 1)
        #expect(bench.machine.counters.fates[.replayed] == 20)
    }

    @Test("A boundary peer gets its TCP packets again, datagrams it took in clear not")
    func boundaryReplay() {
        var bench = Bench()
        _ = bench.negotiate(peer, port: 1, proto: IPProtocol.udp)
        _ = bench.stash(peer, port: 2)
        let actions = bench.established(peer, boundary: true)
        #expect(actions.records.last?.isBoundary == true)
        #expect(actions.replays.map(\.flow) == [Bench.flow(peer, 2)])
        #expect(actions.drops == [.boundary: 1])
    }

    @Test("At most one packet a flow, and none after three seconds")
    func storeBounds() {
        var bench = Bench()
        _ = bench.negotiate(peer, port: 1)
        #expect(bench.stash(peer, port: 1).drops == [.duplicate: 1])
        bench.wait(2)
        _ = bench.stash(peer, port: 2)
        bench.wait(1.5)
        #expect(bench.timer().drops == [.expired: 1])
        #expect(bench.established(peer).replays.map(\.flow) == [Bench.flow(peer, 2)])
    }

    @Test("Even without the timer no packet is sent after its time")
    func lateReplay() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        bench.wait(3.1)
        let actions = bench.established(peer)
        #expect(actions.replays.isEmpty && actions.drops == [.expired: 1])
    }

    @Test("The store is bounded in packets and in bytes, and empties on failure")
    func storeFull() {
        var bench = Bench { $0.store.packets = 10; $0.store.bytes = 1000 }
        _ = bench.negotiate(peer, port: 0, packet: Array(repeating: 1, count: 100))
        for port in 1..<20 { _ = bench.stash(peer, port: port, packet: Array(repeating: 1, count: 100)) }
        #expect(bench.machine.storedPackets == 10)
        #expect(bench.machine.counters.fates[.full] == 10)
        #expect(bench.failed(peer).drops == [.failed: 10])
        #expect(bench.machine.storedPackets == 0)
        var small = Bench { $0.store.bytes = 150 }
        _ = small.negotiate(peer, port: 0, packet: Array(repeating: 1, count: 100))
        #expect(small.stash(peer, port: 1, packet: Array(repeating: 1, count: 100)).drops == [.full: 1])
        #expect(small.stash(peer, port: 2, packet: nil).drops == [.useless: 1])
    }

    @Test("A packet stashed while the SA came up goes at once; one for a clear peer goes nowhere")
    func crossing() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        _ = bench.established(peer)
        #expect(bench.stash(peer, port: 7).replays.map(\.flow) == [Bench.flow(peer, 7)])
        let late = bench.negotiate(peer, port: 8)
        #expect(late.starts.isEmpty && late.records.last?.state == .secured && late.replays.count == 1)
        #expect(bench.stash(Bench.peer(5), port: 1).drops == [.useless: 1])
    }

    @Test("The last SA's end makes the peer lost; a rekey doesn't")
    func removed() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        _ = bench.established(peer)
        let securedAt = bench.now
        bench.wait(100)
        // Make before break: the new pair comes, the old one goes.
        #expect(bench.established(peer).records.last?.securedAt == securedAt)
        #expect(bench.machine.handle(.removed(peer, .replaced, remainingPairs: 1), now: bench.now).isEmpty)
        bench.wait(100)
        let actions = bench.machine.handle(.removed(peer, .deletedByPeer, remainingPairs: 0), now: bench.now)
        #expect(actions.records == [PeerRecord(.lost, changedAt: bench.now, securedAt: securedAt, securedUntil: bench.now)])
        #expect(bench.machine.handle(.removed(peer, .expired, remainingPairs: 0), now: bench.now).isEmpty)
    }

    @Test("A lost peer is negotiated with again and keeps its protected past until it is secured")
    func lostAgain() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        _ = bench.established(peer)
        _ = bench.machine.handle(.removed(peer, .expired, remainingPairs: 0), now: bench.now)
        let until = bench.now
        bench.wait(1)
        let actions = bench.negotiate(peer)
        #expect(actions.starts == [peer])
        #expect(actions.records.last?.state == .negotiating && actions.records.last?.securedUntil == until)
        let failure = bench.failed(peer)
        #expect(failure.records.last?.state == .clear && failure.records.last?.securedUntil == until)
    }

    @Test("A peer that was secured is remembered for days, clear or lost, then forgotten")
    func secureMemory() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        _ = bench.established(peer)
        _ = bench.machine.handle(.removed(peer, .expired, remainingPairs: 0), now: bench.now)
        _ = bench.negotiate(peer)
        _ = bench.failed(peer)
        bench.wait(4 * 24 * 3600)
        #expect(bench.timer().removals.isEmpty)
        bench.wait(24 * 3600 + 1)
        #expect(bench.timer().removals == [peer])
    }

    @Test("A negotiation by the peer wins over our own failure")
    func responderWins() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        _ = bench.established(peer)
        #expect(bench.failed(peer).isEmpty)
        #expect(bench.machine.record(peer)?.state == .secured)
        // And a peer that we never asked for is taken as it comes.
        #expect(bench.established(Bench.peer(2)).records.last?.state == .secured)
        #expect(bench.machine.negotiating == 0)
    }

    @Test("A full table gives up clear peers, never one that was secured")
    func tableFull() {
        var bench = Bench { $0.mostPeers = 64; $0.concurrent = 1000; $0.burst = 1000 }
        for number in 0..<8 {
            _ = bench.negotiate(Bench.peer(number))
            _ = bench.established(Bench.peer(number))
            _ = bench.machine.handle(.removed(Bench.peer(number), .dead, remainingPairs: 0), now: bench.now)
        }
        for number in 100..<400 {
            _ = bench.negotiate(Bench.peer(number))
            _ = bench.failed(Bench.peer(number))
            #expect(bench.machine.peerCount <= 64)
        }
        for number in 0..<8 { #expect(bench.machine.record(Bench.peer(number))?.state == .lost) }
        #expect(bench.machine.counters.tableFull > 0)
    }

    @Test("With nobody to give up a new peer stays clear, untracked")
    func tableStuck() {
        var bench = Bench { $0.mostPeers = 4; $0.concurrent = 100 }
        for number in 0..<4 { _ = bench.negotiate(Bench.peer(number)) }
        let actions = bench.negotiate(Bench.peer(9))
        #expect(actions.starts.isEmpty && actions.records.last?.state == .clear)
        #expect(bench.machine.peerCount == 4)
    }

    @Test("A new daemon adopts the table: negotiations end, protection without SAs is lost, latches stay")
    func adoption() {
        var bench = Bench()
        let earlier = Instant(nanoseconds: bench.now.nanoseconds - 5_000_000_000)
        let later = bench.now.advanced(by: .seconds(30))
        func key(_ n: Int) -> PeerKey { Bench.peer(n) }
        let found: [(peer: PeerKey, record: PeerRecord)] = [
            (key(1), PeerRecord(.negotiating, changedAt: earlier)),
            (key(2), PeerRecord(.negotiating, changedAt: earlier, securedUntil: earlier)),
            (key(3), PeerRecord(.secured, changedAt: earlier, securedAt: earlier, securedUntil: PeerRecord.stillSecured)),
            (key(4), PeerRecord(.secured, changedAt: earlier, securedAt: earlier, securedUntil: PeerRecord.stillSecured)),
            (key(5), PeerRecord(.clear, changedAt: earlier, clearUntil: later)),
            (key(6), PeerRecord(.clear, changedAt: earlier, clearUntil: earlier)),
            (key(7), PeerRecord(.lost, changedAt: earlier, securedAt: earlier, securedUntil: earlier)),
            (key(8), PeerRecord(.clear, changedAt: earlier, clearUntil: PeerRecord.stillSecured)),
            (key(9), PeerRecord(.unknown, changedAt: earlier)),
        ]
        let actions = bench.machine.adopt(found, now: bench.now, hasSA: { $0 == key(4) })
        #expect(Set(actions.removals) == [key(1), key(6), key(9)])
        #expect(bench.machine.record(key(2)) == PeerRecord(.lost, changedAt: bench.now, securedUntil: earlier))
        #expect(bench.machine.record(key(3)) == PeerRecord(.lost, changedAt: bench.now, securedAt: earlier, securedUntil: bench.now))
        #expect(bench.machine.record(key(4))?.state == .secured)
        #expect(bench.machine.record(key(5))?.clearUntil == later)
        #expect(bench.machine.record(key(7))?.state == .lost)
        #expect(bench.machine.record(key(8))?.clearUntil == bench.now.advanced(by: .seconds(3600)))
        let told = actions.compactMap { if case .setPeer(let peer, _) = $0 { peer } else { nil } }
        #expect(Set(told) == [key(2), key(3), key(8)])
        #expect(bench.negotiate(key(1)).starts == [key(1)])
        #expect(bench.machine.handle(.latched(key(3), Bench.flow(key(3), 1), packet: nil), now: bench.now).starts == [key(3)])
    }

    @Test("A latched flow of a peer that nobody knows starts a negotiation that remembers the protection")
    func latchedUnknown() {
        var bench = Bench()
        let actions = bench.machine.handle(.latched(peer, Bench.flow(peer, 1), packet: nil), now: bench.now)
        #expect(actions.starts == [peer] && actions.records.last?.securedUntil == bench.now)
    }

    @Test("The listing is ordered and tells failures and stored packets")
    func listing() {
        var bench = Bench()
        _ = bench.negotiate(Bench.peer(3))
        _ = bench.negotiate(peer)
        _ = bench.failed(peer, .authentication)
        let statuses = bench.machine.statuses()
        #expect(statuses.map(\.peer) == [peer, Bench.peer(3)])
        #expect(statuses.first?.lastFailure == .authentication && statuses.first?.failures == 1)
        #expect(statuses.last?.storedPackets == 1)
        #expect(bench.machine.peersByState()[.clear] == 1 && bench.machine.peersByState()[.secured] == 0)
    }

    @Test("Whatever comes in whatever order: one negotiation a peer, bounds kept, nothing leaks")
    func random() {
        for seed in 1...20 {
            var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15
            func next(_ bound: Int) -> Int {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return Int(state >> 33) % bound
            }
            var bench = Bench { $0.mostPeers = 30; $0.concurrent = 8; $0.store.packets = 16 }
            var running: Set<PeerKey> = []
            for _ in 0..<3000 {
                bench.now = bench.now.advanced(by: .milliseconds(Double(next(2000))))
                let key = Bench.peer(next(40))
                var actions: [DiscoveryAction]
                switch next(9) {
                case 0, 1, 2: actions = bench.negotiate(key, port: next(5))
                case 3: actions = bench.stash(key, port: next(5))
                case 4: actions = bench.machine.handle(.clearReply(key, Bench.flow(key, next(5))), now: bench.now)
                case 5: actions = bench.machine.handle(.latched(key, Bench.flow(key, 1), packet: nil), now: bench.now)
                case 6:
                    actions = bench.established(key)
                    running.remove(key)
                case 7:
                    actions = bench.failed(key)
                    running.remove(key)
                default:
                    actions = bench.timer() + bench.machine.handle(.removed(key, .expired, remainingPairs: next(2)), now: bench.now)
                }
                for action in actions {
                    if case .abandonKeying(let peer) = action { running.remove(peer) }
                    if case .startKeying(let peer) = action {
                        #expect(running.insert(peer).inserted)
                    }
                }
                #expect(running.count == bench.machine.negotiating && running.count <= 8)
                #expect(bench.machine.storedPackets <= 16)
            }
        }
    }
}

@Suite("Answering a negotiation")
struct AnsweringTests {
    let peer = Bench.peer(1)

    @Test("A pair installed as responder marks its peer until it is in use; what waited is sent again")
    func answered() {
        var bench = Bench()
        let actions = bench.machine.answering(peer, now: bench.now)
        #expect(actions.records.last?.state == .negotiating)
        #expect(actions.records.last?.isAnswering == true)
        #expect(actions.starts.isEmpty, "the peer negotiates, not we")
        #expect(bench.stash(peer, port: 7).isEmpty)
        let done = bench.established(peer)
        #expect(done.records.last?.state == .secured)
        #expect(done.records.last?.isAnswering == false)
        #expect(done.replays.map(\.flow) == [Bench.flow(peer, 7)])
    }

    @Test("A pair that never came into use leaves the peer as it was: unknown, or lost when it was secured")
    func unused() {
        var bench = Bench()
        _ = bench.machine.answering(peer, now: bench.now)
        let gone = bench.machine.handle(.removed(peer, .dead, remainingPairs: 0), now: bench.now)
        #expect(gone.removals == [peer])
        #expect(bench.machine.record(peer) == nil)

        _ = bench.established(peer)
        _ = bench.machine.handle(.removed(peer, .expired, remainingPairs: 0), now: bench.now)
        #expect(bench.machine.record(peer)?.state == .lost)
        _ = bench.machine.answering(peer, now: bench.now)
        #expect(bench.machine.record(peer)?.state == .negotiating)
        _ = bench.machine.handle(.removed(peer, .dead, remainingPairs: 0), now: bench.now)
        #expect(bench.machine.record(peer)?.state == .lost)
        #expect(bench.machine.record(peer)?.isAnswering == false)
    }

    @Test("A secured peer stays so while it renews its SAs, and a forgotten answer ends by itself")
    func edges() {
        var bench = Bench()
        _ = bench.established(peer)
        #expect(bench.machine.answering(peer, now: bench.now).isEmpty)
        #expect(bench.machine.record(peer)?.state == .secured)
        let other = Bench.peer(2)
        _ = bench.machine.answering(other, now: bench.now)
        bench.wait(120)
        #expect(bench.timer().removals == [other])
    }

    @Test("Who asked while a peer's own negotiation was answered gets one of ours when that comes to nothing")
    func wanted() {
        for wasSecured in [false, true] {
            var bench = Bench()
            if wasSecured {
                _ = bench.established(peer)
                _ = bench.machine.handle(.removed(peer, .expired, remainingPairs: 0), now: bench.now)
            }
            _ = bench.machine.answering(peer, now: bench.now)
            _ = bench.stash(peer, port: 7)
            let gone = bench.machine.handle(.removed(peer, .dead, remainingPairs: 0), now: bench.now)
            #expect(gone.starts == [peer])
            #expect(bench.machine.record(peer)?.isAnswering == false)
            #expect(bench.established(peer).replays.map(\.flow) == [Bench.flow(peer, 7)])
        }
    }

    @Test("Our own negotiation beside the peer's goes on when the peer's pair comes to nothing")
    func both() {
        var bench = Bench()
        _ = bench.negotiate(peer)
        _ = bench.machine.answering(peer, now: bench.now)
        _ = bench.machine.handle(.removed(peer, .dead, remainingPairs: 0), now: bench.now)
        #expect(bench.machine.record(peer)?.state == .negotiating)
        #expect(bench.established(peer).replays.count == 1)
    }
}
