import NDCore
import Testing

@testable import NDKeying

/// Two hosts under virtual time that exchange data all along. Every packet must find its SA.
final class Conversation {
    let a: SimulatedHost
    let b: SimulatedHost
    let net: SimulatedNetwork
    private(set) var sent = 0
    private(set) var lost = 0
    private(set) var mostPairs = 0

    init(seed: UInt64 = 1, _ adjust: (inout KeyingConfiguration) -> Void = { _ in }, adjustB: (inout KeyingConfiguration) -> Void = { _ in }) {
        a = SimulatedHost("10.0.0.1", seed: seed, adjust)
        b = SimulatedHost("10.0.0.2", seed: seed &+ 1000) {
            adjust(&$0)
            adjustB(&$0)
        }
        net = SimulatedNetwork(a, b)
        net.negotiate(a, b)
        net.run(for: .seconds(1))
    }

    /// Data both ways, tick by tick; with `traffic`, engines report every two seconds.
    func talk(for seconds: Double, every tick: Double = 0.02, traffic: Bool = false) {
        var elapsed = 0.0
        var lastReport = 0.0
        while elapsed < seconds {
            net.run(for: .seconds(tick))
            elapsed += tick
            for (from, to) in [(a, b), (b, a)] {
                sent += 1
                let spi = from.engine.outbound
                if net.sendData(from, to) {
                    if let spi { counts[to.address.description + "\(spi)", default: 0] += 1 }
                } else {
                    lost += 1
                }
            }
            mostPairs = max(mostPairs, a.machine.quickModes.count, b.machine.quickModes.count)
            if traffic, elapsed - lastReport >= 2 {
                lastReport = elapsed
                report()
            }
        }
    }

    private var counts: [String: UInt64] = [:]

    func report() {
        for host in [a, b] {
            let samples = host.machine.quickModes.map { mode in
                TrafficSample(
                    inboundSPI: mode.inboundSPI,
                    inboundPackets: counts[host.address.description + "\(mode.inboundSPI)"] ?? 0, outboundPackets: 1)
            }
            net.apply(host, host.machine.traffic(samples, now: net.now))
        }
    }

    func rekey(_ host: SimulatedHost) {
        let other = host === a ? b : a
        net.apply(host, host.machine.rekey(host.peer(other), now: net.now))
    }
}

@Suite struct RekeyTests {
    @Test func `an SA is renewed before its end, over and over, and no packet misses its SA`() {
        let conversation = Conversation { $0.quickModeLifetime = .seconds(60) }
        conversation.talk(for: 600, every: 0.1)
        #expect(conversation.lost == 0)
        #expect(conversation.a.machine.counters[.rekeysCompleted] >= 9)
        #expect(conversation.a.failures.isEmpty && conversation.b.failures.isEmpty)
        #expect(conversation.mostPairs <= 4)
    }

    @Test func `the old pair goes as soon as traffic has moved, and after a minute without any`() {
        let moved = Conversation()
        moved.rekey(moved.a)
        moved.talk(for: 10, traffic: true)
        #expect(moved.a.removals == [.rekeyed] && moved.b.removals == [.deletedByPeer])
        #expect(moved.lost == 0)
        let silent = Conversation()
        silent.rekey(silent.a)
        silent.net.run(for: .seconds(50))
        #expect(silent.a.removals.isEmpty)
        silent.net.run(for: .seconds(15))
        #expect(silent.a.removals == [.rekeyed] && silent.b.removals == [.deletedByPeer])
        #expect(silent.a.established.last?.rekeyOf == silent.a.established.first?.inboundSPI)
    }

    @Test(arguments: 0..<40) func `rekeys by both sides, many at the same moment, lose nothing and leave one pair`(seed: Int) {
        let conversation = Conversation(seed: UInt64(seed))
        let random = SeededRandom(UInt64(seed) &* 77)
        for round in 0..<25 {
            switch random.below(3) {
            case 0: conversation.rekey(conversation.a)
            case 1: conversation.rekey(conversation.b)
            default:
                conversation.rekey(conversation.a)
                // From at once to when the other's message 1 has come.
                if round % 2 == 0 { conversation.net.run(for: .milliseconds(Double(random.below(12)))) }
                conversation.rekey(conversation.b)
            }
            conversation.talk(for: 1)
        }
        conversation.talk(for: 70, every: 0.2)
        #expect(conversation.lost == 0, "\(conversation.lost) of \(conversation.sent)")
        #expect(conversation.a.machine.quickModes.count == 1 && conversation.b.machine.quickModes.count == 1)
        #expect(conversation.a.machine.quickModes.first?.inboundSPI == conversation.b.machine.quickModes.first?.outboundSPI)
        #expect(conversation.a.failures.isEmpty && conversation.b.failures.isEmpty)
    }

