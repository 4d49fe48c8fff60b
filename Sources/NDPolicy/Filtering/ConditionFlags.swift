/// FWP_CONDITION_FLAG_* (fwptypes.h): what the field FLAGS is made of.
public struct ConditionFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let isLoopback = ConditionFlags(rawValue: 0x1)
    public static let isIPsecSecured = ConditionFlags(rawValue: 0x2)
    public static let isReauthorize = ConditionFlags(rawValue: 0x4)
    public static let isWildcardBind = ConditionFlags(rawValue: 0x8)
    public static let isRawEndpoint = ConditionFlags(rawValue: 0x10)
    public static let isFragment = ConditionFlags(rawValue: 0x20)
    public static let isFragmentGroup = ConditionFlags(rawValue: 0x40)
    public static let isIPsecNATTReclassify = ConditionFlags(rawValue: 0x80)
    public static let requiresALEClassify = ConditionFlags(rawValue: 0x100)
    public static let isImplicitBind = ConditionFlags(rawValue: 0x200)
    public static let isReassembled = ConditionFlags(rawValue: 0x400)

    /// As policies write them; a bit stands in `packetBits` when a packet's way through this host tells it.
    public static let named: [(name: String, flag: ConditionFlags, packetBit: UInt8?)] = [
        ("IS_LOOPBACK", .isLoopback, 0x1),
        ("IS_IPSEC_SECURED", .isIPsecSecured, 0x2),
        ("IS_FRAGMENT", .isFragment, 0x4),
        ("IS_REAUTHORIZE", .isReauthorize, nil),
        ("IS_WILDCARD_BIND", .isWildcardBind, nil),
        ("IS_RAW_ENDPOINT", .isRawEndpoint, nil),
        ("IS_FRAGMENT_GROUP", .isFragmentGroup, nil),
        ("IS_IPSEC_NATT_RECLASSIFY", .isIPsecNATTReclassify, nil),
        ("REQUIRES_ALE_CLASSIFY", .requiresALEClassify, nil),
        ("IS_IMPLICIT_BIND", .isImplicitBind, nil),
        ("IS_REASSEMBLED", .isReassembled, nil),
    ]

    public var names: [String] { Self.named.filter { contains($0.flag) }.map(\.name) }

    public init?(name: String) {
        guard let found = Self.named.first(where: { $0.name == name }) else { return nil }
        self = found.flag
    }

    /// The value of `PacketField.flags`.
    public var packetBits: UInt8 {
        Self.named.reduce(0) { bits, one in contains(one.flag) ? bits | (one.packetBit ?? 0) : bits }
    }

    /// Flags that no packet carries here.
    public var unseen: ConditionFlags {
        subtracting(Self.named.reduce([]) { $1.packetBit == nil ? $0 : $0.union($1.flag) })
    }
}

/// NL_ADDRESS_TYPE (nldef.h).
public enum NLAddressType: UInt8, Hashable, Sendable, CaseIterable {
    case unspecified, unicast, anycast, multicast, broadcast

    /// "NlatUnicast", as the documentation writes it.
    public var name: String {
        switch self {
        case .unspecified: "NlatUnspecified"
        case .unicast: "NlatUnicast"
        case .anycast: "NlatAnycast"
        case .multicast: "NlatMulticast"
        case .broadcast: "NlatBroadcast"
        }
    }

    public init?(name: String) {
        guard let found = Self.allCases.first(where: { $0.name == name || "\($0)" == name }) else { return nil }
        self = found
    }
}

/// FWP_DIRECTION (fwptypes.h).
public enum PacketDirection: UInt8, Hashable, Sendable, CaseIterable {
    case outbound, inbound
}
