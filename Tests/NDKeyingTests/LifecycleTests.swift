import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

@Suite struct LifecycleTests {
    private func established(
        both: (inout KeyingConfiguration) -> Void = { _ in }
    ) -> (SimulatedHost, SimulatedHost, SimulatedNetwork) {
        let (a, b, net) = pair(both: both)
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        return (a, b, net)
    }

    @Test func `a delete reaches the peer and both sides are empty`() {
        let (a, b, net) = established()
        net.apply(a, a.machine.delete(a.peer(b), reason: .administrative, now: net.now))
        #expect(a.removals == [.administrative])
        net.run(for: .seconds(1))
        #expect(b.removals == [.deletedByPeer])
        #expect(a.machine.mainModes.isEmpty && a.machine.quickModes.isEmpty)
        #expect(b.machine.quickModes.isEmpty)
        #expect(b.machine.mainModes.map(\.state) == ["closing"])
        net.run(for: .seconds(60))
        #expect(b.machine.mainModes.isEmpty && b.machine.nextDeadline == nil)
        #expect(a.machine.nextDeadline == nil && a.machine.peers.isEmpty && b.machine.peers.isEmpty)
    }

    @Test func `a pair whose initiator gave up before message 3 goes soon after the ISAKMP SA`() {
        let (a, b, net) = pair()
        // Message 3 of quick mode is the ninth of all.
        net.fate = { $0.number == 8 ? .lose : .deliver }
        net.negotiate(a, b)
        net.run(for: .milliseconds(300))
        #expect(b.machine.quickModes.count == 1 && b.established.isEmpty)
        net.apply(a, a.machine.delete(a.peer(b), reason: .administrative, now: net.now))
        net.run(for: .seconds(2))
        #expect(b.machine.quickModes.isEmpty && b.removals.count == 1)
    }

    @Test func `the responder's delete works alike, and a new negotiation follows`() {
        let (a, b, net) = established()
        net.apply(b, b.machine.delete(b.peer(a), reason: .policyChange, now: net.now))
        net.run(for: .seconds(1))
        #expect(b.removals == [.policyChange] && a.removals == [.deletedByPeer])
        net.negotiate(a, b)
        net.run(for: .seconds(2))
        #expect(a.established.count == 2 && net.bothWays(a, b))
    }

    @Test func `deleting one context keeps the other's pair and the main mode`() {
        let (a, b, net) = established()
        let other = PeerKey(local: a.address, remote: b.address, context: 7)
        net.apply(a, a.machine.negotiate(other, now: net.now))
        net.run(for: .seconds(1))
        net.apply(a, a.machine.delete(a.peer(b), reason: .administrative, now: net.now))
        net.run(for: .seconds(1))
        #expect(a.machine.quickModes.map(\.peer) == [other])
        #expect(a.machine.mainModes.count == 1 && b.machine.quickModes.count == 1)
    }

    @Test func `deleteAll leaves nothing behind on either side`() {
        let (a, b, net) = established()
        net.apply(a, a.machine.negotiate(PeerKey(local: a.address, remote: address("10.0.0.9")), now: net.now))
        net.apply(a, a.machine.deleteAll(now: net.now))
        #expect(a.removals == [.shutdown] && a.failures == [.cancelled])
        #expect(a.machine.mainModes.isEmpty && a.machine.nextDeadline == nil)
        net.run(for: .seconds(1))
        #expect(b.removals == [.deletedByPeer])
    }

    @Test func `a cancelled negotiation sends no more`() {
        let (a, b, net) = pair()
        net.fate = { _ in .lose }
        net.negotiate(a, b)
        net.apply(a, a.machine.delete(a.peer(b), reason: .administrative, now: net.now))
        net.run(for: .seconds(60))
        #expect(a.sent.count == 1 && a.failures == [.cancelled])
    }

    @Test func `a repeated delete and one of an unknown SPI are harmless`() throws {
        let (a, b, net) = established()
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        net.apply(a, a.machine.delete(a.peer(b), reason: .administrative, now: net.now))
        net.run(for: .seconds(1))
        let delete = try #require(a.sent.dropLast().last)
        let before = b.machine.counters[.replayedMessageID]
        for _ in 0..<3 {
            #expect(b.machine.receive(delete.bytes, local: delete.to, remote: delete.from, now: net.now).isEmpty)
        }
        #expect(b.machine.counters[.replayedMessageID] == before + 3)
    }

