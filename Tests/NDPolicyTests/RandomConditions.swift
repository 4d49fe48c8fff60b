import NDCore
import NDPolicy

/// Conditions of every field and match type, packets, and an evaluation of its own for both.
enum RandomConditions {
    private static let v4 = ["192.0.2.1", "192.0.2.2", "192.0.2.130", "198.51.100.9", "224.0.0.1", "0.0.0.0"]
    private static let v6 = ["2001:db8::1", "2001:db8::2", "2001:db8:1::1", "ff02::1", "fe80::1", "::"]
    private static let flags: [ConditionFlags] = [
        .isLoopback, .isIPsecSecured, .isFragment, [.isLoopback, .isIPsecSecured], .isReauthorize, [.isFragment, .isReauthorize],
    ]

    static func address(_ family: IPFamily, _ random: inout Seeded) -> IPAddress {
        IPAddress((family == .v4 ? v4 : v6).randomElement(using: &random) ?? "") ?? IPAddress(high: 0, low: 0)
    }

    static func next(_ family: IPFamily, _ random: inout Seeded) -> Condition {
        let fields = Condition.Field.allCases.filter { !$0.isIdentity }
        let field = fields.randomElement(using: &random) ?? .proto
        let ordered: [Condition.Match] = [.equal, .notEqual, .greater, .greaterOrEqual, .less, .lessOrEqual]
        let match = ordered.filter(field.matches.contains).randomElement(using: &random) ?? .equal
        switch field {
        case .localAddress, .remoteAddress:
            let a = address(family, &random)
            let b = address(family, &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: return Condition(field, match, .address(a))
            case 1: return Condition(field, .range, .addresses(min(a, b)...max(a, b)))
            default:
                let length = Int.random(in: 0...(family == .v4 ? 32 : 128), using: &random)
                guard let prefix = IPPrefix(a, length: length) else { return Condition(field, .equal, .address(a)) }
                return Condition(field, Bool.random(using: &random) ? .prefix : .notPrefix, .prefix(prefix))
            }
        case .flags:
            let matches: [Condition.Match] = [.equal, .notEqual, .flagsAllSet, .flagsAnySet, .flagsNoneSet]
            return .flags(matches.randomElement(using: &random) ?? .equal, flags.randomElement(using: &random) ?? [])
        case .interface:
            return Condition(field, Bool.random(using: &random) ? .equal : .notEqual, .name(Bool.random(using: &random) ? "eth0" : "eth1"))
        default:
            let most: UInt64 =
                switch field {
                case .localAddressType, .destinationAddressType: 4
                case .direction: 1
                case .proto: 60
                default: 30
                }
            let a = UInt64.random(in: 0...most, using: &random)
            let b = UInt64.random(in: 0...most, using: &random)
            return field.matches.contains(.range) && Int.random(in: 0..<3, using: &random) == 0
                ? Condition(field, .range, .numbers(min(a, b)...max(a, b))) : Condition(field, match, .number(a))
        }
    }

    static func packet(_ family: IPFamily, _ random: inout Seeded) -> Packet {
        let icmp: UInt8 = family == .v4 ? 1 : 58
        let proto: UInt8 = [icmp, 6, 17, 47].randomElement(using: &random) ?? 6
        let ported = proto == 6 || proto == 17
        func port() -> UInt16 { ported ? .random(in: 0...30, using: &random) : 0 }
        var packet = Packet(
            key: FlowKey(
                local: Endpoint(address(family, &random), port()), remote: Endpoint(address(family, &random), port()), proto: proto),
            localAddress: ([.unicast, .broadcast, .foreign] as [Packet.LocalAddress]).randomElement(using: &random) ?? .unicast,
            remoteIsBroadcast: Int.random(in: 0..<5, using: &random) == 0,
            icmpType: proto == icmp ? .random(in: 0...20, using: &random) : 0,
            icmpCode: proto == icmp ? .random(in: 0...3, using: &random) : 0)
        packet.interface = .random(in: 1...4, using: &random)
        packet.flags = ConditionFlags(rawValue: ([0, 1, 2, 3, 0x20, 0x21, 0x23] as [UInt32]).randomElement(using: &random) ?? 0)
        return packet
    }

