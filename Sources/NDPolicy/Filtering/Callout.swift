/// What a filter's callout action names: something that decides, or looks on, instead of the filter.
public struct Callout: Hashable, Sendable {
    public var key: GUID
    public var name: String
    public var layer: Layer
    public var provider: GUID?
    /// nil: nobody registered one.
    public var program: CalloutProgram?

    public init(
        key: GUID? = nil, name: String, layer: Layer, provider: GUID? = nil, program: CalloutProgram? = nil
    ) {
        // One name may stand at several layers, as a transport callout must (at ALE_AUTH_RECV_ACCEPT too).
        self.key = key ?? GUID(named: "\(layer.shortName)/\(name)", kind: "callout")
        self.name = name
        self.layer = layer
        self.provider = provider
        self.program = program
    }
}

/// The callouts of WFP's IPsec (fwpmu.h, "Built-in Callout Identifiers").
public enum BuiltInCallout: String, Hashable, Sendable, CaseIterable {
    case outboundTransport = "IPSEC_OUTBOUND_TRANSPORT"
    case inboundTransport = "IPSEC_INBOUND_TRANSPORT"
    case inboundInitiateSecure = "IPSEC_INBOUND_INITIATE_SECURE"
    case inboundTunnel = "IPSEC_INBOUND_TUNNEL"
    case outboundTunnel = "IPSEC_OUTBOUND_TUNNEL"
    case forwardInboundTunnel = "IPSEC_FORWARD_INBOUND_TUNNEL"
    case forwardOutboundTunnel = "IPSEC_FORWARD_OUTBOUND_TUNNEL"
    case inboundTunnelALEAccept = "IPSEC_INBOUND_TUNNEL_ALE_ACCEPT"
    case aleConnect = "IPSEC_ALE_CONNECT"
    case dospForward = "IPSEC_DOSP_FORWARD"
    case silentDrop = "WFP_TRANSPORT_LAYER_SILENT_DROP"

    public func name(_ family: IPFamily) -> String {
        self == .silentDrop
            ? "FWPM_CALLOUT_WFP_TRANSPORT_LAYER_\(family.suffix)_SILENT_DROP"
            : "FWPM_CALLOUT_\(rawValue)_\(family.suffix)"
    }

    public func guid(_ family: IPFamily) -> String { key(family).description }

    /// Where a filter may name it.
    public var layers: [Layer.Kind] {
        switch self {
        case .outboundTransport, .outboundTunnel: [.outboundTransport]
        case .inboundTransport, .inboundTunnel: [.inboundTransport]
        case .inboundInitiateSecure, .inboundTunnelALEAccept: [.aleAuthRecvAccept]
        case .aleConnect: [.aleAuthConnect]
        case .forwardInboundTunnel, .forwardOutboundTunnel, .dospForward: [.ipForward]
        // What firewalls hang there keeps the stack from answering a dropped packet ("stealth").
        case .silentDrop: [.inboundTransportDiscard]
        }
    }