    @Test func `a delete with a wrong hash or in clear is not honoured`() throws {
        let (a, b, net) = established()
        let mode = try #require(a.machine.mainModeRecords.values.first)
        let association = try #require(mode.association)
        let spi = try #require(a.machine.quickModes.first?.inboundSPI)
        let payload = Payload.delete(
            DeletePayload(protocolID: ProtocolID.esp, spiSize: 4, spis: [[UInt8](u32: spi)]))
        var iv = try association.firstIV(messageID: 99)
        let forged = try association.seal(
            [.hash([UInt8](repeating: 7, count: 32)), payload], exchange: .informational, messageID: 99, iv: &iv)
        let clear = ISAKMPMessage(
            header: ISAKMPHeader(
                initiatorCookie: association.cookies.initiator, responderCookie: association.cookies.responder,
                exchangeType: .informational, messageID: 98), payloads: [payload])
        let noHash = try association.seal([payload], exchange: .informational, messageID: 97, iv: &iv)
        for bytes in [forged, clear.encode(), noHash] {
            net.apply(b, b.machine.receive(bytes, local: mode.remote, remote: mode.local, now: net.now))
        }
        #expect(b.removals.isEmpty && b.machine.quickModes.count == 1)
        #expect(b.machine.counters[.hashMismatch] == 1)
        // The same with the right hash is honoured.
        iv = try association.firstIV(messageID: 96)
        let good = try association.seal(
            [payload], seed: [UInt8](u32: 96), exchange: .informational, messageID: 96, iv: &iv)
        net.apply(b, b.machine.receive(good, local: mode.remote, remote: mode.local, now: net.now))
        #expect(b.removals == [.deletedByPeer])
    }

    @Test func `pairs and main modes end with their lifetime`() {
        let (a, b, net) = established {
            $0.quickModeLifetime = .seconds(100)
            $0.mainModeLifetime = .seconds(300)
            $0.rekey = .never
        }
        net.run(for: .seconds(98))
        #expect(a.removals.isEmpty && b.removals.isEmpty)
        net.run(for: .seconds(2))
        #expect(a.removals.count == 1 && b.removals.count == 1)
        #expect(a.removals == [.expired] || b.removals == [.expired])
        #expect(a.machine.mainModes.count == 1)
        net.run(for: .seconds(400))
        #expect(a.machine.mainModes.isEmpty && b.machine.mainModes.isEmpty)
        #expect(a.machine.nextDeadline == nil && b.machine.nextDeadline == nil)
    }

    @Test func `a restarted initiator replaces what its peer still holds`() {
        let (a, b, net) = established()
        let restarted = SimulatedHost("10.0.0.1", seed: 555)
        let again = SimulatedNetwork(restarted, b)
        again.now = net.now.advanced(by: .seconds(10))
        again.negotiate(restarted, b)
        again.run(for: .seconds(1))
        #expect(b.removals == [.initialContact])
        #expect(restarted.established.count == 1 && again.bothWays(restarted, b))
        #expect(b.machine.quickModes.count == 1 && b.machine.mainModes.count == 1)
        _ = a
    }

    @Test func `a peer that restarted is found out by the one that did not`() {
        let (a, b, net) = established()
        // b forgot everything; a still has its main mode and wants a new pair.
        let restarted = SimulatedHost("10.0.0.2", seed: 556)
        let again = SimulatedNetwork(a, restarted)
        again.now = net.now.advanced(by: .seconds(10))
        again.negotiate(a, restarted)
        again.run(for: .seconds(3))
        #expect(a.established.count == 2 && a.failures.isEmpty)
        #expect(again.bothWays(a, restarted))
        // Without the INVALID-COOKIE hint it takes two tries.
        let third = SimulatedHost("10.0.0.2", seed: 557) { $0.limits.errorRepliesPerSecond = 0 }
        let last = SimulatedNetwork(a, third)
        last.now = again.now.advanced(by: .seconds(10))
        last.negotiate(a, third)
        last.run(for: .seconds(5))
        #expect(a.established.count == 3 && a.failures.isEmpty && last.bothWays(a, third))
        _ = b
    }

