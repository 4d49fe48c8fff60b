extension Layer.Kind {
    /// "Filtering Conditions Available at Each Filtering Layer", for the fields of this module. At the layers
    /// that BPF serves it tells more than WFP: interface and direction too.
    public var fields: [Condition.Field] {
        let addresses: [Condition.Field] = [.localAddress, .remoteAddress]
        let ports: [Condition.Field] = [.proto, .localPort, .remotePort]
        let packet: [Condition.Field] =
            addresses + ports + [
                .localAddressType, .destinationAddressType, .icmpType, .icmpCode, .interface, .direction, .flags,
            ]
        switch shown ?? self {
        case .ikeext: return addresses
        case .ipsec: return addresses + ports
        case .outboundTransport, .inboundTransport, .datagramData: return packet
        case .aleAuthConnect, .aleAuthRecvAccept: return packet + [.remoteMachine, .remoteUser, .localUser]
        case .stream: return addresses + [.localAddressType, .localPort, .remotePort, .direction, .flags]
        case .inboundIPPacket, .outboundIPPacket: return addresses + [.localAddressType, .interface, .flags]
        case .ipForward: return [.destinationAddressType, .interface, .flags]
        default: return []
        }
    }
}

extension Condition.Field {
    /// What may be asked of it.
    public var matches: [Condition.Match] {
        let ordered: [Condition.Match] = [.equal, .notEqual, .greater, .greaterOrEqual, .less, .lessOrEqual, .range]
        switch self {
        case .localAddress, .remoteAddress: return ordered + [.prefix, .notPrefix]
        case .proto, .localPort, .remotePort, .icmpType, .icmpCode: return ordered
        case .localAddressType, .destinationAddressType, .direction, .interface: return [.equal, .notEqual]
        case .remoteMachine, .remoteUser, .localUser: return [.equal, .notEqual]
        case .flags: return [.equal, .notEqual, .flagsAllSet, .flagsAnySet, .flagsNoneSet]
        }
    }

    /// The largest number; nil: it is not counted.
    var largest: UInt64? {
        switch self {
        case .proto, .icmpType, .icmpCode: 255
        case .localPort, .remotePort: 65535
        case .localAddressType, .destinationAddressType: 4
        case .direction: 1
        default: nil
        }
    }
}
