import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

@Suite struct SimultaneousStartTests {
    struct Scenario: Sendable, CustomTestStringConvertible {
        var seed: UInt64
        /// Both hosts already share an ISAKMP SA.
        var mainMode: Bool
        /// How often time may pass a retransmission in the midst of it.
        var pauses: Int
        var testDescription: String { "seed \(seed), main mode \(mainMode), \(pauses) pauses" }
    }

    static let scenarios = (1...8).flatMap { seed in
        [false, true].flatMap { mode in [0, 1, 3].map { Scenario(seed: seed, mainMode: mode, pauses: $0) } }
    }

    private enum Step { case start, pause, deliver(Int) }

    /// One run in which every choice (what happens next) is taken from `choices`; returns how many
    /// alternatives each step had. Any datagram in flight may be the next to arrive.
    private func explore(
        _ scenario: Scenario, choices: [Int]
    ) -> (widths: [Int], SimulatedHost, SimulatedHost, SimulatedNetwork) {
        let (a, b, net) = pair(seed: scenario.seed)
        if scenario.mainMode {
            net.negotiate(a, b)
            net.run(for: .seconds(5))
        }
        var widths: [Int] = []
        var started = false
        var pauses = scenario.pauses
        net.negotiate(a, b)
        while true {
            var steps: [Step] = net.flying.indices.prefix(3).map { .deliver($0) }
            if !started { steps.append(.start) }
            guard !steps.isEmpty else { break }
            if pauses > 0 { steps.append(.pause) }
            let choice = (widths.count < choices.count ? choices[widths.count] : 0) % steps.count
            widths.append(steps.count)
            switch steps[choice] {
            case .start:
                started = true
                net.negotiate(b, a)
            case .pause:
                pauses -= 1
                net.pause(.milliseconds(1100))
            case .deliver(let index): net.deliver(net.take(index))
            }
        }
        return (widths, a, b, net)
    }

    @Test(arguments: scenarios)
    func `all interleavings of two starts end with working SAs and never fail`(scenario: Scenario) {
        let random = SeededRandom(scenario.seed)
        var choices: [Int] = []
        var runs = 0, fewest = 0, most = 0
        let before = scenario.mainMode ? 1 : 0
        while true {
            let (widths, a, b, net) = explore(scenario, choices: choices)
            runs += 1
            for _ in 0..<8 {
                net.run(for: .milliseconds(500))
                net.sendData(a, b)
                net.sendData(b, a)
            }
            net.run(for: .seconds(60))
            #expect(a.established.count > before && b.established.count > before, "\(choices)")
            #expect(a.failures.isEmpty && b.failures.isEmpty, "\(choices)")
            #expect(net.bothWays(a, b), "\(choices)")
            #expect(a.machine.negotiations.isEmpty && b.machine.negotiations.isEmpty, "\(choices)")
            #expect(a.machine.reservedSPIs.isEmpty && b.machine.reservedSPIs.isEmpty, "\(choices)")
            most = max(most, a.installs - before, b.installs - before)
            if a.installs == before + 1, b.installs == before + 1 { fewest += 1 }
            if scenario.pauses > 0 {
                // With time passing the tree is too large: walk it at random.
                guard runs < 300 else { break }
                choices = (0..<60).map { _ in random.below(12) }
                continue
            }
            // The next leaf of the tree.
            var next = Array(
                (choices + [Int](repeating: 0, count: max(0, widths.count - choices.count))).prefix(widths.count))
            while let last = next.last, last + 1 >= widths[next.count - 1] { next.removeLast() }
            guard !next.isEmpty, runs < 1500 else { break }
            next[next.count - 1] += 1
            choices = next
        }
        // Tries that were given up while nothing arrived leave an unconfirmed pair behind.
        #expect(most <= (scenario.pauses < 3 ? 2 : 3))
        #expect(fewest > 0)
        if scenario.pauses == 0, !scenario.mainMode { #expect(fewest * 10 >= runs * 9) }
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