    @Test func `hosts behind one NAT address do not displace each other`() {
        let a = SimulatedHost("10.0.0.1", seed: 1), b = SimulatedHost("10.0.0.2", seed: 2)
        let c = SimulatedHost("10.0.0.3", seed: 3)
        let net = SimulatedNetwork(a, b, c)
        let outside = address("10.0.0.77")
        net.translate = { packet in
            var packet = packet
            if packet.from.address != b.address {
                packet.from = Endpoint(outside, packet.from.port &+ (packet.from.address == a.address ? 10000 : 20000))
            } else {
                let inner = packet.to.port >= 20000 ? c.address : a.address
                packet.to = Endpoint(inner, packet.to.port &- (packet.to.port >= 20000 ? 20000 : 10000))
            }
            return packet
        }
        net.negotiate(a, b)
        net.run(for: .seconds(5))
        net.negotiate(c, b)
        net.run(for: .seconds(5))
        #expect(a.established.count == 1 && c.established.count == 1 && b.established.count == 2)
        #expect(b.machine.counters[.initialContacts] == 2)
        #expect(b.removals.isEmpty)
        #expect(Set(b.established.map(\.identity.description)) == ["10.0.0.1", "10.0.0.3"])
        // One of them leaves: the other's pair stays.
        net.apply(a, a.machine.delete(a.peer(b), reason: .administrative, now: net.now))
        net.run(for: .seconds(1))
        #expect(b.machine.quickModes.count == 1)
    }

    @Test func `a first contact does not claim to be one when SAs exist`() {
        let (a, b, net) = established()
        #expect(b.machine.counters[.initialContacts] == 1)
        for id in a.machine.mainModeRecords.keys { a.machine.removeMainMode(id) }
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(a.established.count == 2 && b.machine.counters[.initialContacts] == 1)
        #expect(b.removals.isEmpty)
    }

    @Test func `reconfiguration keeps what is established and rules what comes`() throws {
        let (a, b, net) = established()
        var configuration = testConfiguration()
        configuration.quickModeSuites = [.aesCBCHMACSHA256(keyBits: 256)]
        a.machine.reconfigure(configuration)
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(a.machine.quickModes.count == 2)
        #expect(a.established.last?.quickModeSuite == .aesCBCHMACSHA256(keyBits: 256))
    }

    @Test func `pairs and main modes of one peer are bounded`() {
        let (a, b, net) = established {
            $0.limits.pairsPerPeer = 4
            $0.limits.mainModesPerPeer = 2
            $0.rekey.overlap = .seconds(3600)
        }
        for _ in 0..<10 {
            for id in a.machine.mainModeRecords.keys { a.machine.removeMainMode(id) }
            net.negotiate(a, b)
            net.run(for: .seconds(40))
        }
        #expect(b.machine.quickModes.count == 4 && a.established.count == 11)
        #expect(b.removals.allSatisfy { $0 == .superseded } && b.removals.count == 7)
        #expect(net.bothWays(a, b))
        #expect(b.machine.mainModes.count <= 2)
    }
}

@Suite struct FloodTests {
    private func firstMessage(seed: UInt64) -> [UInt8] {
        let host = SimulatedHost("10.0.0.1", seed: seed)
        for action in host.machine.negotiate(
            PeerKey(local: host.address, remote: address("10.0.0.2")), now: Instant(nanoseconds: 1))
        {
            if case .send(let bytes, _, _) = action { return bytes }
        }
        return []
    }

    @Test func `half-open exchanges of one source are bounded`() {
        let b = SimulatedHost("10.0.0.2", seed: 2)
        let now = Instant(nanoseconds: 1_000_000_000)
        for seed in 0..<100 {
            _ = b.machine.receive(
                firstMessage(seed: UInt64(seed)), local: Endpoint(b.address, 500),
                remote: Endpoint(address("10.0.0.1"), 500), now: now)
        }
        #expect(b.machine.mainModes.count == 35)
        #expect(b.machine.counters[.sourceLimit] == 65)
        _ = b.machine.timerFired(now: now.advanced(by: .seconds(31)))
        #expect(b.machine.mainModes.isEmpty && b.machine.halfOpenBySource.isEmpty && b.machine.halfOpen == 0)
    }

