import CNDABI
import NDCore

/// A policy as BPF holds it: the filters of the layers that BPF serves, and times.
public struct CompiledPolicy: Hashable, Sendable {
    public var classifier: LinearClassifier
    /// A main-mode filter exists: the daemon's IKE ports are exempt.
    public var exemptsIKE: Bool
    public var ikePort: UInt16
    public var natTraversalPort: UInt16
    public var overheadV4: UInt16
    public var overheadV6: UInt16
    public var grace: Span
    public var idle: Span
    public var tcpIdle: Span
    public var askAgain: Span

    /// Non-TCP flows live 60 s ([MS-AIPS] §3.10.5.2).
    public static let defaultIdle = Span.seconds(60)
    /// Five days, as the kernel's own connection tracking keeps an established connection.
    public static let defaultTCPIdle = Span.seconds(5 * 24 * 3600)
    public static let defaultAskAgain = Span.seconds(10)

    public init(
        filters: [RangeFilter], exemptsIKE: Bool = true, ikePort: UInt16 = UInt16(ND_PORT_IKE),
        natTraversalPort: UInt16 = UInt16(ND_PORT_NATT), overheadV4: UInt16 = 0, overheadV6: UInt16 = 0,
        grace: Span = .seconds(10), idle: Span = Self.defaultIdle, tcpIdle: Span = Self.defaultTCPIdle,
        askAgain: Span = Self.defaultAskAgain
    ) {
        classifier = LinearClassifier(filters)
        self.exemptsIKE = exemptsIKE
        self.ikePort = ikePort
        self.natTraversalPort = natTraversalPort
        self.overheadV4 = overheadV4
        self.overheadV6 = overheadV6
        self.grace = grace
        self.idle = idle
        self.tcpIdle = tcpIdle
        self.askAgain = askAgain
    }

    public var filters: [RangeFilter] {
        get { classifier.filters }
        set { classifier = LinearClassifier(newValue) }
    }

    /// What the layer's filters say of a packet; nil: none has a say.
    public func decide(
        _ layer: DatapathLayer, _ packet: Packet, interface: UInt32 = 0, flags: PacketFlags = []
    ) -> FilterDecision? {
        classifier.decide(
            layer, packet.family, FieldValues(packet, layer, packet.family, interface: interface, flags: flags))
    }
}

extension Policy {
    /// Expands and compiles.
    public func compiled() throws(NDError) -> CompiledPolicy {
        let expanded = expanded
        var policy = CompiledPolicy(filters: try expanded.rules().rangeFilters)
        policy.exemptsIKE = expanded.filters.contains { $0.layer.kind == .ikeext }
        let overhead = UInt16(clamping: espOverhead)
        policy.overheadV4 = overhead
        policy.overheadV6 = overhead
        policy.grace = discovery.clearGrace
        return policy
    }

    /// What ESP adds to a packet at most with any suite that may be negotiated, UDP encapsulation
    /// (RFC 3948: 8 bytes) included.
    public var espOverhead: Int {
        (keying.quickMode.map(\.overhead).max() ?? 0) + (engine.encapsulation == .native ? 0 : 8)
    }
}

extension ExpandedPolicy {
    /// A list of ports counts once for each, and the numbers of several lists are multiplied.
    static let mostRules = 4 * Int(ND_TABLE_FILTERS)

    /// The rules of the layers that BPF serves.
    public func rules() throws(NDError) -> [Rule] {
        var result: [Rule] = []
        for layer in DatapathLayer.all {
            let filters = filters.filter { $0.layer.datapathLayer == layer }.sorted { $0.isAsked(before: $1) }
            var index = 0
            while index < filters.count {
                let filter = filters[index]
                let twins = index + 1 < filters.count && filter.isTwin(of: filters[index + 1])
                index += twins ? 2 : 1
                let made = try filter.rules(layer, forBothFamilies: twins, room: Self.mostRules - result.count)
                result += made
            }
        }
        return result
    }
}

extension Filter {
    /// The same filter for the other family, added with it.
    func isTwin(of other: Filter) -> Bool {
        layer.kind == other.layer.kind && layer.family == .v4 && other.layer.family == .v6
            && other.id == id &+ 1 && sublayer == other.sublayer && weight == other.weight
            && conditions == other.conditions && action == other.action && providerContext == other.providerContext
    }

    /// One rule for every combination of alternatives.
    func rules(_ layer: DatapathLayer, forBothFamilies: Bool, room: Int) throws(NDError) -> [Rule] {
        let groups = conditionGroups
        let count = groups.reduce(1) { $0 > room ? $0 : $0 * $1.conditions.count }
        guard count <= room else {
            throw NDError(
                "policy.too-many-rules",
                "the policy needs more than \(ExpandedPolicy.mostRules) rules; filter \(id) \"\(name)\" doesn't fit",
                hint: "use wider prefixes and port ranges, or fewer exemptions (each counts once a layer and port)")
        }
        var seed = Rule(
            id: id, layer: layer, action: try ruleAction, context: providerContext?.id ?? 0,
            family: forBothFamilies ? nil : self.layer.family)
        if case .permit = action { seed.context = 0 }
        var result = [seed]
        for group in groups {
            result = result.flatMap { rule in group.conditions.map { rule.adding($0) } }
        }
        return result
    }

    private var ruleAction: RuleAction {
        get throws(NDError) {
            switch action {
            case .permit: return .permit
            case .block: return .block
            case .callout(.outboundTransport, .outboundNegotiateDiscover): return .negotiateDiscover
            case .callout(.outboundTransport, .none): return .requireOutbound
            case .callout(.inboundTransport, _): return .persistSecurity
            case .callout(.inboundInitiateSecure, _): return .initiateSecure
            case .callout(let callout, let context):
                throw NDError(
                    "policy.unsupported",
                    "filter \(id): \(callout.rawValue) with raw context \(hex(context.value, 1)) is not supported",
                    hint: "use OUTBOUND_NEGOTIATE_DISCOVER or none")
            }
        }
    }
}

extension Rule {
    fileprivate func adding(_ condition: Condition) -> Rule {
        var rule = self
        switch condition {
        // TC passes everything else before it asks a rule (DESIGN §3, rows 1).
        case .localAddressIsUnicast: break
        case .proto(let number): rule.proto = number
        case .localAddress(let prefix): rule.local = prefix
        case .remoteAddress(let prefix): rule.remote = prefix
        case .localPort(let range): rule.localPort = range
        case .remotePort(let range): rule.remotePort = range
        case .icmpType(let range): rule.icmpType = range
        case .icmpCode(let range): rule.icmpCode = range
        }
        return rule
    }
}
