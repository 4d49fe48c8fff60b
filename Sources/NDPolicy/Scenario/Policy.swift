import NDCore

/// A policy as the operator writes it: one scenario of Negotiation Discovery and its settings, or WFP's
/// objects themselves, or both. `expanded` turns it into the filters that Windows would hold.
public struct Policy: Hashable, Sendable {
    /// nil: the filters are all written out.
    public var scenario: Scenario?
    /// What is written in the full WFP form.
    public var objects = ExpandedPolicy()
    /// Protected interfaces by name or pattern; empty when the command line has to give them.
    public var interfaces: [String]
    public var exemptions: [Exemption]
    /// Whether the ICMP exemption filters exist.
    public var exemptsICMP: Bool
    /// Without a word of the operator only where clear packets would not pass anyway.
    public var exemptsDHCP: Bool
    /// Errors about secured connections are exempt as all ICMP is: the strict reading of WFP.
    public var exemptsICMPErrors = false
    public var keying: Keying
    public var preSharedKeys: [PreSharedKeyReference]
    public var discovery: Discovery
    public var engine: Engine
    public var metrics: Metrics
    public var tables = Tables()

    public init(
        scenario: Scenario?, interfaces: [String] = [], exemptions: [Exemption] = [],
        exemptsICMP: Bool = true, exemptsDHCP: Bool? = nil, keying: Keying = Keying(),
        preSharedKeys: [PreSharedKeyReference] = [], discovery: Discovery = Discovery(),
        engine: Engine = Engine(), metrics: Metrics = Metrics()
    ) {
        self.scenario = scenario
        self.interfaces = interfaces
        self.exemptions = exemptions
        self.exemptsICMP = exemptsICMP
        self.exemptsDHCP = exemptsDHCP ?? (scenario == .secure)
        self.keying = keying
        self.preSharedKeys = preSharedKeys
        self.discovery = discovery
        self.engine = engine
        self.metrics = metrics
    }

    /// What statuses and metrics call it.
    public var scenarioName: String { scenario?.rawValue ?? "filters" }

    /// The reference whose prefix is the longest that contains the address; nil when none does.
    public func preSharedKey(for remote: IPAddress) -> PreSharedKeyReference? {
        preSharedKeys.filter { $0.remote?.contains(remote) ?? true }
            .max { ($0.remote?.length ?? -1) < ($1.remote?.length ?? -1) }
    }
}

/// What a host promises about its traffic ([MS-FASP] secure-server, boundary, secure).
public enum Scenario: String, Hashable, Sendable, CaseIterable, Codable {
    /// Outbound clear at once and upgraded, new inbound flows protected (ND_SECURE).
    case negotiationDiscovery = "negotiation-discovery"
    /// The same, but clear inbound flows are tolerated (ND_BOUNDARY).
    case boundary
    /// Protection required both ways: outbound packets wait for an SA.
    case secure
}

/// Traffic that is left alone. Conditions of different kinds must all hold; ports of one list are
/// alternatives.
public struct Exemption: Hashable, Sendable {
    public enum Direction: String, Hashable, Sendable, CaseIterable {
        case both, outbound, inbound
    }

    public var remote: IPPrefix?
    public var local: IPPrefix?
    public var proto: UInt8?
    public var localPorts: [ClosedRange<UInt16>]
    public var remotePorts: [ClosedRange<UInt16>]
    public var direction: Direction

    public init(
        remote: IPPrefix? = nil, local: IPPrefix? = nil, proto: UInt8? = nil,
        localPorts: [ClosedRange<UInt16>] = [], remotePorts: [ClosedRange<UInt16>] = [],
        direction: Direction = .both
    ) {
        self.remote = remote
        self.local = local
        self.proto = proto
        self.localPorts = localPorts
        self.remotePorts = remotePorts
        self.direction = direction
    }
}

/// Which file holds the pre-shared key for which remote addresses. Never the key itself: a policy
/// file is shown, copied and kept in version control.
public struct PreSharedKeyReference: Hashable, Sendable {
    /// nil: any address.
    public var remote: IPPrefix?
    public var file: String

    public init(remote: IPPrefix?, file: String) {
        self.remote = remote
        self.file = file
    }
}

extension Policy {
    /// The peer machine's settings.
    public struct Discovery: Hashable, Sendable {
        public var negativeCacheFirst: Span = .seconds(60)
        public var negativeCacheFactor: Double = 2
        public var negativeCacheMost: Span = .seconds(3600)
        public var concurrent: Int = 64
        public var perSecond: Int = 20
        public var burst: Int = 50
        /// How long a peer over the budget stays clear before it may ask again.
        public var pause: Span = .seconds(2)
        /// ndAllowClearTimeout: how long clear packets in flight are accepted after an upgrade.
        public var clearGrace: Span = .seconds(10)

        public init() {}
    }

    public struct Engine: Hashable, Sendable {
        public enum Kind: String, Hashable, Sendable, CaseIterable { case auto, user, kernel }
        public enum Encapsulation: String, Hashable, Sendable, CaseIterable { case auto, udp, native }
        public enum AEAD: String, Hashable, Sendable, CaseIterable {
            case auto, openssl
            case ipsecMB = "ipsec-mb"
        }

        public var kind: Kind = .auto
        /// `auto`: in UDP for the user engine, which moves 64 KB a call that way; IP protocol 50 for the
        /// kernel's, unless there is a NAT.
        public var encapsulation: Encapsulation = .auto
        public var aead: AEAD = .auto

        public init() {}
    }

    /// Room in the tables; nil: by the host's memory. Read at load.
    public struct Tables: Hashable, Sendable {
        public var flows: UInt32?
        public var secured: UInt32?
        public var peers: UInt32?

        public init() {}
    }

    public struct Metrics: Hashable, Sendable {
        /// nil: no listener.
        public var listen: Endpoint?

        /// Loopback only, unless the operator says otherwise.
        public static let defaultListen = IPAddress("127.0.0.1").map { Endpoint($0, 9466) }

        public init(listen: Endpoint? = Metrics.defaultListen) { self.listen = listen }
    }
}
