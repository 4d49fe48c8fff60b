import NDCore

public struct TCPFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let fin = TCPFlags(rawValue: 0x01)
    public static let syn = TCPFlags(rawValue: 0x02)
    public static let rst = TCPFlags(rawValue: 0x04)
    public static let ack = TCPFlags(rawValue: 0x10)
}

/// What the decision tables need to know of a packet.
public struct Packet: Hashable, Sendable {
    /// What this host's address table says of the packet's local side.
    public enum LocalAddress: Hashable, Sendable {
        case unicast, broadcast
        /// Forwarded, bridged, or spoofed.
        case foreign
    }

    public var isIP: Bool
    /// Local side first, whichever way the packet goes.
    public var key: FlowKey
    public var localAddress: LocalAddress
    /// The remote address is a directed broadcast address of one of this host's networks.
    public var remoteIsBroadcast: Bool
    /// The remote address is one of this host's own.
    public var remoteIsOwn = false
    /// The socket behind an IKE port is the daemon's, or there is none.
    public var isOfDaemon = true
    public var tcpFlags: TCPFlags
    /// 0 for anything but ICMP.
    public var icmpType: UInt8
    public var icmpCode: UInt8
    /// The flow that an ICMP error quotes, set only where the flow table has it: filters see the
    /// error itself, everything after them the quoted flow.
    public var quoted: FlowKey?
    /// The index of the interface that it comes or goes by.
    public var interface: UInt32 = 0
    /// Where a layer sees packets of both directions, as STREAM does.
    public var direction: PacketDirection?
    public var flags: ConditionFlags = []
    /// What authentication said of the ends, where it did.
    public var remoteMachine: String?
    public var remoteUser: String?
    public var localUser: String?

    public init(
        key: FlowKey, isIP: Bool = true, localAddress: LocalAddress = .unicast,
        remoteIsBroadcast: Bool = false, tcpFlags: TCPFlags = [], icmpType: UInt8 = 0,
        icmpCode: UInt8 = 0, quoted: FlowKey? = nil
    ) {
        self.key = key
        self.isIP = isIP
        self.localAddress = localAddress
        self.remoteIsBroadcast = remoteIsBroadcast
        self.tcpFlags = tcpFlags
        self.icmpType = icmpType
        self.icmpCode = icmpCode
        self.quoted = quoted
    }

    public var family: IPFamily { key.remote.address.isIPv4 ? .v4 : .v6 }

    /// Whose entries in the flow and peer tables decide.
    public var flowKey: FlowKey { quoted ?? key }

    public var isICMP: Bool { key.proto == IPProtocol.icmp || key.proto == IPProtocol.icmpv6 }

    /// It says something of another packet, which it quotes.
    public var isICMPError: Bool {
        switch key.proto {
        case IPProtocol.icmp where family == .v4: [3, 4, 5, 11, 12].contains(icmpType)
        case IPProtocol.icmpv6 where family == .v6: icmpType < 128
        default: false
        }
    }

    /// A TCP SYN without ACK; other protocols have no sign of it.
    public var opensConnection: Bool {
        key.proto == IPProtocol.tcp && tcpFlags.intersection([.syn, .ack]) == .syn
    }

    /// TCP, UDP, SCTP, DCCP, UDP-Lite.
    public var hasPorts: Bool { [IPProtocol.tcp, IPProtocol.udp, 132, 33, 136].contains(key.proto) }

    /// The packet as the flow table sees it.
    func following() -> Packet {
        var packet = self
        packet.key = flowKey
        packet.quoted = nil
        return packet
    }
}

extension Packet {
    /// What it says in a field; nil where it has no such field, as a TCP segment has no ICMP type.
    func value(_ field: PacketField, _ layer: Layer.Kind) -> UInt128? {
        switch field {
        case .localAddress: key.local.address.number
        case .remoteAddress: key.remote.address.number
        case .localAddressType:
            UInt128(
                Self.type(
                    key.local.address, isUnicast: localAddress == .unicast, isBroadcast: localAddress == .broadcast
                ).rawValue)
        case .remoteAddressType:
            UInt128(Self.type(key.remote.address, isUnicast: false, isBroadcast: remoteIsBroadcast).rawValue)
        case .proto: UInt128(key.proto)
        case .localPort: hasPorts ? UInt128(key.local.port) : nil
        case .remotePort: hasPorts ? UInt128(key.remote.port) : nil
        case .icmpType: isICMPOfFamily ? UInt128(icmpType) : nil
        case .icmpCode: isICMPOfFamily ? UInt128(icmpCode) : nil
        case .interface: UInt128(interface)
        case .direction: (layer.direction ?? direction).map { UInt128($0.rawValue) }
        case .flags: UInt128(flags.packetBits)
        // Here by its name.
        case .remoteMachine: nil
        }
    }

    private var isICMPOfFamily: Bool { key.proto == (family == .v4 ? IPProtocol.icmp : IPProtocol.icmpv6) }

    /// What the host's address table doesn't know is judged by its form. Nothing tells an anycast address
    /// from a unicast one.
    private static func type(_ address: IPAddress, isUnicast: Bool, isBroadcast: Bool) -> NLAddressType {
        if isUnicast { return .unicast }
        if isBroadcast || (address.isIPv4 && address.low & 0xffff_ffff == 0xffff_ffff) { return .broadcast }
        if address.isUnspecified { return .unspecified }
        return address.isMulticast ? .multicast : .unicast
    }
}