    @Test(arguments: 0..<200) func `with a third of IKE lost, both sides renewing, there is always a pair that both ends have`(seed: Int) {
        let conversation = Conversation(seed: UInt64(seed)) { $0.quickModeLifetime = .seconds(300) }
        let random = SeededRandom(UInt64(seed) &+ 5)
        conversation.net.fate = { _ in random.below(10) < 3 ? .lose : random.below(10) == 0 ? .duplicate : .deliver }
        for _ in 0..<6 {
            if random.below(2) == 0 { conversation.rekey(conversation.a) }
            if random.below(2) == 0 { conversation.rekey(conversation.b) }
            conversation.talk(for: 20, every: 0.1, traffic: true)
        }
        conversation.net.fate = { _ in .deliver }
        conversation.talk(for: 100, every: 0.2, traffic: true)
        // A delete that got lost leaves a pair until its time is over: bounded, and never in use alone.
        #expect(conversation.lost == 0, "\(conversation.lost) of \(conversation.sent)")
        #expect(conversation.mostPairs <= 12)
    }

    @Test func `a thousand collisions make no more than a handful of pairs`() {
        let conversation = Conversation()
        for _ in 0..<1000 {
            conversation.rekey(conversation.a)
            conversation.rekey(conversation.b)
            conversation.talk(for: 4, every: 0.5, traffic: true)
        }
        #expect(conversation.mostPairs <= 8, "\(conversation.mostPairs)")
        #expect(conversation.lost == 0)
    }

    @Test func `a peer that does not answer keeps its old pair until its end and is tried again`() {
        let conversation = Conversation { $0.quickModeLifetime = .seconds(200) }
        conversation.net.fate = { _ in .lose }
        conversation.rekey(conversation.a)
        conversation.talk(for: 120, every: 0.2)
        #expect(conversation.lost == 0)
        #expect(conversation.a.machine.counters[.rekeysFailed] >= 1)
        #expect(conversation.a.failures.isEmpty, "nobody asked for a negotiation")
        conversation.net.fate = { _ in .deliver }
        conversation.talk(for: 300, every: 0.2)
        #expect(conversation.lost == 0)
        #expect(conversation.a.machine.counters[.rekeysCompleted] >= 1)
    }

    @Test func `the ISAKMP SA is renewed before its end and its pairs live on at both ends`() {
        let conversation = Conversation { $0.mainModeLifetime = .seconds(100) }
        conversation.talk(for: 500, every: 0.2)
        #expect(conversation.lost == 0)
        #expect(conversation.a.removals.isEmpty && conversation.b.removals.isEmpty)
        #expect(conversation.a.machine.counters[.mainModesRekeyed] + conversation.b.machine.counters[.mainModesRekeyed] >= 4)
        #expect(conversation.a.machine.counters[.initialContacts] == 0 && conversation.b.machine.counters[.initialContacts] == 1)
        #expect(conversation.a.machine.mainModes.count <= 2)
    }

    @Test func `a peer that deletes the old pair before message 3 arrives finds the new one in use`() {
        let conversation = Conversation()
        var quickModes = 0
        // Message 3 of the rekey is lost for good; the delete that follows is not.
        conversation.net.fate = { packet in
            guard packet.from.address == conversation.a.address, packet.bytes.count > 18, packet.bytes[18] == 32 else { return .deliver }
            quickModes += 1
            return quickModes == 2 ? .lose : .deliver
        }
        conversation.rekey(conversation.a)
        conversation.net.run(for: .milliseconds(100))
        let old = conversation.a.established.first?.inboundSPI ?? 0
        conversation.net.apply(conversation.a, conversation.a.machine.hardExpired(spi: old, now: conversation.net.now))
        conversation.net.run(for: .milliseconds(100))
        #expect(conversation.net.sendData(conversation.b, conversation.a))
        #expect(conversation.net.sendData(conversation.a, conversation.b))
    }

    @Test func `limits of kilobytes renew at nine tenths and end at ten`() {
        let conversation = Conversation { $0.quickModeLifetimeKilobytes = 1000 }
        let (a, net) = (conversation.a, conversation.net)
        let spi = a.established.first?.inboundSPI ?? 0
        #expect(a.established.first?.lifetimeKilobytes == 1000)
        net.apply(a, a.machine.traffic([TrafficSample(inboundSPI: spi, inboundBytes: 800_000)], now: net.now))
        net.run(for: .seconds(1))
        #expect(a.machine.counters[.rekeysStarted] == 0)
        net.apply(a, a.machine.traffic([TrafficSample(inboundSPI: spi, inboundBytes: 930_000)], now: net.now))
        net.run(for: .seconds(1))
        #expect(a.machine.counters[.rekeysCompleted] == 1)
        net.apply(a, a.machine.traffic([TrafficSample(inboundSPI: spi, inboundBytes: 1_024_000)], now: net.now))
        #expect(a.removals == [.expired])
        #expect(net.bothWays(conversation.a, conversation.b))
    }

