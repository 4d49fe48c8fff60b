import CNDABI
import NDABI
import NDCore
import NDPolicy
import Testing

@testable import NDDatapath

@Suite("Never downgrade, in BPF")
struct BPFNeverDowngradeTests {
    @Test("Once secured, no packet of a connection leaves or enters in clear until it ended, whatever happens", arguments: [Rules.discovery, Rules.boundary, Rules.secure])
    func property(_ rules: [Rule]) throws {
        var random = Seeded(Seeded.chosen &+ 99)
        var (redirects, latched, graces) = (0, 0, 0)
        let bench = try Bench(rules)
        for round in 0..<Seeded.count("ND_SEQUENCES", 60) {
            try bench.forget()
            try bench.raiseEpoch()
            let family = random.pick(families)
            let talk = Talk(family)
            var secured = false
            var (finOut, finIn, reset) = (false, false, false)
            for step in 0..<120 {
                switch random.below(14) {
                case 0: try bench.secure(family)
                case 1: if bench.peer(family)?.state == .secured { try bench.lose(family) }
                case 2: if bench.peer(family)?.state == .negotiating { try bench.fail(family, clearFor: random.pick([-1, 1, 40])) }
                case 3: try bench.raiseEpoch()
                case 4:
                    // LRU eviction: who ended what is forgotten with the entry, the latch is not.
                    guard random.oneIn(3) else { continue }
                    bench.removeFlow(talk.key)
                    (finOut, finIn, reset) = (false, false, false)
                case 5: try bench.age(talk.key, by: random.pick([0.5, 3, 12]))
                default:
                    let flags: TCPFlags = random.pick([.syn, [.syn, .ack], .ack, .ack, .ack, .ack, [.fin, .ack], .rst])
                    let before = bench.flow(talk.key)
                    let hook = random.pick([Hook.egress, .egressL3, .ingress, .ingressL3] + (bench.peer(family)?.state == .secured ? [.decrypted, .decrypted] : []))
                    let outcome = try bench.run(hook, talk.tcp(flags, out: hook.isOutbound))
                    // A clear one that is dropped opens nothing, nor one that the grace of an upgrade lets in: the entry
                    // is none of its business.
                    let opens = hook.isOutbound || (outcome.passed != nil && outcome.passed != .inGrace)
                    if flags == .syn, opens, before == nil || reset || (finOut && finIn) {
                        secured = false
                        (finOut, finIn, reset) = (false, false, false)
                    }
                    let place: Comment = "seed \(Seeded.chosen) round \(round) step \(step) \(hook) \(flags) \(String(describing: before))"
                    switch outcome.passed {
                    case .outProtected, .inProtected:
                        redirects += 1
                        // What clear packets said of its end is forgotten.
                        if !secured { (finOut, finIn, reset) = (false, false, false) }
                        secured = true
                    case .inGrace: graces += 1
                    case nil:
                        if outcome.dropped == .latched { latched += 1 }
                    default: #expect(!secured, place)
                    }
                    if hook.isOutbound || outcome.passed == .inProtected || (!secured && outcome.passed == .inClear),
                        bench.flow(talk.key) != nil
                    {
                        if flags.contains(.fin) { if hook.isOutbound { finOut = true } else { finIn = true } }
                        if flags.contains(.rst) { reset = true }
                    }
                }
            }
        }
        #expect(redirects > 300 && latched > 100, "\(redirects) \(latched) \(graces)")
    }
}
