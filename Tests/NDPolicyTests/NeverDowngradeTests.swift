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
                if opens { witness = Witness() }
                switch decision.verdict {
                case .redirect, .pass(.inProtected):
                    redirects += 1
                    witness.secured = true
                case .pass(.outClear), .pass(.outExempt):
                    #expect(!witness.secured, "\(scenario) seed \(seed) step \(step): \(flags) left in clear")
                case .pass(.inClear), .pass(.inExempt):
                    #expect(
                        !witness.secured || decision.row == .grace,
                        "\(scenario) seed \(seed) step \(step): \(flags) entered in clear")
                case .pass(.outProtected), .drop(_):
                    if decision.verdict == .drop(.latched) { latched += 1 }
                }
                let counts = outbound || { if case .drop = decision.verdict { false } else { true } }()
                if counts, world.flow != nil {
                    if flags.contains(.fin) { outbound ? (witness.finOut = true) : (witness.finIn = true) }
                    if flags.contains(.rst) { witness.reset = true }
                }
            }
        }
        #expect(redirects > 1000)
        #expect(scenario == .secure || latched > 1000)
    }

    @Test("Datagram flows stay latched for their idle time, with and without a flow entry")
    func datagrams() throws {
        for evicted in [false, true] {
            var world = try World(.boundary)
            world.secured()
            #expect(world.out(World.udp()).verdict == .redirect)
            world.lost()
            if evicted { world.flow = nil }
            for _ in 0..<59 {
                world.wait(1)
                #expect(world.out(World.udp()).verdict == .drop(.latched))
                #expect(world.in(World.udp()).verdict != .pass(.inClear))
            }
            // Drops don't keep the entry alive: the application's silence towards the wire ends it.
            world.wait(2)
            #expect(world.out(World.udp()).verdict == .pass(.outClear))
        }
    }
}
