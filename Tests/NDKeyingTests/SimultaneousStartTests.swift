import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

@Suite struct SimultaneousStartTests {
    /// One run in which every choice (whose event comes next) is taken from `choices`; returns how
    /// many alternatives each step had.
    private func explore(seed: UInt64, choices: [Int]) -> (widths: [Int], SimulatedHost, SimulatedHost, SimulatedNetwork) {
        let (a, b, net) = pair(seed: seed)
        var widths: [Int] = []
        net.negotiate(a, b)
        var started = false
        while true {
            // First datagram of each direction: a path keeps its order.
            var events: [Int] = []
            for host in [a, b] {
                if let index = net.flying.firstIndex(where: { $0.from.address == host.address }) { events.append(index) }
            }
            if !started { events.append(-1) }
            guard !events.isEmpty else { break }
            let choice = widths.count < choices.count ? choices[widths.count] : 0
            widths.append(events.count)
            if events[choice] < 0 {
                started = true
                net.negotiate(b, a)
            } else {
                net.deliver(net.take(events[choice]))
            }
        }
        return (widths, a, b, net)
    }

    @Test(arguments: [1, 2, 3, 4])
    func `all interleavings of two starts end with working SAs and never fail`(seed: UInt64) {
        var choices: [Int] = []
        var runs = 0, single = 0, most = 0
        while true {
            let (widths, a, b, net) = explore(seed: seed, choices: choices)
            runs += 1
            net.run(for: .seconds(60))
            let first = a.established.count, second = b.established.count
            #expect(first >= 1 && second >= 1, "\(choices)")
            #expect(a.failures.isEmpty && b.failures.isEmpty, "\(choices)")
            #expect(net.bothWays(a, b), "\(choices)")
            #expect(a.machine.negotiations.isEmpty && b.machine.negotiations.isEmpty)
            #expect(a.machine.reservedSPIs.isEmpty && b.machine.reservedSPIs.isEmpty)
            most = max(most, a.installs, b.installs)
            if a.installs == 1, b.installs == 1 { single += 1 }
            // The next leaf of the tree.
            var next = Array((choices + [Int](repeating: 0, count: max(0, widths.count - choices.count))).prefix(widths.count))
            while let last = next.last, last + 1 >= widths[next.count - 1] { next.removeLast() }
            guard !next.isEmpty, runs < 5000 else { break }
            next[next.count - 1] += 1
            choices = next
        }
        print("seed \(seed): \(runs) interleavings, \(single) with one pair, at most \(most)")
        #expect(runs > 10 && most <= 2)
        #expect(single * 10 >= runs * 9)
    }

    @Test func `crossing starts give one main mode and one pair`() {
        for seed in 0..<40 {
            let (a, b, net) = pair(seed: UInt64(seed))
            net.negotiate(a, b)
            net.negotiate(b, a)
            net.run(for: .seconds(5))
            #expect(a.established.count == 1 && b.established.count == 1)
            #expect(a.machine.mainModes.count == 1 && b.machine.mainModes.count == 1)
            #expect(net.bothWays(a, b))
        }
    }

    @Test func `crossing quick modes under one main mode give one pair more`() {
        for seed in 0..<20 {
            let (a, b, net) = pair(seed: UInt64(seed))
            net.negotiate(a, b)
            net.run(for: .seconds(10))
            net.negotiate(a, b)
            net.negotiate(b, a)
            net.run(for: .seconds(5))
            #expect(a.installs == 2 && b.installs == 2)
            #expect(a.failures.isEmpty && b.failures.isEmpty && net.bothWays(a, b))
        }
    }

    @Test func `crossing starts survive the loss of any of the first messages`() {
        for mask in 0..<256 {
            let (a, b, net) = pair(seed: UInt64(mask))
            net.fate = { $0.number < 8 && mask >> $0.number & 1 == 1 ? .lose : .deliver }
            net.negotiate(a, b)
            net.negotiate(b, a)
            for _ in 0..<60 {
                net.run(for: .milliseconds(500))
                net.sendData(a, b)
                net.sendData(b, a)
            }
            #expect(a.established.count >= 1 && b.established.count >= 1, "\(mask)")
            #expect(a.failures.isEmpty && b.failures.isEmpty, "\(mask)")
            #expect(net.bothWays(a, b), "\(mask)")
        }
    }

    @Test func `crossing starts survive random loss and delay`() {
        var failures = 0
        for seed in 0..<200 {
            let random = SeededRandom(UInt64(seed))
            let (a, b, net) = pair(seed: UInt64(seed))
            net.fate = { _ in
                switch random.below(10) {
                case 0: .lose
                case 1: .duplicate
                case 2, 3: .delay(.milliseconds(Double(random.below(2500))))
                default: .deliver
                }
            }
            net.negotiate(a, b)
            net.run(for: .milliseconds(Double(random.below(60))))
            net.negotiate(b, a)
            for _ in 0..<160 {
                net.run(for: .milliseconds(500))
                net.sendData(a, b)
                net.sendData(b, a)
            }
            failures += a.failures.count + b.failures.count
            #expect(a.machine.negotiations.isEmpty && b.machine.negotiations.isEmpty)
            if a.failures.isEmpty, b.failures.isEmpty {
                #expect(net.bothWays(a, b), "seed \(seed)")
            }
        }
        #expect(failures < 5)
    }

    @Test func `a forged first message delays our start by one interval at most`() throws {
        let (a, b, net) = pair()
        let (c, _, other) = pair("10.0.0.2", "10.0.0.1", seed: 77)
        other.fate = { _ in .lose }
        net.apply(c, c.machine.negotiate(PeerKey(local: b.address, remote: a.address), now: net.now))
        let forged = c.sent[0].bytes
        _ = a.machine.receive(forged, local: Endpoint(a.address, 500), remote: Endpoint(b.address, 500), now: net.now)
        net.negotiate(a, b)
        net.run(for: .seconds(1.5))
        #expect(a.established.count == 1)
    }
}
