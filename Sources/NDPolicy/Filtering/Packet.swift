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
    public var tcpFlags: TCPFlags
    /// 0 for anything but ICMP.
    public var icmpType: UInt8
    public var icmpCode: UInt8
    /// The flow that an ICMP error quotes, set only where the flow table has it: filters see the
    /// error itself, everything after them the quoted flow.
    public var quoted: FlowKey?

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
