import NDCore
import NDPolicy
import Testing

@Suite("Never downgrade")
struct NeverDowngradeTests {
    /// Whether the connection is secured, kept beside the tables: from the first protected packet
    /// until the connection ends and a new one opens, or the protocol's idle time passes.
    struct Witness {
        var secured = false
        var finOut = false
        var finIn = false
        var reset = false
        var ended: Bool { reset || (finOut && finIn) }
    }

    @Test("Once secured, no packet of a connection leaves or enters in clear until it ended, whatever happens", arguments: Scenario.allCases)
    func property(_ scenario: Scenario) throws {
        var redirects = 0
        var latched = 0
        for seed in 1...400 {
            var random = Seeded(UInt64(seed) &* 7919)
            var world = try World(scenario)
            var witness = Witness()
            var wasSecuredPeer = false
            for step in 0..<150 {
                world.wait([0.001, 0.1, 1, 12].randomElement(using: &random) ?? 1)
                switch Int.random(in: 0..<12, using: &random) {
                case 0:
                    world.secured()
                    wasSecuredPeer = true
                    continue
                case 1:
                    if world.peer?.state == .secured { world.lost() }
                    continue
                case 2:
                    if world.peer?.state == .negotiating {
                        world.failed(clearFor: .random(in: 1...40, using: &random))
                    }
                    continue
                case 3:
                    // LRU eviction. A lost entry may cost packets, never protection.
                    if Int.random(in: 0..<4, using: &random) == 0 {
                        world.flow = nil
                        witness = Witness(secured: witness.secured)
                    }
                    continue
                default:
                    break
                }
                let flags: TCPFlags =
                    [.syn, [.syn, .ack], .ack, .ack, .ack, [.fin, .ack], .rst].randomElement(using: &random) ?? .ack
                let packet = World.tcp(flags)
                // A SYN opens a new connection on the 5-tuple: when the old one ended, or when its
                // entry is gone and nobody can know better (DESIGN §3).
                let opens = flags == .syn && (witness.ended || world.flow == nil)
                let decision: Decision
                let outbound: Bool
                switch Int.random(in: 0..<3, using: &random) {
                case 0:
                    outbound = true
                    decision = world.out(packet)
                case 1 where world.peer?.securedAt != nil && wasSecuredPeer:
                    outbound = false
                    decision = world.decrypted(packet)
                default:
                    outbound = false
                    decision = world.in(packet)
                }
                // A clear one that is dropped opens nothing.
                if opens, outbound || { if case .pass = decision.verdict { true } else { false } }() { witness = Witness() }
                switch decision.verdict {
                case .redirect, .pass(.inProtected):
                    redirects += 1
                    // What clear packets said of its end before is forgotten.
                    if !witness.secured { witness = Witness(secured: true) }
                case .pass(.outClear), .pass(.outExempt), .pass(.outForwarded), .pass(.outNotUnicast):
                    #expect(!witness.secured, "\(scenario) seed \(seed) step \(step): \(flags) left in clear")
                case .pass(.inClear), .pass(.inExempt), .pass(.inGrace):
                    #expect(
                        !witness.secured || decision.row == .grace,
                        "\(scenario) seed \(seed) step \(step): \(flags) entered in clear")
                default:
                    if decision.verdict == .wait(.latched) { latched += 1 }
                }
                // Only what this host sends or authenticated ends a connection that was secured.
                let counts = outbound || decision.verdict == .pass(.inProtected) || (!witness.secured && decision.verdict == .pass(.inClear))
                if counts, world.flow != nil {
                    if flags.contains(.fin) { outbound ? (witness.finOut = true) : (witness.finIn = true) }
                    if flags.contains(.rst) { witness.reset = true }
                }
            }
        }
        #expect(redirects > 1000)
        #expect(scenario == .secure || latched > 1000)
    }

    @Test("Datagram flows stay latched while they send and ten minutes after; without an entry for the idle time")
    func datagrams() throws {
        var world = try World(.boundary)
        world.secured()
        #expect(world.out(World.udp()).verdict == .redirect)
        world.lost()
        for _ in 0..<40 {
            world.wait(60)
            #expect(world.out(World.udp()).verdict == .wait(.latched))
            #expect(world.in(World.udp()).verdict == .drop(.clearOnSecured))
        }
        world.wait(600)
        #expect(world.out(World.udp()).verdict == .wait(.latched))
        world.wait(600.1)
        #expect(world.out(World.udp()).verdict == .pass(.outClear))

        world = try World(.boundary)
        world.secured()
        _ = world.out(World.udp())
        world.lost()
        world.flow = nil
        world.wait(59)
        #expect(world.out(World.udp()).verdict == .wait(.latched))
        #expect(world.in(World.udp()).verdict == .drop(.clearOnSecured))
        world.wait(2)
        #expect(world.out(World.udp()).verdict == .pass(.outClear))
    }
}
