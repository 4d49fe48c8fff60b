import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

@Suite struct LossTests {
    /// The initiator has traffic: after its outbound SA is live it sends every half second.
    private func settle(_ net: SimulatedNetwork, _ a: SimulatedHost, _ b: SimulatedHost, seconds: Int) {
        for _ in 0..<(seconds * 2) {
            net.run(for: .milliseconds(500))
            net.sendData(a, b)
            net.sendData(b, a)
        }
    }

    @Test(arguments: 0..<9)
    func `the loss of any single message delays but does not prevent`(lost: Int) {
        let (a, b, net) = pair(seed: UInt64(lost))
        net.fate = { $0.number == lost ? .lose : .deliver }
        net.negotiate(a, b)
        settle(net, a, b, seconds: 4)
        #expect(a.established.count == 1 && b.established.count == 1)
        #expect(a.failures.isEmpty && a.removals.isEmpty && b.removals.isEmpty)
        #expect(net.bothWays(a, b))
        // Message 3 of quick mode is made up for by the first packet.
        #expect(a.machine.counters[.retransmissionsSent] == (lost == 8 ? 0 : 1))
    }

    @Test(arguments: 0..<9)
    func `a duplicated message is answered again at most and changes nothing`(number: Int) {
        let (a, b, net) = pair(seed: UInt64(number))
        net.fate = { $0.number == number ? .duplicate : .deliver }
        net.negotiate(a, b)
        settle(net, a, b, seconds: 3)
        #expect(a.established.count == 1 && b.established.count == 1)
        #expect(a.installs == 1 && b.installs == 1 && a.failures.isEmpty)
        #expect(net.bothWays(a, b))
        #expect(a.machine.counters.dropped.allSatisfy { $0.value == 0 })
    }

    @Test func `everything duplicated still gives one pair`() {
        let (a, b, net) = pair()
        net.fate = { _ in .duplicate }
        net.negotiate(a, b)
        settle(net, a, b, seconds: 3)
        #expect(a.installs == 1 && b.installs == 1)
        #expect(net.bothWays(a, b))
        #expect(net.sentCount < 40)
    }

    @Test(arguments: 0..<9)
    func `a late message is taken for what it is`(number: Int) {
        for seconds in [0.5, 1.005, 2.0, 5.0] {
            let (a, b, net) = pair(seed: UInt64(number))
            net.fate = { $0.number == number ? .delay(.seconds(seconds)) : .deliver }
            net.negotiate(a, b)
            settle(net, a, b, seconds: 10)
            #expect(a.established.count == 1 && b.established.count == 1)
            #expect(a.failures.isEmpty && net.bothWays(a, b))
        }
    }

    @Test func `random loss, duplication and delay end with working SAs or an honest failure`() {
        var succeeded = 0
        for seed in 0..<300 {
            let random = SeededRandom(UInt64(seed))
            let (a, b, net) = pair(seed: UInt64(seed)) { $0.forceUDPEncapsulation = seed % 2 == 0 }
            net.fate = { _ in
                switch random.below(10) {
                case 0, 1: .lose
                case 2: .duplicate
                case 3: .delay(.milliseconds(Double(random.below(3000))))
                default: .deliver
                }
            }
            net.negotiate(a, b)
            settle(net, a, b, seconds: 70)
            #expect(a.established.count + a.failures.count == 1)
            if a.established.count == 1 {
                succeeded += 1
                #expect(net.bothWays(a, b), "seed \(seed)")
            }
        }
        #expect(succeeded > 290)
    }

    @Test func `an initiator that never uses its pair loses it on both sides`() {
        let (a, b, net) = pair()
        net.fate = { $0.number == 8 ? .lose : .deliver }
        net.negotiate(a, b)
        net.run(for: .seconds(40))
        #expect(b.established.isEmpty && b.removals == [.unconfirmed])
        #expect(a.established.count == 1 && a.removals == [.deletedByPeer])
    }

    @Test func `a responder repeats its answer only when asked`() {
        let (a, b, net) = pair()
        net.fate = { $0.number >= 2 ? .lose : .deliver }
        net.negotiate(a, b)
        net.run(for: .seconds(60))
        #expect(b.sent.count == 1)
        #expect(a.failures == [.timedOut])
        #expect(b.machine.mainModes.isEmpty)
        #expect(b.machine.counters[.halfOpenExpired] == 1)
    }

    @Test func `answers to one request are bounded`() {
        let (a, b, net) = pair()
        net.fate = { _ in .lose }
        net.negotiate(a, b)
        for _ in 0..<1000 {
            net.apply(
                b,
                b.machine.receive(
                    a.sent[0].bytes, local: Endpoint(b.address, 500), remote: Endpoint(a.address, 500), now: net.now))
        }
        #expect(b.sent.count == 17)
        #expect(b.machine.mainModes.count == 1)
    }
}
