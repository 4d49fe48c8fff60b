import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

@Suite struct FailureTests {
    @Test func `a silent peer gets five identical messages with doubling intervals, then the negotiation fails`() {
        let (a, b, net) = pair()
        net.fate = { _ in .lose }
        let start = net.now
        net.negotiate(a, b)
        net.run(for: .seconds(30.9))
        #expect(a.sent.map { $0.at.since(start).seconds } == [0, 1, 3, 7, 15])
        #expect(Set(a.sent.map(\.bytes)).count == 1)
        #expect(a.failures.isEmpty)
        net.run(for: .seconds(0.2))
        #expect(a.failures == [.noAnswer])
        #expect(a.machine.mainModes.isEmpty && a.machine.nextDeadline == nil)
        net.run(for: .seconds(600))
        #expect(a.sent.count == 5 && a.failures.count == 1)
    }

    @Test func `port unreachable fails a negotiation at once, but only before the first answer`() {
        let (a, b, net) = pair()
        net.fate = { _ in .unreachable }
        net.negotiate(a, b)
        #expect(a.failures == [.unreachable])
        #expect(a.machine.nextDeadline == nil)

        let (c, d, other) = pair()
        other.negotiate(c, d)
        other.run(for: .milliseconds(25))  // message 2 was accepted
        other.apply(
            c,
            c.machine.unreachable(
                remote: Endpoint(d.address, 500), local: Endpoint(c.address, 500), now: other.now))
        other.run(for: .seconds(1))
        #expect(c.failures.isEmpty && c.established.count == 1)
    }

    @Test func `unreachable for other ports or peers is not taken for ours`() {
        let (a, b, net) = pair()
        net.fate = { _ in .lose }
        net.negotiate(a, b)
        for (remote, local) in [
            (Endpoint(b.address, 501), Endpoint(a.address, 500)),
            (Endpoint(b.address, 500), Endpoint(a.address, 4500)),
            (Endpoint(address("10.0.0.3"), 500), Endpoint(a.address, 500)),
        ] {
            #expect(a.machine.unreachable(remote: remote, local: local, now: net.now).isEmpty)
        }
    }

    @Test func `after stopRetransmitting message 1 is not repeated and the interval's end fails it`() {
        let (a, b, net) = pair()
        net.fate = { _ in .lose }
        net.negotiate(a, b)
        net.run(for: .seconds(0.2))
        net.apply(a, a.machine.stopRetransmitting(a.peer(b), now: net.now))
        net.run(for: .seconds(0.7))
        #expect(a.failures.isEmpty)
        net.run(for: .seconds(0.2))
        #expect(a.failures == [.noAnswer] && a.sent.count == 1)
    }

    @Test func `an answer after stopRetransmitting still counts`() {
        let (a, b, net) = pair()
        net.negotiate(a, b)
        net.apply(a, a.machine.stopRetransmitting(a.peer(b), now: net.now))
        net.run(for: .seconds(2))
        #expect(a.established.count == 1 && a.failures.isEmpty)
    }

    @Test func `without a key nothing leaves`() {
        let (a, b, net) = pair { $0.credentials = OneKey(key: nil) }
        net.negotiate(a, b)
        #expect(a.failures == [.noCredential] && a.sent.isEmpty)
        #expect(a.machine.nextDeadline == nil)
    }

    @Test func `a responder without a key says so and the initiator fails within its first interval`() {
        let (a, b, net) = pair(adjustB: { $0.credentials = OneKey(key: nil) })
        net.negotiate(a, b)
        net.run(for: .seconds(1.1))
        #expect(a.failures == [.noProposalChosen])
        #expect(b.machine.mainModes.isEmpty && b.machine.counters[.noCredential] == 1)
    }

    @Test func `without a main-mode or a quick-mode filter for a peer nothing leaves`() {
        for missing in [Filters(mainMode: false), Filters(quickMode: false)] {
            let (a, b, net) = pair { $0.policy = missing }
            net.negotiate(a, b)
            #expect(a.failures == [.noPolicy] && a.sent.isEmpty)
            #expect(a.machine.nextDeadline == nil)
        }
    }

    @Test func `a responder without a main-mode filter takes no main mode`() {
        let (a, b, net) = pair(adjustB: { $0.policy = Filters(mainMode: false) })
        net.negotiate(a, b)
        net.run(for: .seconds(1.1))
        #expect(a.failures == [.noProposalChosen])
        #expect(b.machine.mainModes.isEmpty && b.machine.counters[.noPolicy] == 1)
    }

    @Test func `a responder without a quick-mode filter makes no SAs`() {
        let (a, b, net) = pair(adjustB: { $0.policy = Filters(quickMode: false) })
        net.negotiate(a, b)
        net.run(for: .seconds(1.1))
        #expect(a.failures == [.noProposalChosen])
        #expect(!b.machine.mainModes.isEmpty && b.installs == 0 && b.machine.counters[.noPolicy] == 1)
    }