    public func key(_ family: IPFamily) -> GUID {
        switch (self, family) {
        case (.outboundTransport, .v4): GUID(known: "4b46bf0a-4523-4e57-aa38-a87987c910d9")
        case (.outboundTransport, .v6): GUID(known: "38d87722-ad83-4f11-a91f-df0fb077225b")
        case (.inboundTransport, .v4): GUID(known: "5132900d-5e84-4b5f-80e4-01741e81ff10")
        case (.inboundTransport, .v6): GUID(known: "49d3ac92-2a6c-4dcf-955f-1c3be009dd99")
        case (.inboundInitiateSecure, .v4): GUID(known: "7dff309b-ba7d-4aba-91aa-ae5c6640c944")
        case (.inboundInitiateSecure, .v6): GUID(known: "a9a0d6d9-c58c-474e-8aeb-3cfe99d6d53d")
        case (.inboundTunnel, .v4): GUID(known: "191a8a46-0bf8-46cf-b045-4b45dfa6a324")
        case (.inboundTunnel, .v6): GUID(known: "80c342e3-1e53-4d6f-9b44-03df5aeee154")
        case (.outboundTunnel, .v4): GUID(known: "70a4196c-835b-4fb0-98e8-075f4d977d46")
        case (.outboundTunnel, .v6): GUID(known: "f1835363-a6a5-4e62-b180-23db789d8da6")
        case (.forwardInboundTunnel, .v4): GUID(known: "28829633-c4f0-4e66-873f-844db2a899c7")
        case (.forwardInboundTunnel, .v6): GUID(known: "af50bec2-c686-429a-884d-b74443e7b0b4")
        case (.forwardOutboundTunnel, .v4): GUID(known: "fb532136-15cb-440b-937c-1717ca320c40")
        case (.forwardOutboundTunnel, .v6): GUID(known: "dae640cc-e021-4bee-9eb6-a48b275c8c1d")
        case (.inboundTunnelALEAccept, .v4): GUID(known: "3df6e7de-fd20-48f2-9f26-f854444cba79")
        case (.inboundTunnelALEAccept, .v6): GUID(known: "a1e392d3-72ac-47bb-87a7-0122c69434ab")
        case (.aleConnect, .v4): GUID(known: "6ac141fc-f75d-4203-b9c8-48e6149c2712")
        case (.aleConnect, .v6): GUID(known: "4c0dda05-e31f-4666-90b0-b3dfad34129a")
        case (.dospForward, .v4): GUID(known: "2fcb56ec-cd37-4b4f-b108-62c2b1850a0c")
        case (.dospForward, .v6): GUID(known: "6d08a342-db9e-4fbe-9ed2-57374ce89f79")
        case (.silentDrop, .v4): GUID(known: "eda08606-2494-4d78-89bc-67837c03b969")
        case (.silentDrop, .v6): GUID(known: "8693cc74-a075-4156-b476-9286eece814e")
        }
    }

    private static let byKey = Dictionary(
        uniqueKeysWithValues: allCases.flatMap { callout in
            IPFamily.allCases.map { (callout.key($0), (callout: callout, family: $0)) }
        })

    public static func find(_ key: GUID) -> (callout: BuiltInCallout, family: IPFamily)? { byKey[key] }

    public static func name(of key: GUID) -> String? { byKey[key].map { $0.callout.name($0.family) } }
}

/// A filter's raw context, the 64-bit word that WFP hands to the callout (fwpmu.h). Which name a
/// number has depends on the callout.
public struct RawContext: Hashable, Sendable {
    public var value: UInt64

    public init(_ value: UInt64) { self.value = value }

    public static let none = RawContext(0)
    /// FWPM_CONTEXT_IPSEC_OUTBOUND_*
    public static let outboundNegotiateDiscover = RawContext(1)
    public static let outboundSuppressNegotiation = RawContext(2)
    /// FWPM_CONTEXT_IPSEC_INBOUND_*
    public static let inboundPassthru = RawContext(1)
    public static let inboundPersistConnectionSecurity = RawContext(2)

    private static let outbound: [(name: String, context: RawContext)] = [
        ("OUTBOUND_NEGOTIATE_DISCOVER", outboundNegotiateDiscover),
        ("OUTBOUND_SUPPRESS_NEGOTIATION", outboundSuppressNegotiation),
    ]
    private static let inbound: [(name: String, context: RawContext)] = [
        ("INBOUND_PASSTHRU", inboundPassthru),
        ("INBOUND_PERSIST_CONNECTION_SECURITY", inboundPersistConnectionSecurity),
    ]

    public static func names(for callout: BuiltInCallout?) -> [String] { named(for: callout).map(\.name) }

    private static func named(for callout: BuiltInCallout?) -> [(name: String, context: RawContext)] {
        switch callout {
        case .outboundTransport, .outboundTunnel: outbound
        case .inboundTransport, .inboundTunnel: inbound
        default: []
        }
    }

    /// By a name that the callout knows, or as a number.
    public init?(_ text: String, for callout: BuiltInCallout?) {
        if let found = Self.named(for: callout).first(where: { $0.name == text }) {
            self = found.context
            return
        }
        let digits = text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
        guard let digits else { return nil }
        value = digits
    }

    public func name(for callout: BuiltInCallout?) -> String? {
        if self == .none { return nil }
        return Self.named(for: callout).first { $0.context == self }?.name ?? "0x" + String(value, radix: 16)
    }
}
