import CNDABI

public enum IPFamily: UInt8, Hashable, Sendable, CaseIterable, Codable {
    case v4 = 4
    case v6 = 6

    var suffix: String { "V\(rawValue)" }
}

/// A filtering layer of WFP. GUIDs are those of fwpmu.h, so a policy can be compared with a
/// Windows host's.
public struct Layer: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable, CaseIterable {
        /// Main-mode policy look-up.
        case ikeext = "IKEEXT"
        /// Quick-mode policy look-up.
        case ipsec = "IPSEC"
        case outboundTransport = "OUTBOUND_TRANSPORT"
        case inboundTransport = "INBOUND_TRANSPORT"
        case aleAuthConnect = "ALE_AUTH_CONNECT"
        case aleAuthRecvAccept = "ALE_AUTH_RECV_ACCEPT"
        case stream = "STREAM"
        case datagramData = "DATAGRAM_DATA"
        case inboundIPPacket = "INBOUND_IPPACKET"
        case outboundIPPacket = "OUTBOUND_IPPACKET"
        case ipForward = "IPFORWARD"
        case outboundTransportDiscard = "OUTBOUND_TRANSPORT_DISCARD"
        case inboundTransportDiscard = "INBOUND_TRANSPORT_DISCARD"
        case aleAuthConnectDiscard = "ALE_AUTH_CONNECT_DISCARD"
        case aleAuthRecvAcceptDiscard = "ALE_AUTH_RECV_ACCEPT_DISCARD"
        case streamDiscard = "STREAM_DISCARD"
        case datagramDataDiscard = "DATAGRAM_DATA_DISCARD"
        case inboundIPPacketDiscard = "INBOUND_IPPACKET_DISCARD"
        case outboundIPPacketDiscard = "OUTBOUND_IPPACKET_DISCARD"
        case ipForwardDiscard = "IPFORWARD_DISCARD"

        /// Of a DISCARD layer, the layer whose drops it shows.
        public var shown: Kind? { isDiscard ? Kind(rawValue: String(rawValue.dropLast(Self.discard.count))) : nil }

        public var isDiscard: Bool { rawValue.hasSuffix(Self.discard) }

        /// Who asks the filters of the layer.
        public var server: Server {
            switch self {
            case .ikeext, .ipsec: .controlPlane
            default: datapathLayer == nil ? .nobody : .datapath
            }
        }

        /// The number of nd.h; nil for the layers that BPF doesn't serve.
        public var datapathLayer: DatapathLayer? {
            switch self {
            case .outboundTransport: .outboundTransport
            case .inboundTransport: .inboundTransport
            case .aleAuthConnect: .aleAuthConnect
            case .aleAuthRecvAccept: .aleAuthRecvAccept
            case .stream: .stream
            case .datagramData: .datagramData
            case .inboundIPPacket: .inboundIPPacket
            case .outboundIPPacket: .outboundIPPacket
            default: nil
            }
        }