    private struct Filters: NegotiationPolicy {
        var mainMode = true
        var quickMode = true
        func hasMainMode(local: IPAddress, remote: IPAddress) -> Bool { mainMode }
        func hasQuickMode(local: IPAddress, remote: IPAddress) -> Bool { quickMode }
    }

    @Test func `no common main-mode suite fails within the first interval`() {
        let (a, b, net) = pair(adjustB: {
            $0.mainModeSuites = [MainModeSuite(keyBits: 256, hash: .sha1, group: .ecp384)]
        })
        net.negotiate(a, b)
        net.run(for: .seconds(1.1))
        #expect(a.failures == [.noProposalChosen])
        #expect(a.established.isEmpty && b.machine.mainModes.isEmpty)
    }

    @Test func `no common ESP suite fails at once by a protected notify`() {
        let (a, b, net) = pair(
            adjustA: { $0.quickModeSuites = [.aesGCM16(keyBits: 128)] },
            adjustB: { $0.quickModeSuites = [.aesCBCHMACSHA256(keyBits: 128)] })
        net.negotiate(a, b)
        net.run(for: .seconds(0.2))
        #expect(a.failures == [.noProposalChosen])
        #expect(a.installs == 0 && b.installs == 0)
        #expect(a.machine.reservedSPIs.isEmpty && b.machine.reservedSPIs.isEmpty)
    }

    @Test func `a responder that wants PFS refuses an offer without`() {
        let (a, b, net) = pair(adjustB: { $0.pfsGroup = .ecp256 })
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(a.failures == [.noProposalChosen])
    }

    @Test func `different keys fail and nothing is installed`() {
        for seed in 0..<20 {
            let (a, b, net) = pair(seed: UInt64(seed), adjustB: { $0.credentials = OneKey(key: "another") })
            net.negotiate(a, b)
            net.run(for: .seconds(40))
            #expect(a.failures == [.authenticationFailed])
            #expect(a.installs == 0 && b.installs == 0 && b.established.isEmpty)
            #expect(b.machine.mainModes.isEmpty && b.machine.halfOpen == 0)
            #expect(b.machine.halfOpenBySource.isEmpty)
        }
    }

    @Test func `a forged refusal is forgotten when the valid answer comes`() throws {
        let (a, b, net) = pair()
        net.negotiate(a, b)
        let one = try ISAKMPMessage.decode(a.sent[0].bytes)
        let forged = ISAKMPMessage(
            header: ISAKMPHeader(
                initiatorCookie: one.header.initiatorCookie, responderCookie: 0, exchangeType: .informational,
                messageID: 7),
            payloads: [.notification(NotificationPayload(protocolID: 1, type: .noProposalChosen))])
        net.apply(
            a,
            a.machine.receive(
                forged.encode(), local: Endpoint(a.address, 500), remote: Endpoint(b.address, 500), now: net.now))
        #expect(a.machine.counters[.hintsReceived] == 1)
        net.run(for: .seconds(2))
        #expect(a.established.count == 1 && a.failures.isEmpty)
        // From another address it is no hint at all.
        let (c, d, other) = pair()
        other.fate = { _ in .lose }
        other.negotiate(c, d)
        var spoofed = forged
        spoofed.header.initiatorCookie = try ISAKMPMessage.decode(c.sent[0].bytes).header.initiatorCookie
        _ = c.machine.receive(
            spoofed.encode(), local: Endpoint(c.address, 500), remote: Endpoint(address("10.9.9.9"), 500), now: other.now)
        other.run(for: .seconds(2))
        #expect(c.failures.isEmpty)
    }

    @Test func `an error is never answered with an error`() {
        let (a, b, net) = pair()
        for type in 1..<40 {
            let forged = ISAKMPMessage(
                header: ISAKMPHeader(
                    initiatorCookie: UInt64(type), responderCookie: 3, exchangeType: .informational, messageID: 9),
                payloads: [.notification(NotificationPayload(protocolID: 1, type: NotifyType(rawValue: UInt16(type))))])
            net.apply(
                b,
                b.machine.receive(
                    forged.encode(), local: Endpoint(b.address, 500), remote: Endpoint(a.address, 500), now: net.now))
        }
        #expect(b.sent.isEmpty)
    }

    @Test func `error replies are rate-limited`() {
        let (a, b, net) = pair(adjustB: { $0.limits.errorRepliesPerSecond = 5 })
        b.machine.configuration.credentials = OneKey(key: nil)
        net.fate = { _ in .lose }
        net.negotiate(a, b)
        for i in 0..<100 {
            net.apply(
                b,
                b.machine.receive(
                    a.sent[0].bytes, local: Endpoint(b.address, 500),
                    remote: Endpoint(address("10.1.0.\(i)"), 500), now: net.now))
        }
        #expect(b.sent.count == 5)
        #expect(b.machine.counters[.rateLimited] == 95)
    }
}
