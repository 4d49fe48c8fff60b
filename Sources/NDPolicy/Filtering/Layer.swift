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
    }

    public var kind: Kind
    public var family: IPFamily

    public init(_ kind: Kind, _ family: IPFamily) {
        self.kind = kind
        self.family = family
    }

    public var name: String { "FWPM_LAYER_\(kind.rawValue)_\(family.suffix)" }

    public var guid: String {
        switch (kind, family) {
        case (.ikeext, .v4): "b14b7bdb-dbbd-473e-bed4-8b4708d4f270"
        case (.ikeext, .v6): "b64786b3-f687-4eb9-89d2-8ef32acdabe2"
        case (.ipsec, .v4): "eda65c74-610d-4bc5-948f-3c4f89556867"
        case (.ipsec, .v6): "13c48442-8d87-4261-9a29-59d2abc348b4"
        case (.outboundTransport, .v4): "09e61aea-d214-46e2-9b21-b26b0b2f28c8"
        case (.outboundTransport, .v6): "e1735bde-013f-4655-b351-a49e15762df0"
        case (.inboundTransport, .v4): "5926dfc8-e3cf-4426-a283-dc393f5d0f9d"
        case (.inboundTransport, .v6): "634a869f-fc23-4b90-b0c1-bf620a36ae6f"
        case (.aleAuthConnect, .v4): "c38d57d1-05a7-4c33-904f-7fbceee60e82"
        case (.aleAuthConnect, .v6): "4a72393b-319f-44bc-84c3-ba54dcb3b6b4"
        case (.aleAuthRecvAccept, .v4): "e1cd9fe7-f4b5-4273-96c0-592e487b8650"
        case (.aleAuthRecvAccept, .v6): "a3b42c97-9f04-4672-b87e-cee9c483257f"
        }
    }

    /// The number of nd.h; nil for the layers that the control plane serves.
    public var datapathLayer: DatapathLayer? {
        switch kind {
        case .ikeext, .ipsec: nil
        case .outboundTransport: .outboundTransport
        case .inboundTransport: .inboundTransport
        case .aleAuthConnect: .aleAuthConnect
        case .aleAuthRecvAccept: .aleAuthRecvAccept
        }
    }
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

    public static var all: [DatapathLayer] {
        (0..<UInt8(truncatingIfNeeded: ND_LAYER_COUNT.rawValue)).compactMap(DatapathLayer.init)
    }

    public var description: String { nd_layer_label(UInt32(rawValue)).map { String(cString: $0) } ?? "?" }

    public static func < (a: DatapathLayer, b: DatapathLayer) -> Bool { a.rawValue < b.rawValue }
}
