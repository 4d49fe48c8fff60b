import NDFilterEngine

/// "Negotiation Discovery Transport Mode" of the Windows Filtering Platform's documentation, call by call:
/// secure all unicast data traffic except ICMP, using IPsec transport mode, and enable negotiation discovery.
@main
struct NegotiationDiscovery {
    static func main() throws {
        let session = FilterEngineSession()
        try configure(session)
        print(session.state.listing, terminator: "")
    }

    static func configure(_ session: FilterEngineSession) throws {
        var transaction = session.begin()

        // The policies of main mode and quick mode, as provider contexts.
        let mainMode = ProviderContext(
            name: "main mode", provider: Provider.ndbpf.key, kind: .ikeMainMode,
            proposals: ["aes256-sha256-ecp256", "aes128-sha1-modp2048"])
        let quickMode = ProviderContext(
            name: "quick mode", provider: Provider.ndbpf.key, kind: .ikeQuickModeTransport, flags: .ndSecure,
            proposals: ["aes128-gcm16", "aes256-gcm16", "aes256-cbc-sha256"])
        try transaction.add(mainMode)
        try transaction.add(quickMode)

        // At FWPM_LAYER_IKEEXT_V{4|6}: the main-mode policy, for all traffic.
        for family in IPFamily.allCases {
            try transaction.add(
                Filter(
                    name: "main mode", provider: Provider.ndbpf.key, layer: Layer(.ikeext, family), action: .permit,
                    context: .provider(mainMode.key)))
        }

        // At FWPM_LAYER_IPSEC_V{4|6}: the quick-mode policy, for all traffic.
        for family in IPFamily.allCases {
            try transaction.add(
                Filter(
                    name: "quick mode", provider: Provider.ndbpf.key, layer: Layer(.ipsec, family), action: .permit,
                    context: .provider(quickMode.key)))
        }

        // At FWPM_LAYER_INBOUND_TRANSPORT_V{4|6}: a protected connection stays so.
        for family in IPFamily.allCases {
            try transaction.add(
                Filter(
                    name: "protect", provider: Provider.ndbpf.key, layer: Layer(.inboundTransport, family),
                    conditions: [.localAddressIsUnicast], action: .callout(.inboundTransport, family),
                    context: .raw(.inboundPersistConnectionSecurity)))
        }
        try exemptICMP(at: .inboundTransport, &transaction)

        // At FWPM_LAYER_OUTBOUND_TRANSPORT_V{4|6}: send in clear at once and negotiate meanwhile.
        for family in IPFamily.allCases {
            try transaction.add(
                Filter(
                    name: "protect", provider: Provider.ndbpf.key, layer: Layer(.outboundTransport, family),
                    conditions: [.localAddressIsUnicast], action: .callout(.outboundTransport, family),
                    context: .raw(.outboundNegotiateDiscover)))
        }
        try exemptICMP(at: .outboundTransport, &transaction)

        // At FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V{4|6}: new inbound connections only under protection.
        for family in IPFamily.allCases {
            try transaction.add(
                Filter(
                    name: "protect", provider: Provider.ndbpf.key, layer: Layer(.aleAuthRecvAccept, family),
                    conditions: [.localAddressIsUnicast], action: .callout(.inboundInitiateSecure, family)))
        }
        try exemptICMP(at: .aleAuthRecvAccept, &transaction)

        // Everything above takes effect here, at once, or not at all.
        try session.commit(&transaction)
    }

    private static func exemptICMP(at layer: Layer.Kind, _ transaction: inout Transaction) throws {
        for family in IPFamily.allCases {
            let icmp = family == .v4 ? IPProtocol.icmp : IPProtocol.icmpv6
            try transaction.add(
                Filter(
                    name: "exempt icmp", provider: Provider.ndbpf.key, layer: Layer(layer, family),
                    weight: .range(.ikeExemptions), conditions: [.localAddressIsUnicast, .proto(icmp)], action: .permit))
        }
    }
}