        fileprivate static let discard = "_DISCARD"
    }

    public enum Server: Hashable, Sendable {
        case controlPlane, datapath
        /// ndbpf has no say in forwarded packets, and what was dropped is told by events.
        case nobody
    }

    public var kind: Kind
    public var family: IPFamily

    public init(_ kind: Kind, _ family: IPFamily) {
        self.kind = kind
        self.family = family
    }

    public static let all = Kind.allCases.flatMap { kind in IPFamily.allCases.map { Layer(kind, $0) } }

    /// By its name, "FWPM_LAYER_STREAM_V4" or "STREAM_V4", or by its key.
    public init?(_ text: String) {
        guard let found = Self.byText[text] ?? GUID(text).flatMap({ Self.byText["\($0)"] }) else { return nil }
        self = found
    }

    private static let byText = Dictionary(
        uniqueKeysWithValues: all.flatMap { [($0.name, $0), ($0.shortName, $0), ($0.guid, $0)] })

    /// "STREAM_V4_DISCARD": in the SDK the family stands before DISCARD.
    public var shortName: String {
        kind.isDiscard
            ? "\(kind.rawValue.dropLast(Kind.discard.count))_\(family.suffix)\(Kind.discard)"
            : "\(kind.rawValue)_\(family.suffix)"
    }

    public var name: String { "FWPM_LAYER_\(shortName)" }

    public var guid: String { key.description }

    public var key: GUID {
        switch (kind, family) {
        case (.ikeext, .v4): GUID(known: "b14b7bdb-dbbd-473e-bed4-8b4708d4f270")
        case (.ikeext, .v6): GUID(known: "b64786b3-f687-4eb9-89d2-8ef32acdabe2")
        case (.ipsec, .v4): GUID(known: "eda65c74-610d-4bc5-948f-3c4f89556867")
        case (.ipsec, .v6): GUID(known: "13c48442-8d87-4261-9a29-59d2abc348b4")
        case (.outboundTransport, .v4): GUID(known: "09e61aea-d214-46e2-9b21-b26b0b2f28c8")
        case (.outboundTransport, .v6): GUID(known: "e1735bde-013f-4655-b351-a49e15762df0")
        case (.inboundTransport, .v4): GUID(known: "5926dfc8-e3cf-4426-a283-dc393f5d0f9d")
        case (.inboundTransport, .v6): GUID(known: "634a869f-fc23-4b90-b0c1-bf620a36ae6f")
        case (.aleAuthConnect, .v4): GUID(known: "c38d57d1-05a7-4c33-904f-7fbceee60e82")
        case (.aleAuthConnect, .v6): GUID(known: "4a72393b-319f-44bc-84c3-ba54dcb3b6b4")
        case (.aleAuthRecvAccept, .v4): GUID(known: "e1cd9fe7-f4b5-4273-96c0-592e487b8650")
        case (.aleAuthRecvAccept, .v6): GUID(known: "a3b42c97-9f04-4672-b87e-cee9c483257f")
        case (.stream, .v4): GUID(known: "3b89653c-c170-49e4-b1cd-e0eeeee19a3e")
        case (.stream, .v6): GUID(known: "47c9137a-7ec4-46b3-b6e4-48e926b1eda4")
        case (.datagramData, .v4): GUID(known: "3d08bf4e-45f6-4930-a922-417098e20027")
        case (.datagramData, .v6): GUID(known: "fa45fe2f-3cba-4427-87fc-57b9a4b10d00")
        case (.inboundIPPacket, .v4): GUID(known: "c86fd1bf-21cd-497e-a0bb-17425c885c58")
        case (.inboundIPPacket, .v6): GUID(known: "f52032cb-991c-46e7-971d-2601459a91ca")
        case (.outboundIPPacket, .v4): GUID(known: "1e5c9fae-8a84-4135-a331-950b54229ecd")
        case (.outboundIPPacket, .v6): GUID(known: "a3b3ab6b-3564-488c-9117-f34e82142763")
        case (.ipForward, .v4): GUID(known: "a82acc24-4ee1-4ee1-b465-fd1d25cb10a4")
        case (.ipForward, .v6): GUID(known: "7b964818-19c7-493a-b71f-832c3684d28c")
        case (.outboundTransportDiscard, .v4): GUID(known: "c5f10551-bdb0-43d7-a313-50e211f4d68a")
        case (.outboundTransportDiscard, .v6): GUID(known: "f433df69-ccbd-482e-b9b2-57165658c3b3")
        case (.inboundTransportDiscard, .v4): GUID(known: "ac4a9833-f69d-4648-b261-6dc84835ef39")
        case (.inboundTransportDiscard, .v6): GUID(known: "2a6ff955-3b2b-49d2-9848-ad9d72dcaab7")
        case (.aleAuthConnectDiscard, .v4): GUID(known: "d632a801-f5ba-4ad6-96e3-607017d9836a")
        case (.aleAuthConnectDiscard, .v6): GUID(known: "c97bc3b8-c9a3-4e33-8695-8e17aad4de09")
        case (.aleAuthRecvAcceptDiscard, .v4): GUID(known: "9eeaa99b-bd22-4227-919f-0073c63357b1")
        case (.aleAuthRecvAcceptDiscard, .v6): GUID(known: "89455b97-dbe1-453f-a224-13da895af396")
        case (.streamDiscard, .v4): GUID(known: "25c4c2c2-25ff-4352-82f9-c54a4a4726dc")
        case (.streamDiscard, .v6): GUID(known: "10a59fc7-b628-4c41-9eb8-cf37d55103cf")
        case (.datagramDataDiscard, .v4): GUID(known: "18e330c6-7248-4e52-aaab-472ed67704fd")
        case (.datagramDataDiscard, .v6): GUID(known: "09d1dfe1-9b86-4a42-be9d-8c315b92a5d0")
        case (.inboundIPPacketDiscard, .v4): GUID(known: "b5a230d0-a8c0-44f2-916e-991b53ded1f7")
        case (.inboundIPPacketDiscard, .v6): GUID(known: "bb24c279-93b4-47a2-83ad-ae1698b50885")
        case (.outboundIPPacketDiscard, .v4): GUID(known: "08e4bcb5-b647-48f3-953c-e5ddbd03937e")
        case (.outboundIPPacketDiscard, .v6): GUID(known: "9513d7c4-a934-49dc-91a7-6ccb80cc02e3")
        case (.ipForwardDiscard, .v4): GUID(known: "9e9ea773-2fae-4210-8f17-34129ef369eb")
        case (.ipForwardDiscard, .v6): GUID(known: "31524a5d-1dfe-472f-bb93-518ee945d8a2")
        }
    }

    public var datapathLayer: DatapathLayer? { kind.datapathLayer }
}

/// A layer that BPF serves (enum nd_layer); the family is a condition there.
public struct DatapathLayer: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let rawValue: UInt8

    public init?(rawValue: UInt8) {
        guard UInt32(rawValue) < ND_LAYER_COUNT.rawValue else { return nil }
        self.rawValue = rawValue
    }

    private init(_ layer: nd_layer) { rawValue = UInt8(truncatingIfNeeded: layer.rawValue) }

    public static let outboundTransport = DatapathLayer(ND_LAYER_OUTBOUND_TRANSPORT)
    public static let inboundTransport = DatapathLayer(ND_LAYER_INBOUND_TRANSPORT)
    public static let aleAuthConnect = DatapathLayer(ND_LAYER_ALE_AUTH_CONNECT)
    public static let aleAuthRecvAccept = DatapathLayer(ND_LAYER_ALE_AUTH_RECV_ACCEPT)
    public static let stream = DatapathLayer(ND_LAYER_STREAM)
    public static let datagramData = DatapathLayer(ND_LAYER_DATAGRAM_DATA)
    public static let inboundIPPacket = DatapathLayer(ND_LAYER_INBOUND_IPPACKET)
    public static let outboundIPPacket = DatapathLayer(ND_LAYER_OUTBOUND_IPPACKET)

    public static var all: [DatapathLayer] {
        (0..<UInt8(truncatingIfNeeded: ND_LAYER_COUNT.rawValue)).compactMap(DatapathLayer.init)
    }

    public var description: String { nd_layer_label(UInt32(rawValue)).map { String(cString: $0) } ?? "?" }

    public static func < (a: DatapathLayer, b: DatapathLayer) -> Bool { a.rawValue < b.rawValue }
}
