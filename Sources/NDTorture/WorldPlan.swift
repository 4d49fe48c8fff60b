import NDLab

/// Two hosts' policies and how they are loaded. A world of one plan is kept over the trials of one chunk of seeds.
struct WorldPlan: Sendable, Hashable, CustomStringConvertible {
    /// Seeds that have their world in common.
    static let seedsOfOne: UInt64 = 25

    /// Of alpha and beta.
    var scenarios: [String]
    var encapsulation: String
    var clsact: Bool
    /// The flow table holds 1,024 only, so that a flood evicts.
    var small: Bool
    /// Seconds.
    var lifetime: Int
    var graceMilliseconds: Int
    var protectsICMP: Bool

    /// Of the chunk that the seed belongs to.
    init(seed: UInt64, engine: String) {
        var dice = Dice(seed / Self.seedsOfOne &* 0x1_0000_01b3 ^ 0x77)
        let (nd, boundary, secure) = ("negotiation-discovery", "boundary", "secure")
        scenarios = dice.pick([
            [nd, nd], [nd, nd], [nd, boundary], [boundary, nd], [boundary, boundary], [secure, nd], [nd, secure], [secure, secure],
        ])
        encapsulation = engine == "user" ? dice.pick(["udp", "udp", "native"]) : dice.pick(["native", "native", "udp"])
        clsact = dice.oneIn(3)
        small = dice.oneIn(2)
        lifetime = dice.pick([10, 12, 30])
        graceMilliseconds = dice.pick([500, 500, 10_000])
        protectsICMP = dice.oneIn(4)
    }

    /// The port that floods go to.
    static let exemptPort: UInt16 = 7777

    func policy(_ index: Int, key: String, engine: String, more: String = "") -> String {
        """
        version: 1
        scenario: \(scenarios[index])
        interfaces: [eth0]
        \(protectsICMP ? "icmp: protect" : "icmp: exempt")
        exempt:
          - { protocol: tcp, local-port: \(Self.exemptPort), direction: both }
          - { protocol: udp, local-port: \(Self.exemptPort), direction: both }
        \(more.isEmpty ? "" : "  - \(more)")
        keying:
          retransmission: { first: 300ms, tries: 4 }
          quick-mode: { lifetime: \(lifetime)s }
        authentication:
          pre-shared-keys:
            - { remote: any, file: \(key) }
        discovery:
          negative-cache: { first: 1s, factor: 1, most: 1s }
          clear-grace: \(graceMilliseconds)ms
        engine: { kind: \(engine), encapsulation: \(encapsulation) }
        metrics: { listen: none }

        """
    }

    var arguments: [String] { (clsact ? ["--clsact"] : []) + (small ? ["--flows", "1024"] : []) }

    var description: String {
        "\(scenarios.joined(separator: "/")), ESP \(encapsulation), \(clsact ? "clsact" : "tcx"), \(small ? "1,024 flows" : "usual table"), SAs of \(lifetime) s, grace \(graceMilliseconds) ms\(protectsICMP ? ", ICMP protected" : "")"
    }
}
