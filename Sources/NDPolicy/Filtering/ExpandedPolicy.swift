import NDCore

/// A scenario as WFP holds it: provider contexts and filters.
public struct ExpandedPolicy: Hashable, Sendable {
    public var scenario: Scenario
    public var providerContexts: [ProviderContext]
    public var filters: [Filter]

    public init(scenario: Scenario, providerContexts: [ProviderContext], filters: [Filter]) {
        self.scenario = scenario
        self.providerContexts = providerContexts
        self.filters = filters
    }

    public func filter(id: UInt32) -> Filter? { filters.first { $0.id == id } }
}

extension Policy {
    /// The filters of the WFP configuration of this scenario, in the order of the Windows
    /// documentation: main mode, quick mode, inbound transport, outbound transport, accept.
    public var expanded: ExpandedPolicy {
        var expansion = Expansion()
        let mainMode = ProviderContext(
            kind: .ikeMainMode, id: 0, flags: [], proposals: keying.mainMode.map(\.description))
        let quickMode = ProviderContext(
            kind: .ikeQuickModeTransport, id: 0, flags: scenario.quickModeFlags,
            proposals: keying.quickMode.map(\.description))

        expansion.add("main mode", .ikeext, .ipsec, [], .permit, mainMode)
        expansion.add("quick mode", .ipsec, .ipsec, [], .permit, quickMode)

        let callouts: [(Layer.Kind, FilterAction)] =
            [
                (.inboundTransport, .callout(.inboundTransport, .inboundPersistConnectionSecurity)),
                (
                    .outboundTransport,
                    .callout(.outboundTransport, scenario == .secure ? .none : .outboundNegotiateDiscover)
                ),
            ]
            + (scenario == .boundary ? [] : [(.aleAuthRecvAccept, .callout(.inboundInitiateSecure, .none))])
        let layers = callouts.map(\.0)

        for (layer, action) in callouts {
            let context = layer == .outboundTransport ? quickMode : nil
            expansion.add("protect", layer, .ipsec, [.localAddressIsUnicast], action, context)
        }
        for layer in layers {
            if exemptsICMP {
                expansion.add("exempt icmp", layer, .v4, .ikeExemptions, [.proto(IPProtocol.icmp)])
                expansion.add("exempt icmp", layer, .v6, .ikeExemptions, [.proto(IPProtocol.icmpv6)])
            } else {
                // Neighbour discovery finds the link-layer address that an ESP packet itself needs
                // (RFC 4861 §11.2), so it can't wait for an SA.
                expansion.add(
                    "exempt neighbour discovery", layer, .v6, .ikeExemptions,
                    [.proto(IPProtocol.icmpv6), .icmpType(133...137)])
            }
            if exemptsDHCP {
                expansion.add(
                    "exempt dhcp", layer, .v4, .ikeExemptions,
                    [.proto(IPProtocol.udp), .localPort(68...68), .remotePort(67...67)])
                expansion.add(
                    "exempt dhcp", layer, .v6, .ikeExemptions,
                    [.proto(IPProtocol.udp), .localPort(546...546), .remotePort(547...547)])
            }
            for (index, exemption) in exemptions.enumerated() where exemption.covers(layer) {
                let conditions = exemption.conditions
                let name = "exempt \(index + 1)"
                if let family = exemption.family {
                    expansion.add(name, layer, family, .exemptions, conditions)
                } else {
                    expansion.add(name, layer, .exemptions, [.localAddressIsUnicast] + conditions, .permit, nil)
                }
            }
        }
        return ExpandedPolicy(
            scenario: scenario, providerContexts: [mainMode, quickMode], filters: expansion.filters)
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

/// Numbers filters and weighs them by their order.
private struct Expansion {
    var filters: [Filter] = []

    /// Both families. Twins have neighbouring ids, so that one BPF rule can stand for both.
    mutating func add(
        _ name: String, _ layer: Layer.Kind, _ range: FilterWeight.Range, _ conditions: [Condition],
        _ action: FilterAction, _ context: ProviderContext?
    ) {
        let position = filters.count
        for family in IPFamily.allCases {
            append(name, Layer(layer, family), FilterWeight(range, position: position), conditions, action, context)
        }
    }

    mutating func add(
        _ name: String, _ layer: Layer.Kind, _ family: IPFamily, _ range: FilterWeight.Range,
        _ conditions: [Condition]
    ) {
        append(
            name, Layer(layer, family), FilterWeight(range, position: filters.count),
            [.localAddressIsUnicast] + conditions, .permit, nil)
    }

    private mutating func append(
        _ name: String, _ layer: Layer, _ weight: FilterWeight, _ conditions: [Condition],
        _ action: FilterAction, _ context: ProviderContext?
    ) {
        filters.append(
            Filter(
                id: UInt32(truncatingIfNeeded: filters.count + 1), name: name, layer: layer, weight: weight,
                conditions: conditions, action: action, providerContext: context))
    }
}