    /// By the definition of each field, at OUTBOUND_TRANSPORT.
    static func values(_ packet: Packet) -> [PacketField: UInt128] {
        let icmp: UInt8 = packet.family == .v4 ? 1 : 58
        var values: [PacketField: UInt128] = [
            .localAddress: number(packet.key.local.address), .remoteAddress: number(packet.key.remote.address),
            .localAddressType: packet.localAddress == .unicast ? 1 : packet.localAddress == .broadcast ? 4 : type(packet.key.local.address),
            .remoteAddressType: packet.remoteIsBroadcast ? 4 : type(packet.key.remote.address),
            .proto: UInt128(packet.key.proto), .interface: UInt128(packet.interface), .direction: 0,
            .flags: (packet.flags.contains(.isLoopback) ? 1 : 0) + (packet.flags.contains(.isIPsecSecured) ? 2 : 0)
                + (packet.flags.contains(.isFragment) ? 4 : 0),
        ]
        if [6, 17].contains(packet.key.proto) {
            values[.localPort] = UInt128(packet.key.local.port)
            values[.remotePort] = UInt128(packet.key.remote.port)
        }
        if packet.key.proto == icmp {
            values[.icmpType] = UInt128(packet.icmpType)
            values[.icmpCode] = UInt128(packet.icmpCode)
        }
        return values
    }

    static func holds(_ conditions: [Condition], _ packet: Packet, _ interfaces: [String: UInt32]) -> Bool {
        var fields: [Condition.Field: Bool] = [:]
        for condition in conditions {
            fields[condition.field] = (fields[condition.field] ?? false) || holds(condition, packet, interfaces)
        }
        return !fields.values.contains(false)
    }

    private static func holds(_ condition: Condition, _ packet: Packet, _ interfaces: [String: UInt32]) -> Bool {
        let field: PacketField =
            switch condition.field {
            case .localAddressType: .localAddressType
            case .destinationAddressType: .remoteAddressType
            case .proto: .proto
            case .localAddress: .localAddress
            case .remoteAddress: .remoteAddress
            case .localPort: .localPort
            case .remotePort: .remotePort
            case .icmpType: .icmpType
            case .icmpCode: .icmpCode
            case .interface: .interface
            case .direction: .direction
            default: .flags
            }
        guard let value = values(packet)[field] else { return false }
        switch condition.value {
        case .number(let number): return compare(value, condition.match, UInt128(number))
        case .numbers(let range): return value >= UInt128(range.lowerBound) && value <= UInt128(range.upperBound)
        case .address(let address): return compare(value, condition.match, number(address))
        case .addresses(let range): return value >= number(range.lowerBound) && value <= number(range.upperBound)
        case .prefix(let prefix):
            let address = condition.field == .localAddress ? packet.key.local.address : packet.key.remote.address
            return prefix.contains(address) == (condition.match == .prefix)
        case .flags(let wanted):
            let set = packet.flags
            switch condition.match {
            case .equal: return set == wanted
            case .notEqual: return set != wanted
            case .flagsAllSet: return set.isSuperset(of: wanted)
            case .flagsAnySet: return !set.isDisjoint(with: wanted)
            default: return set.isDisjoint(with: wanted)
            }
        case .name(let name): return (interfaces[name] == packet.interface) == (condition.match == .equal)
        }
    }

    private static func compare(_ a: UInt128, _ match: Condition.Match, _ b: UInt128) -> Bool {
        switch match {
        case .equal: a == b
        case .notEqual: a != b
        case .greater: a > b
        case .greaterOrEqual: a >= b
        case .less: a < b
        default: a <= b
        }
    }

    private static func number(_ address: IPAddress) -> UInt128 { address.bytes.reduce(0) { $0 << 8 | UInt128($1) } }

    private static func type(_ address: IPAddress) -> UInt128 {
        address.bytes.allSatisfy { $0 == 0 } ? 0 : address.isMulticast ? 3 : 1
    }
}
