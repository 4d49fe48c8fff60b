import NDCore

/// One condition. Conditions on the same field are alternatives (an inner OR, whatever their order),
/// conditions on different fields must all hold.
public struct Condition: Hashable, Sendable {
    public enum Field: String, Hashable, Sendable, CaseIterable {
        case localAddressType = "IP_LOCAL_ADDRESS_TYPE"
        case destinationAddressType = "IP_DESTINATION_ADDRESS_TYPE"
        case proto = "IP_PROTOCOL"
        case localAddress = "IP_LOCAL_ADDRESS"
        case remoteAddress = "IP_REMOTE_ADDRESS"
        case localPort = "IP_LOCAL_PORT"
        case remotePort = "IP_REMOTE_PORT"
        case icmpType = "ICMP_TYPE"
        case icmpCode = "ICMP_CODE"
        case interface = "INTERFACE_INDEX"
        case direction = "DIRECTION"
        case flags = "FLAGS"
        case remoteMachine = "ALE_REMOTE_MACHINE_ID"
        case remoteUser = "ALE_REMOTE_USER_ID"
        case localUser = "ALE_USER_ID"

        public var name: String { "FWPM_CONDITION_\(rawValue)" }

        public var key: GUID {
            switch self {
            case .localAddressType: GUID(known: "6ec7f6c4-376b-45d7-9e9c-d337cedcd237")
            case .destinationAddressType: GUID(known: "1ec1b7c9-4eea-4f5e-b9ef-76beaaaf17ee")
            case .proto: GUID(known: "3971ef2b-623e-4f9a-8cb1-6e79b806b9a7")
            case .localAddress: GUID(known: "d9ee00de-c1ef-4617-bfe3-ffd8f5a08957")
            case .remoteAddress: GUID(known: "b235ae9a-1d64-49b8-a44c-5ff3d9095045")
            // fwpmu.h defines FWPM_CONDITION_ICMP_TYPE as the local port and _CODE as the remote one.
            case .localPort, .icmpType: GUID(known: "0c1ba1af-5765-453f-af22-a8f791ac775b")
            case .remotePort, .icmpCode: GUID(known: "c35a604d-d22b-4e1a-91b4-68f674ee674b")
            case .interface: GUID(known: "667fd755-d695-434a-8af5-d3835a1259bc")
            case .direction: GUID(known: "8784c146-ca97-44d6-9fd1-19fb1840cbf7")
            case .flags: GUID(known: "632ce23b-5167-435c-86d7-e903684aa80c")
            case .remoteMachine: GUID(known: "1aa47f51-7f93-4508-a271-81abb00c9cab")
            case .remoteUser: GUID(known: "f63073b7-0189-4ab0-95a4-6123cbfab862")
            case .localUser: GUID(known: "af043a0a-b34d-4f86-979c-c90371af6e66")
            }
        }

        public var isIdentity: Bool { [.remoteMachine, .remoteUser, .localUser].contains(self) }

        public var isAddress: Bool { self == .localAddress || self == .remoteAddress }
    }

    /// FWP_MATCH_TYPE.
    public enum Match: String, Hashable, Sendable, CaseIterable {
        case equal = "EQUAL"
        case notEqual = "NOT_EQUAL"
        case greater = "GREATER"
        case greaterOrEqual = "GREATER_OR_EQUAL"
        case less = "LESS"
        case lessOrEqual = "LESS_OR_EQUAL"
        case range = "RANGE"
        case prefix = "PREFIX"
        case notPrefix = "NOT_PREFIX"
        case flagsAllSet = "FLAGS_ALL_SET"
        case flagsAnySet = "FLAGS_ANY_SET"
        case flagsNoneSet = "FLAGS_NONE_SET"

        /// Two of them on one field match everything, since alternatives are joined by OR.
        public var isNegative: Bool { self == .notEqual || self == .notPrefix }
    }

    public enum Value: Hashable, Sendable {
        /// Of all the fields that are counted: ports, a protocol, an address type, a direction.
        case number(UInt64)
        case numbers(ClosedRange<UInt64>)
        case address(IPAddress)
        case addresses(ClosedRange<IPAddress>)
        case prefix(IPPrefix)
        case flags(ConditionFlags)
        /// An interface or an identity.
        case name(String)
    }

    public var field: Field
    public var match: Match
    public var value: Value

    public init(_ field: Field, _ match: Match, _ value: Value) {
        self.field = field
        self.match = match
        self.value = value
    }
}

/// The ways in which conditions are most often written.
extension Condition {
    public static let localAddressIsUnicast = Condition(
        .localAddressType, .equal, .number(UInt64(NLAddressType.unicast.rawValue)))

    public static func proto(_ number: UInt8) -> Condition { Condition(.proto, .equal, .number(UInt64(number))) }

    public static func localAddress(_ prefix: IPPrefix) -> Condition { within(.localAddress, prefix) }
    public static func remoteAddress(_ prefix: IPPrefix) -> Condition { within(.remoteAddress, prefix) }

    public static func localPort(_ range: ClosedRange<UInt16>) -> Condition { within(.localPort, range) }
    public static func remotePort(_ range: ClosedRange<UInt16>) -> Condition { within(.remotePort, range) }
    public static func icmpType(_ range: ClosedRange<UInt8>) -> Condition { within(.icmpType, range) }
    public static func icmpCode(_ range: ClosedRange<UInt8>) -> Condition { within(.icmpCode, range) }

    public static func interface(_ name: String) -> Condition { Condition(.interface, .equal, .name(name)) }

    public static func direction(_ direction: PacketDirection) -> Condition {
        Condition(.direction, .equal, .number(UInt64(direction.rawValue)))
    }

    public static func flags(_ match: Match, _ flags: ConditionFlags) -> Condition {
        Condition(.flags, match, .flags(flags))
    }

    /// A prefix of one address is that address.
    private static func within(_ field: Field, _ prefix: IPPrefix) -> Condition {
        prefix.length == (prefix.address.isIPv4 ? 32 : 128)
            ? Condition(field, .equal, .address(prefix.address)) : Condition(field, .prefix, .prefix(prefix))
    }

    private static func within<T: UnsignedInteger>(_ field: Field, _ range: ClosedRange<T>) -> Condition {
        range.lowerBound == range.upperBound
            ? Condition(field, .equal, .number(UInt64(range.lowerBound)))
            : Condition(field, .range, .numbers(UInt64(range.lowerBound)...UInt64(range.upperBound)))
    }
}