    @Test func `under a flood message 1 needs a cookie, and an initiator of ours brings it`() {
        let (a, b, net) = pair()
        let message = firstMessage(seed: 9)
        for i in 0..<1000 {
            _ = b.machine.receive(
                message, local: Endpoint(b.address, 500),
                remote: Endpoint(address("10.7.\(i / 250).\(i % 250)"), 500), now: net.now)
        }
        #expect(b.machine.mainModes.count == 500)
        #expect(b.machine.counters[.cookieDemandsSent] == 500)
        net.run(for: .seconds(1))
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(a.established.count == 1 && a.machine.counters[.cookieDemandsReceived] == 1)
        #expect(net.bothWays(a, b))
        net.run(for: .seconds(40))
        #expect(!b.machine.demandsCookies || b.machine.halfOpen < 100)
        // A cookie made up by the sender is none.
        var forged = message
        forged[8] = 1
        let before = b.machine.mainModes.count
        _ = b.machine.receive(
            forged, local: Endpoint(b.address, 500), remote: Endpoint(address("10.8.0.1"), 500), now: net.now)
        #expect(b.machine.mainModes.count == before)
    }

    @Test func `half-open exchanges are bounded even with cookies`() {
        let b = SimulatedHost("10.0.0.2", seed: 2) { $0.limits.halfOpenMaximum = 50 }
        let message = firstMessage(seed: 9)
        for i in 0..<200 {
            _ = b.machine.receive(
                message, local: Endpoint(b.address, 500), remote: Endpoint(address("10.7.0.\(i)"), 500),
                now: Instant(nanoseconds: 1))
        }
        #expect(b.machine.mainModes.count == 50)
    }

    @Test func `responder cookies are bound to addresses, port and initiator cookie`() {
        let cookies = ResponderCookie(random: SeededRandom(3))
        let now = Instant(nanoseconds: 400 * 1_000_000_000)
        let local = Endpoint(address("10.0.0.2"), 500), remote = Endpoint(address("10.0.0.1"), 500)
        let base = cookies.candidates(initiatorCookie: 1, local: local, remote: remote, now: now)
        #expect(base.count == 2 && Set(base).count == 2)
        #expect(base == cookies.candidates(initiatorCookie: 1, local: local, remote: remote, now: now))
        for other in [
            cookies.candidates(initiatorCookie: 2, local: local, remote: remote, now: now),
            cookies.candidates(initiatorCookie: 1, local: local, remote: Endpoint(remote.address, 501), now: now),
            cookies.candidates(initiatorCookie: 1, local: local, remote: Endpoint(address("10.0.0.3"), 500), now: now),
            cookies.candidates(initiatorCookie: 1, local: Endpoint(address("10.0.0.4"), 500), remote: remote, now: now),
            ResponderCookie(random: SeededRandom(4)).candidates(
                initiatorCookie: 1, local: local, remote: remote, now: now),
        ] { #expect(Set(base).isDisjoint(with: other)) }
        // Valid in the slice of issue and the next one.
        let later = now.advanced(by: .seconds(150))
        #expect(cookies.candidates(initiatorCookie: 1, local: local, remote: remote, now: later)[1] == base[0])
    }

    @Test func `the deadline queue gives the earliest first and forgets what was cancelled`() {
        var queue = DeadlineQueue<Int>()
        var model: [Int: Instant] = [:]
        let random = SeededRandom(5)
        for step in 0..<20_000 {
            let key = random.below(200)
            switch random.below(4) {
            case 0:
                queue.cancel(key)
                model[key] = nil
            case 1 where step % 3 == 0:
                let now = Instant(nanoseconds: UInt64(random.below(300)))
                if let due = queue.popDue(now) {
                    #expect(model[due] == model.values.min())
                    model[due] = nil
                } else {
                    #expect((model.values.min() ?? Instant(nanoseconds: .max)) > now)
                }
            default:
                let at = Instant(nanoseconds: UInt64(random.below(1000)))
                queue.set(key, at)
                model[key] = at
            }
            #expect(queue.next == model.values.min())
        }
    }
}
