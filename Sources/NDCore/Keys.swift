/// Whom a negotiation is with: the pair of addresses and the quick-mode context that asked.
public struct PeerKey: Hashable, Sendable, CustomStringConvertible {
    public var local: IPAddress
    public var remote: IPAddress
    /// Which quick-mode provider context of the policy; 0 is the scenario's only one.
    public var context: UInt32

    public init(local: IPAddress, remote: IPAddress, context: UInt32 = 0) {
        self.local = local
        self.remote = remote
        self.context = context
    }

    /// The context of an engine that sends fragmented datagrams by SAs of their own. No policy has
    /// it, and BPF's peer table doesn't know it.
    public static let fragmentContext: UInt32 = 0xffff_ff00

    public var fragments: PeerKey { PeerKey(local: local, remote: remote, context: Self.fragmentContext) }
    public var isForFragments: Bool { context == Self.fragmentContext }

    public var description: String {
        context == 0 ? "\(local) > \(remote)" : "\(local) > \(remote) #\(context)"
    }
}

/// A connection as this host sees it: local side first, whichever side opened it.
/// ICMP flows carry the identifier in both ports; protocols without ports carry 0.
public struct FlowKey: Hashable, Sendable, CustomStringConvertible {
    public var local: Endpoint
    public var remote: Endpoint
    public var proto: UInt8

    public init(local: Endpoint, remote: Endpoint, proto: UInt8) {
        self.local = local
        self.remote = remote
        self.proto = proto
    }

    public var peer: PeerKey { PeerKey(local: local.address, remote: remote.address) }

    public var description: String { "\(IPProtocol.name(proto)) \(local) > \(remote)" }
}

public enum IPProtocol {
    public static let icmp: UInt8 = 1
    public static let tcp: UInt8 = 6
    public static let udp: UInt8 = 17
    public static let esp: UInt8 = 50
    public static let ah: UInt8 = 51
    public static let icmpv6: UInt8 = 58

    public static func name(_ number: UInt8) -> String {
        switch number {
        case icmp: "icmp"
        case tcp: "tcp"
        case udp: "udp"
        case esp: "esp"
        case ah: "ah"
        case icmpv6: "icmpv6"
        default: "proto-\(number)"
        }
    }

    public static func number(_ name: String) -> UInt8? {
        switch name {
        case "icmp": icmp
        case "tcp": tcp
        case "udp": udp
        case "esp": esp
        case "ah": ah
        case "icmpv6", "ipv6-icmp": icmpv6
        case "sctp": 132
        default: UInt8(name)
        }
    }
}
