/// A sublayer: filters of a heavier one are asked first.
public struct Sublayer: Hashable, Sendable, Encodable {
    public var key: GUID
    public var name: String
    public var weight: UInt16
    public var provider: GUID?

    public init(key: GUID? = nil, name: String, weight: UInt16, provider: GUID? = nil) {
        self.key = key ?? GUID(named: name, kind: "sublayer")
        self.name = name
        self.weight = weight
        self.provider = provider
    }

    public func isAsked(before other: Sublayer) -> Bool {
        weight != other.weight ? weight > other.weight : key < other.key
    }
}

/// The sublayers of fwpmu.h. The documentation says of their weights that INSPECTION's is the lowest and no
/// more; the others here are ndbpf's.
extension Sublayer {
    /// "This sublayer hosts all filters that are not assigned to any of the other sublayers."
    public static let universal = builtIn("UNIVERSAL", 0x8000, "eebecc03-ced4-4380-819a-2734397b2b74")
    public static let inspection = builtIn("INSPECTION", 0, "877519e1-e6a9-41a5-81b4-8c4f118e4a60")

    public static let builtIn: [Sublayer] = [
        builtIn("IPSEC_DOSP", 0xf000, "e076d572-5d3d-48ef-802b-909eddb098bd"),
        builtIn("IPSEC_FORWARD_OUTBOUND_TUNNEL", 0xe000, "a5082e73-8f71-4559-8a9a-101cea04ef87"),
        builtIn("IPSEC_TUNNEL", 0xd000, "83f299ed-9ff4-4967-aff4-c309f4dab827"),
        builtIn("LIPS", 0xc000, "1b75c0ce-ff60-4711-a70f-b4958cc3b2d0"),
        builtIn("SECURE_SOCKET", 0xb000, "15a66e17-3f3c-4f7b-aa6c-812aa613dd82"),
        builtIn("IPSEC_SECURITY_REALM", 0xa000, "37a57701-5884-4964-92b8-3e704688b0ad"),
        universal,
        builtIn("TEREDO", 0x7000, "ba69dc66-5176-4979-9c89-26a7b46a8327"),
        builtIn("TCP_CHIMNEY_OFFLOAD", 0x6000, "337608b9-b7d5-4d5f-82f9-3618618bc058"),
        builtIn("TCP_TEMPLATES", 0x5000, "24421dcf-0ac5-4caa-9e14-50f6e3636af0"),
        builtIn("RPC_AUDIT", 0x4000, "758c84f4-fb48-4de9-9aeb-3ed9551ab1fd"),
        inspection,
    ]

    public var isBuiltIn: Bool { Self.builtIn.contains { $0.key == key } }

    /// As policies write it: "UNIVERSAL", or the user's own name.
    public var shortName: String { isBuiltIn ? String(name.dropFirst(Self.prefix.count)) : name }

    private static let prefix = "FWPM_SUBLAYER_"

    private static func builtIn(_ name: String, _ weight: UInt16, _ key: StaticString) -> Sublayer {
        Sublayer(key: GUID(known: key), name: prefix + name, weight: weight)
    }
}

/// Who an object belongs to.
public struct Provider: Hashable, Sendable, Encodable {
    public var key: GUID
    public var name: String
    public var description: String

    public init(key: GUID? = nil, name: String, description: String = "") {
        self.key = key ?? GUID(named: name, kind: "provider")
        self.name = name
        self.description = description
    }

    /// What the scenarios make.
    public static let ndbpf = Provider(name: "ndbpf", description: "the objects that a scenario stands for")

    /// FWPM_PROVIDER_IKEEXT.
    public static let ikeext = Provider(
        key: GUID(known: "10ad9216-ccde-456c-8b16-e9f04e60a90b"), name: "FWPM_PROVIDER_IKEEXT",
        description: "the keying modules")

    public static let builtIn: [Provider] = [ndbpf, ikeext]

    public var isBuiltIn: Bool { Self.builtIn.contains { $0.key == key } }
}
