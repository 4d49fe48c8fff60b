import NDCore

/// A sublayer: filters of a heavier one are asked first.
public struct Sublayer: Hashable, Sendable {
    public var name: String
    public var weight: UInt16

    public init(name: String, weight: UInt16) {
        self.name = name
        self.weight = weight
    }

    public static let ndbpf = Sublayer(name: "ndbpf", weight: 0x8000)
}

/// A filter's 64-bit weight. In WFP a filter with an 8-bit weight names one of sixteen ranges, the
/// top four bits, and the engine chooses the rest.
public struct FilterWeight: Hashable, Sendable, Comparable {
    public var value: UInt64

    public init(_ value: UInt64) { self.value = value }

    public enum Range: UInt64, Hashable, Sendable, CaseIterable {
        /// FWPM_WEIGHT_RANGE_IPSEC
        case ipsec = 0x0
        /// The operator's exemptions, between the two ranges that fwpmu.h names.
        case exemptions = 0x8
        /// FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS
        case ikeExemptions = 0xc

        public var name: String {
            switch self {
            case .ipsec: "IPSEC"
            case .exemptions: "EXEMPTIONS"
            case .ikeExemptions: "IKE_EXEMPTIONS"
            }
        }
    }

    /// Earlier positions weigh more.
    public init(_ range: Range, position: Int) {
        let low = (1 << 32) - 1 - UInt64(max(0, min(position, 0xffff_fffe)))
        value = range.rawValue << 60 | low
    }

    public var range: Range? { Range(rawValue: value >> 60) }

    public static func < (a: FilterWeight, b: FilterWeight) -> Bool { a.value < b.value }
}

/// One condition. As in WFP, conditions on the same field are alternatives, conditions on
/// different fields must all hold.
public enum Condition: Hashable, Sendable {
    /// FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
    case localAddressIsUnicast
    case proto(UInt8)
    case localAddress(IPPrefix)
    case remoteAddress(IPPrefix)
    case localPort(ClosedRange<UInt16>)
    case remotePort(ClosedRange<UInt16>)
    case icmpType(ClosedRange<UInt8>)
    case icmpCode(ClosedRange<UInt8>)

    public enum Field: String, Hashable, Sendable, CaseIterable {
        case localAddressType = "IP_LOCAL_ADDRESS_TYPE"
        case proto = "IP_PROTOCOL"
        case localAddress = "IP_LOCAL_ADDRESS"
        case remoteAddress = "IP_REMOTE_ADDRESS"
        case localPort = "IP_LOCAL_PORT"
        case remotePort = "IP_REMOTE_PORT"
        case icmpType = "ICMP_TYPE"
        case icmpCode = "ICMP_CODE"
    }

    public var field: Field {
        switch self {
        case .localAddressIsUnicast: .localAddressType
        case .proto: .proto
        case .localAddress: .localAddress
        case .remoteAddress: .remoteAddress
        case .localPort: .localPort
        case .remotePort: .remotePort
        case .icmpType: .icmpType
        case .icmpCode: .icmpCode
        }
    }

    public var value: String {
        switch self {
        case .localAddressIsUnicast: "unicast"
        case .proto(let number): IPProtocol.name(number)
        case .localAddress(let prefix), .remoteAddress(let prefix): "\(prefix)"
        case .localPort(let range), .remotePort(let range): Self.text(range)
        case .icmpType(let range), .icmpCode(let range): Self.text(range)
        }
    }

    private static func text<T: BinaryInteger>(_ range: ClosedRange<T>) -> String {
        range.lowerBound == range.upperBound ? "\(range.lowerBound)" : "\(range.lowerBound)-\(range.upperBound)"
    }
}

public enum FilterAction: Hashable, Sendable {
    case permit
    case block
    case callout(Callout, RawContext)
}

/// What a filter at IKEEXT or IPSEC points to.
public struct ProviderContext: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable {
        case ikeMainMode = "IPSEC_IKE_MM_CONTEXT"
        case ikeQuickModeTransport = "IPSEC_IKE_QM_TRANSPORT_CONTEXT"
    }

    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// IPSEC_POLICY_FLAG_ND_SECURE, IPSEC_POLICY_FLAG_ND_BOUNDARY
        public static let ndSecure = Flags(rawValue: 0x2)
        public static let ndBoundary = Flags(rawValue: 0x4)

        public var names: [String] {
            (contains(.ndSecure) ? ["ND_SECURE"] : []) + (contains(.ndBoundary) ? ["ND_BOUNDARY"] : [])
        }
    }

    public var kind: Kind
    /// For quick mode the number that rules and peers carry; 0 is the scenario's.
    public var id: UInt32
    public var flags: Flags
    public var proposals: [String]

    public init(kind: Kind, id: UInt32, flags: Flags, proposals: [String]) {
        self.kind = kind
        self.id = id
        self.flags = flags
        self.proposals = proposals
    }
}

public struct Filter: Hashable, Sendable {
    public var id: UInt32
    public var name: String
    public var layer: Layer
    public var sublayer: Sublayer
    public var weight: FilterWeight
    public var conditions: [Condition]
    public var action: FilterAction
    public var providerContext: ProviderContext?

    public init(
        id: UInt32, name: String, layer: Layer, sublayer: Sublayer = .ndbpf, weight: FilterWeight,
        conditions: [Condition], action: FilterAction, providerContext: ProviderContext? = nil
    ) {
        self.id = id
        self.name = name
        self.layer = layer
        self.sublayer = sublayer
        self.weight = weight
        self.conditions = conditions
        self.action = action
        self.providerContext = providerContext
    }
}
