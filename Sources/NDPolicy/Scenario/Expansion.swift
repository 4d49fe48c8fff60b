import NDCore

extension Policy {
    /// What the engine holds: the scenario's objects, then those that the policy writes out.
    public var expanded: ExpandedPolicy { scenarioFilters.adding(objects) }

    /// The filters of the WFP configuration of this scenario, in the order of the Windows
    /// documentation: main mode, quick mode, inbound transport, outbound transport, accept.
    var scenarioFilters: ExpandedPolicy {
        guard let scenario else { return ExpandedPolicy() }
        var expansion = Expansion()
        let mainMode = ProviderContext(
            name: "main mode", provider: Provider.ndbpf.key, kind: .ikeMainMode, proposals: keying.mainMode.map(\.description))
        let quickMode = ProviderContext(
            name: "quick mode", provider: Provider.ndbpf.key, kind: .ikeQuickModeTransport, flags: scenario.quickModeFlags,
            proposals: keying.quickMode.map(\.description))

        expansion.add("main mode", .ikeext, [], { _ in .permit }, .provider(mainMode.key))
        expansion.add("quick mode", .ipsec, [], { _ in .permit }, .provider(quickMode.key))

        expansion.add(
            "protect", .inboundTransport, [.localAddressIsUnicast], { .callout(.inboundTransport, $0) },
            .raw(.inboundPersistConnectionSecurity))
        addExemptions(at: .inboundTransport, &expansion)
        expansion.add(
            "protect", .outboundTransport, [.localAddressIsUnicast], { .callout(.outboundTransport, $0) },
            scenario == .secure ? .none : .raw(.outboundNegotiateDiscover))
        addExemptions(at: .outboundTransport, &expansion)
        if scenario != .boundary {
            expansion.add(
                "protect", .aleAuthRecvAccept, [.localAddressIsUnicast], { .callout(.inboundInitiateSecure, $0) }, .none)
            addExemptions(at: .aleAuthRecvAccept, &expansion)
        }
        return ExpandedPolicy(
            scenario: scenario, providerContexts: [mainMode, quickMode], filters: expansion.filters)
    }

    private func addExemptions(at layer: Layer.Kind, _ expansion: inout Expansion) {
        if exemptsICMP {
            expansion.exempt("exempt icmp", layer, .v4, .ikeExemptions, [.proto(IPProtocol.icmp)])
            expansion.exempt("exempt icmp", layer, .v6, .ikeExemptions, [.proto(IPProtocol.icmpv6)])
        } else {
            // Neighbour discovery finds the link-layer address that an ESP packet itself needs
            // (RFC 4861 §11.2), so it can't wait for an SA.
            expansion.exempt(
                "exempt neighbour discovery", layer, .v6, .ikeExemptions,
                [.proto(IPProtocol.icmpv6), .icmpType(133...137)])
        }
        if exemptsDHCP {
            expansion.exempt(
                "exempt dhcp", layer, .v4, .ikeExemptions,
                [.proto(IPProtocol.udp), .localPort(68...68), .remotePort(67...67)])
            expansion.exempt(
                "exempt dhcp", layer, .v6, .ikeExemptions,
                [.proto(IPProtocol.udp), .localPort(546...546), .remotePort(547...547)])
        }
        for (index, exemption) in exemptions.enumerated() where exemption.covers(layer) {
            for family in exemption.family.map({ [$0] }) ?? IPFamily.allCases {
                expansion.exempt("exempt \(index + 1)", layer, family, .exemptions, exemption.conditions)
            }
        }
    }
}

extension Policy {
    /// Clear inbound connections are tolerated.
    public var isBoundary: Bool {
        guard scenario == nil else { return scenario == .boundary }
        let policy = expanded
        return policy.filters.contains { $0.layer.kind == .ipsec && policy.context(of: $0)?.flags.contains(.ndBoundary) ?? false }
    }

    /// In the full form the contexts that the filters of IKEEXT and IPSEC name say what is offered.
    mutating func takeProposals() {
        let objects = objects
        func first(_ kind: ProviderContext.Kind) -> ProviderContext? {
            let named = objects.filters.filter { $0.layer.kind == kind.layer }.sorted { $0.effectiveWeight > $1.effectiveWeight }
            return named.lazy.compactMap { objects.context(of: $0) }.first { $0.kind == kind }
        }
        if let main = first(.ikeMainMode) {
            keying.mainMode = main.proposals.compactMap { MainModeProposal($0) }
            keying.mainModeLifetime = main.lifetime ?? keying.mainModeLifetime
        }
        if let quick = first(.ikeQuickModeTransport) {
            keying.quickMode = quick.proposals.compactMap { ESPSuite($0) }
            keying.quickModeLifetime = quick.lifetime ?? keying.quickModeLifetime
        }
    }
}

extension Scenario {
    public var quickModeFlags: ProviderContext.Flags {
        switch self {
        case .negotiationDiscovery: .ndSecure
        case .boundary: .ndBoundary
        case .secure: []
        }
    }
}

extension Exemption {
    func covers(_ layer: Layer.Kind) -> Bool {
        switch direction {
        case .both: true
        case .outbound: layer == .outboundTransport
        case .inbound: layer != .outboundTransport
        }
    }

    /// The only family that it can match; nil: both.
    var family: IPFamily? {
        if let address = (remote ?? local)?.address { return address.isIPv4 ? .v4 : .v6 }
        switch proto {
        case IPProtocol.icmp: return .v4
        case IPProtocol.icmpv6: return .v6
        default: return nil
        }
    }

    var conditions: [Condition] {
        (proto.map { [.proto($0)] } ?? [])
            + (local.map { [.localAddress($0)] } ?? [])
            + (remote.map { [.remoteAddress($0)] } ?? [])
            + localPorts.map { .localPort($0) }
            + remotePorts.map { .remotePort($0) }
    }
}

/// Numbers filters by their order.
private struct Expansion {
    var filters: [Filter] = []

    /// Both families. Twins have neighbouring ids, so that one BPF rule can stand for both. The
    /// documentation leaves the weight of these filters to the engine.
    mutating func add(
        _ name: String, _ layer: Layer.Kind, _ conditions: [Condition], _ action: (IPFamily) -> FilterAction,
        _ context: FilterContext
    ) {
        for family in IPFamily.allCases {
            append(name, Layer(layer, family), .automatic, conditions, action(family), context)
        }
    }

    mutating func exempt(
        _ name: String, _ layer: Layer.Kind, _ family: IPFamily, _ range: FilterWeight.Range,
        _ conditions: [Condition]
    ) {
        append(name, Layer(layer, family), .range(range), [.localAddressIsUnicast] + conditions, .permit, .none)
    }

    private mutating func append(
        _ name: String, _ layer: Layer, _ weight: FilterWeight, _ conditions: [Condition], _ action: FilterAction,
        _ context: FilterContext
    ) {
        filters.append(
            Filter(
                id: UInt32(truncatingIfNeeded: filters.count + 1), name: name, provider: Provider.ndbpf.key,
                layer: layer, weight: weight, conditions: conditions, action: action, context: context))
    }
}