    @Test func `an adopted pair is renewed under a new ISAKMP SA without initial contact and without a gap`() {
        let conversation = Conversation()
        let (a, b, net) = (conversation.a, conversation.b, conversation.net)
        let known = a.machine.quickModes.map { $0 }
        // A daemon that was killed: the engine keeps its SAs, the machine is new.
        a.machine = KeyingMachine(configuration: testConfiguration(), random: SeededRandom(99))
        for mode in known {
            net.apply(
                a,
                a.machine.adopt(
                    AdoptedPair(
                        peer: mode.peer, inboundSPI: mode.inboundSPI, outboundSPI: mode.outboundSPI, suite: mode.suite,
                        encapsulation: mode.encapsulation, extendedSequenceNumbers: mode.extendedSequenceNumbers,
                        age: .seconds(1), remaining: .seconds(3000)), now: net.now))
        }
        conversation.talk(for: 20, traffic: true)
        #expect(conversation.lost == 0)
        #expect(a.machine.counters[.rekeysCompleted] == 1)
        #expect(b.machine.counters[.initialContacts] == 1, "the first negotiation's, and none since")
        #expect(a.removals == [.rekeyed] && b.removals == [.deletedByPeer])
    }
}

@Suite struct LivenessTests {
    private func report(_ host: SimulatedHost, _ net: SimulatedNetwork, inbound: UInt64, outbound: UInt64) {
        guard let spi = host.established.last?.inboundSPI else { return }
        net.apply(
            host,
            host.machine.traffic([TrafficSample(inboundSPI: spi, inboundPackets: inbound, outboundPackets: outbound)], now: net.now))
    }

    @Test func `a peer that is sent to and is silent is asked, and one that answers stays`() {
        let conversation = Conversation()
        let (a, b, net) = (conversation.a, conversation.b, conversation.net)
        for step in 0..<60 {
            report(a, net, inbound: 5, outbound: UInt64(step))
            net.run(for: .seconds(2))
        }
        #expect(a.machine.counters[.deadPeerProbesSent] >= 2)
        #expect(b.machine.counters[.deadPeerProbesReceived] == a.machine.counters[.deadPeerProbesSent])
        #expect(a.removals.isEmpty)
    }

    @Test func `a dead peer loses its SAs after some questions, and nobody is asked without traffic`() {
        let conversation = Conversation()
        let (a, net) = (conversation.a, conversation.net)
        net.fate = { _ in .lose }
        for _ in 0..<60 {
            report(a, net, inbound: 5, outbound: 9)
            net.run(for: .seconds(2))
        }
        #expect(a.machine.counters[.deadPeerProbesSent] == 0 && a.removals.isEmpty)
        for step in 0..<40 {
            report(a, net, inbound: 5, outbound: UInt64(10 + step))
            net.run(for: .seconds(2))
        }
        #expect(a.machine.counters[.deadPeerProbesSent] == 4)
        #expect(a.removals == [.deadPeer])
        #expect(a.machine.mainModes.isEmpty)
    }

    @Test func `a repeated question is a replay; one of another ISAKMP SA is refused`() throws {
        let conversation = Conversation()
        let (a, b, net) = (conversation.a, conversation.b, conversation.net)
        let mode = try #require(a.machine.mainModeRecords.values.first)
        let association = try #require(mode.association)
        func ask(_ sequence: UInt32, message: UInt32, cookies: [UInt8]) throws {
            var iv = try association.firstIV(messageID: message)
            let bytes = try association.seal(
                [
                    .notification(
                        .init(protocolID: 1, type: .rUThere, spi: cookies, data: [UInt8](u32: sequence)))
                ], seed: [UInt8](u32: message), exchange: .informational, messageID: message, iv: &iv)
            net.apply(b, b.machine.receive(bytes, local: mode.remote, remote: mode.local, now: net.now))
        }
        let before = b.sent.count
        try ask(100, message: 11, cookies: mode.cookies.bytes)
        #expect(b.sent.count == before + 1)
        try ask(100, message: 12, cookies: mode.cookies.bytes)
        try ask(99, message: 13, cookies: mode.cookies.bytes)
        #expect(b.sent.count == before + 1 && b.machine.counters[.replayedProbe] == 2)
        try ask(101, message: 14, cookies: [UInt8](repeating: 1, count: 16))
        #expect(b.sent.count == before + 1 && b.machine.counters[.unexpectedPayload] == 1)
        try ask(101, message: 15, cookies: mode.cookies.bytes)
        #expect(b.sent.count == before + 2)
    }
}
