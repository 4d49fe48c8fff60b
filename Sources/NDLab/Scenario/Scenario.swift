import NDCore
import NDPolicy

/// What a scenario file says: hosts on one wire, what they do, and what must be seen on the wire.
public struct Scenario: Sendable {
    /// Its place in the demo.
    public struct Chapter: Sendable, Hashable {
        public var number: Int
        public var heading: String
    }

    /// The file's name without its extension.
    public var name: String
    public var title: String
    public var chapter: Chapter?
    public var cases: [Case]

    /// One set of variables: its own lab, in which the families take their turns.
    public struct Case: Sendable {
        /// Empty when the file has one case only.
        public var name: String
        public var mtu: Int
        public var nat: Lab.NAT?
        public var hosts: [HostPlan]
        public var runs: [Run]
    }

    public struct Run: Sendable {
        public var family: Lab.Family
        public var steps: [Step]
    }

    public struct HostPlan: Sendable, Hashable {
        public var name: String
        /// nil: a plain host.
        public var ndbpf: LabPolicy?
        /// For `ndbpf run`.
        public var arguments: [String] = []
        /// Shell commands in the host, before its daemon starts.
        public var prepare: [String] = []
        /// TCP and UDP echo and the checking sink.
        public var serves = false
        /// UDP ports that swallow what comes: no answer, and no ICMP error either.
        public var swallows: [UInt16] = []
    }
}

/// Where scenarios run and with what.
public struct RunConditions: Sendable, Hashable {
    public enum Engine: String, Sendable, CaseIterable { case auto, kernel, user }

    public var engine: Engine
    /// An emulated machine: limits may be stretched by a file's guest-factor, and its guest variables count.
    public var guest: Bool
    /// Stronger than the file's.
    public var variables: [String: String]

    public init(engine: Engine = .auto, guest: Bool = false, variables: [String: String] = [:]) {
        self.engine = engine
        self.guest = guest
        self.variables = variables
    }
}

/// The policies of the lab's hosts.
public struct LabPolicy: Sendable, Hashable {
    public var scenario = "negotiation-discovery"
    public var negativeCache = "60s"
    public var engine = "user"
    public var encapsulation = "udp"
    public var tries = 3
    public var clearGrace = "10s"
    public var metrics = "\"0.0.0.0:9466\""
    /// More of the policy, at its top level.
    public var extra = ""
    /// Not nil: the policy is in the full WFP form, without the filter of this name, "exempt icmp
    /// INBOUND_TRANSPORT_V4"; `LabPolicy.nothing` leaves none out.
    public var without: String?

    public static let nothing = "nothing"

    public init() {}

    public func text(key: String) throws -> String {
        guard let without else { return scenarioText(key: key) }
        var policy = try Policy.parse(scenarioText(key: key), file: "policy.yaml")
        var objects = policy.expanded
        if without != Self.nothing {
            let names = objects.filters.map { "\($0.name) \($0.layer.shortName)" }
            guard let at = names.firstIndex(of: without) else {
                throw NDError(
                    "scenario.filter", "the policy has no filter '\(without)'",
                    hint: "\(Self.nothing), or one of: \(names.joined(separator: ", "))")
            }
            objects.filters.remove(at: at)
        }
        objects.scenario = nil
        policy.scenario = nil
        policy.objects = objects
        return policy.wfpText
    }

    func scenarioText(key: String) -> String {
        """
        version: 1
        scenario: \(scenario)
        interfaces: [eth0]
        keying:
          retransmission: { first: 500ms, tries: \(tries) }
        authentication:
          pre-shared-keys:
            - { remote: any, file: \(key) }
        discovery:
          negative-cache: { first: \(negativeCache), factor: 2, most: 1h }
          clear-grace: \(clearGrace)
        engine: { kind: \(engine), encapsulation: \(encapsulation) }
        metrics: { listen: \(metrics) }
        \(extra)
        """
    }
}
