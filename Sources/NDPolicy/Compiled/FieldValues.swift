import CNDABI
import NDCore

/// What a packet says in each field; nil where it has no such field.
public struct FieldValues: Hashable, Sendable {
    private var values: [UInt128?]

    public init() { values = Array(repeating: nil, count: PacketField.allCases.count) }

    public subscript(field: PacketField) -> UInt128? {
        get { values[Int(field.rawValue)] }
        set { values[Int(field.rawValue)] = newValue }
    }

    /// As BPF sees the packet at a layer. An IPv6 packet may carry a mapped address: the family is the packet's.
    public init(
        _ packet: Packet, _ layer: DatapathLayer, _ family: IPFamily, interface: UInt32 = 0, flags: PacketFlags = [],
        machine: UInt16 = 0
    ) {
        self.init()
        if machine != 0 { self[.remoteMachine] = UInt128(machine) }
        let (local, remote) = (packet.key.local, packet.key.remote)
        self[.localAddress] = local.address.fieldValue(family)
        self[.remoteAddress] = remote.address.fieldValue(family)
        self[.localAddressType] = UInt128(
            AddressType(local.address, family, isUnicast: packet.localAddress == .unicast, isBroadcast: packet.localAddress == .broadcast).rawValue)
        self[.remoteAddressType] = UInt128(
            AddressType(remote.address, family, isUnicast: false, isBroadcast: packet.remoteIsBroadcast).rawValue)
        self[.proto] = UInt128(packet.key.proto)
        if packet.hasPorts {
            self[.localPort] = UInt128(local.port)
            self[.remotePort] = UInt128(remote.port)
        }
        if packet.key.proto == (family == .v4 ? IPProtocol.icmp : IPProtocol.icmpv6) {
            self[.icmpType] = UInt128(packet.icmpType)
            self[.icmpCode] = UInt128(packet.icmpCode)
        }
        self[.interface] = UInt128(interface)
        self[.direction] = UInt128((layer.direction ?? packet.direction ?? .outbound).rawValue)
        self[.flags] = UInt128(flags.rawValue)
    }
}

/// NL_ADDRESS_TYPE. Nothing in a packet tells an anycast address from a unicast one.
public enum AddressType: UInt32, Hashable, Sendable, CaseIterable {
    case unspecified, unicast, anycast, multicast, broadcast

    /// What the host's address table doesn't know is judged by its form.
    init(_ address: IPAddress, _ family: IPFamily, isUnicast: Bool, isBroadcast: Bool) {
        let value = address.fieldValue(family)
        if isUnicast {
            self = .unicast
        } else if isBroadcast || (family == .v4 && value == 0xffff_ffff) {
            self = .broadcast
        } else if value == 0 {
            self = .unspecified
        } else {
            self = (family == .v4 ? value >> 28 == 0xe : value >> 120 == 0xff) ? .multicast : .unicast
        }
    }
}

extension DatapathLayer {
    /// nil where packets of both directions pass.
    public var direction: PacketDirection? {
        switch self {
        case .outboundTransport, .aleAuthConnect, .outboundIPPacket: .outbound
        case .stream, .datagramData: nil
        default: .inbound
        }
    }

    /// "OUTBOUND_TRANSPORT_V4".
    func name(_ family: IPFamily) -> String { "\(self)_V\(family.rawValue)" }
}

extension IPAddress {
    /// 32 bits of an IPv4 address, 128 of an IPv6 one.
    public func fieldValue(_ family: IPFamily) -> UInt128 {
        family == .v4 ? UInt128(low & 0xffff_ffff) : UInt128(high) << 64 | UInt128(low)
    }

    public init(fieldValue value: UInt128, _ family: IPFamily) {
        switch family {
        case .v4: self.init(high: 0, low: 0xffff_0000_0000 | UInt64(truncatingIfNeeded: value & 0xffff_ffff))
        case .v6: self.init(high: UInt64(truncatingIfNeeded: value >> 64), low: UInt64(truncatingIfNeeded: value))
        }
    }
}

extension PacketField {
    /// WFP's name.
    public var label: String { nd_field_label(UInt32(rawValue)).map { String(cString: $0) } ?? "?" }

    func largest(_ family: IPFamily) -> UInt128 {
        let width = width(family)
        return width >= 128 ? UInt128.max : UInt128(1) << UInt128(width) - 1
    }
}

extension RangeFilter {
    public func matches(_ values: FieldValues) -> Bool {
        fields.allSatisfy { field, ranges in
            guard let value = values[field] else { return false }
            return ranges.contains { $0.contains(value) }
        }
    }
}
