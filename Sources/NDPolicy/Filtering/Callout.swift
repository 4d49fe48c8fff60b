/// A built-in callout of WFP's IPsec.
public enum Callout: String, Hashable, Sendable, CaseIterable {
    case outboundTransport = "IPSEC_OUTBOUND_TRANSPORT"
    case inboundTransport = "IPSEC_INBOUND_TRANSPORT"
    case inboundInitiateSecure = "IPSEC_INBOUND_INITIATE_SECURE"

    public func name(_ family: IPFamily) -> String { "FWPM_CALLOUT_\(rawValue)_\(family.suffix)" }

    /// As in fwpmu.h.
    public func guid(_ family: IPFamily) -> String {
        switch (self, family) {
        case (.outboundTransport, .v4): "4b46bf0a-4523-4e57-aa38-a87987c910d9"
        case (.outboundTransport, .v6): "38d87722-ad83-4f11-a91f-df0fb077225b"
        case (.inboundTransport, .v4): "5132900d-5e84-4b5f-80e4-01741e81ff10"
        case (.inboundTransport, .v6): "49d3ac92-2a6c-4dcf-955f-1c3be009dd99"
        case (.inboundInitiateSecure, .v4): "7dff309b-ba7d-4aba-91aa-ae5c6640c944"
        case (.inboundInitiateSecure, .v6): "a9a0d6d9-c58c-474e-8aeb-3cfe99d6d53d"
        }
    }
}

/// A filter's raw context, the 64-bit word that WFP hands to the callout (fwpmu.h). Which name a
/// number has depends on the callout.
public struct RawContext: Hashable, Sendable {
    public var value: UInt64

    public init(_ value: UInt64) { self.value = value }

    public static let none = RawContext(0)
    public static let outboundNegotiateDiscover = RawContext(1)
    public static let inboundPersistConnectionSecurity = RawContext(2)

    public func name(for callout: Callout) -> String? {
        switch (callout, self) {
        case (.outboundTransport, .outboundNegotiateDiscover): "OUTBOUND_NEGOTIATE_DISCOVER"
        case (.inboundTransport, .inboundPersistConnectionSecurity): "INBOUND_PERSIST_CONNECTION_SECURITY"
        case (_, .none): nil
        default: "0x" + String(value, radix: 16)
        }
    }
}
