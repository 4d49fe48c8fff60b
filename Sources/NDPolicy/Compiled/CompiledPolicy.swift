import CNDABI
import NDCore

/// A policy as BPF holds it: rules in the order they are asked, and times.
public struct CompiledPolicy: Hashable, Sendable {
    /// Grouped by layer, ordered inside a layer.
    public var rules: [Rule]
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

    public static let mostRules = Int(ND_MAX_RULES)

    /// Non-TCP flows live 60 s ([MS-AIPS] §3.10.5.2).
    public static let defaultIdle = Span.seconds(60)
    /// Five days, as the kernel's own connection tracking keeps an established connection.
    public static let defaultTCPIdle = Span.seconds(5 * 24 * 3600)
    public static let defaultAskAgain = Span.seconds(10)

    public init(
        rules: [Rule], exemptsIKE: Bool = true, ikePort: UInt16 = UInt16(ND_PORT_IKE),
        natTraversalPort: UInt16 = UInt16(ND_PORT_NATT), overheadV4: UInt16 = 0, overheadV6: UInt16 = 0,
        grace: Span = .seconds(10), idle: Span = Self.defaultIdle, tcpIdle: Span = Self.defaultTCPIdle,
        askAgain: Span = Self.defaultAskAgain
    ) {
        self.rules = rules
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

    public func rules(_ layer: DatapathLayer) -> [Rule] { rules.filter { $0.layer == layer } }

    /// The first rule of the layer that matches; nil: none.
    public func decidingRule(_ layer: DatapathLayer, _ packet: Packet) -> Rule? {
        rules.first { $0.layer == layer && $0.matches(packet) }
    }
}

extension Policy {
    /// Expands and compiles.
    public func compiled() throws(NDError) -> CompiledPolicy {
        let expanded = expanded
        var policy = CompiledPolicy(rules: try expanded.rules())
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
    /// The rules of the layers that BPF serves.
    public func rules() throws(NDError) -> [Rule] {
        // What the rules can't say is refused in the words of the form that can.
        _ = try rangeFilters { _ in 1 }
        var result: [Rule] = []
        for layer in DatapathLayer.all {
            let asked = IPFamily.allCases.flatMap { family in
                Layer.Kind.allCases.filter { Layer($0, family).datapathLayer == layer }
                    .flatMap { filters(at: Layer($0, family)) }
            }
            let sorted = asked.sorted { a, b in
                guard let first = a.sublayer, let second = b.sublayer, first == second else {
                    return a.sublayer.map { one in b.sublayer.map { one.isAsked(before: $0) } ?? true } ?? false
                }
                let weights = (a.filter.effectiveWeight, b.filter.effectiveWeight)
                return weights.0 != weights.1 ? weights.0 > weights.1 : a.filter.id < b.filter.id
            }.map(\.filter)
            var index = 0
            while index < sorted.count {
                let filter = sorted[index]
                let twins = index + 1 < sorted.count && filter.isTwin(of: sorted[index + 1])
                index += twins ? 2 : 1
                result += try filter.rules(layer, forBothFamilies: twins, room: CompiledPolicy.mostRules - result.count)
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
            && conditions == other.conditions && (try? ruleAction) == (try? other.ruleAction)
            && context == other.context && !isHard && !other.isHard
    }

    /// One rule for every combination of alternatives.
    func rules(_ layer: DatapathLayer, forBothFamilies: Bool, room: Int) throws(NDError) -> [Rule] {
        let groups = conditionGroups
        let count = groups.reduce(1) { $0.multipliedReportingOverflow(by: $1.conditions.count).partialValue }
        guard count <= room else {
            throw NDError(
                "policy.too-many-rules",
                "the policy needs more than \(CompiledPolicy.mostRules) rules; filter \(id) \"\(name)\" doesn't fit",
                hint: "use wider prefixes and port ranges, or fewer exemptions (each counts once a layer and port)")
        }
        guard flags.isEmpty else { throw unsupported("a hard action is not supported", "leave out CLEAR_ACTION_RIGHT") }
        var result = [
            Rule(
                id: id, layer: layer, action: try ruleAction, context: 0,
                family: forBothFamilies ? nil : self.layer.family)
        ]
        for group in groups {
            var next: [Rule] = []
            for rule in result {
                for condition in group.conditions {
                    guard let made = rule.adding(condition) else {
                        throw unsupported(
                            "\(condition.text) is not supported", "a rule tests protocol, addresses, ports and ICMP type")
                    }
                    next.append(made)
                }
            }
            result = next
        }
        return result
    }
}

extension Rule {
    /// nil: a rule has no such test.
    fileprivate func adding(_ condition: Condition) -> Rule? {
        var rule = self
        func range<T: FixedWidthInteger & UnsignedInteger>(_ most: T) -> ClosedRange<T>? {
            let found = condition.values(.v4, width: T.bitWidth) { _ in nil }.ranges
            guard found.count == 1, let low = found.first.flatMap({ T(exactly: $0.lowerBound) }),
                let high = found.first.flatMap({ T(exactly: $0.upperBound) })
            else { return nil }
            return low...high
        }
        func prefix() -> IPPrefix? {
            switch (condition.match, condition.value) {
            case (.equal, .address(let address)): IPPrefix(address, length: address.isIPv4 ? 32 : 128)
            case (.prefix, .prefix(let prefix)): prefix
            default: nil
            }
        }
        switch condition.field {
        // TC passes everything else before it asks a rule (DESIGN §3, rows 1).
        case .localAddressType: return condition == .localAddressIsUnicast ? rule : nil
        case .proto:
            guard let one = range(UInt8.max), one.count == 1 else { return nil }
            rule.proto = one.lowerBound
        case .localAddress:
            guard let prefix = prefix() else { return nil }
            rule.local = prefix
        case .remoteAddress:
            guard let prefix = prefix() else { return nil }
            rule.remote = prefix
        case .localPort:
            guard let range = range(UInt16.max) else { return nil }
            rule.localPort = range
        case .remotePort:
            guard let range = range(UInt16.max) else { return nil }
            rule.remotePort = range
        case .icmpType:
            guard let range = range(UInt8.max) else { return nil }
            rule.icmpType = range
        case .icmpCode:
            guard let range = range(UInt8.max) else { return nil }
            rule.icmpCode = range
        default: return nil
        }
        return rule
    }
}
