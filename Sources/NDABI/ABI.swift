import CNDABI
import NDCore

// Between the C structs of nd.h and the control plane's values. No field is described twice: the
// structs are the imported ones.

extension nd_addr {
    public init(_ address: IPAddress) {
        self.init()
        quads = (address.high.bigEndian, address.low.bigEndian)
    }

    public var address: IPAddress {
        IPAddress(high: UInt64(bigEndian: quads.0), low: UInt64(bigEndian: quads.1))
    }
}

extension nd_flow_key {
    public init(_ key: FlowKey) {
        self.init()
        local = nd_addr(key.local.address)
        remote = nd_addr(key.remote.address)
        local_port = key.local.port.bigEndian
        remote_port = key.remote.port.bigEndian
        proto = key.proto
    }

    public var key: FlowKey {
        FlowKey(
            local: Endpoint(local.address, UInt16(bigEndian: local_port)),
            remote: Endpoint(remote.address, UInt16(bigEndian: remote_port)), proto: proto)
    }
}

extension nd_peer_key {
    public init(_ key: PeerKey) {
        self.init()
        local = nd_addr(key.local)
        remote = nd_addr(key.remote)
        context = key.context
    }

    public var key: PeerKey {
        PeerKey(local: local.address, remote: remote.address, context: context)
    }
}

/// The labels of nd.h's lists, in the order of their numbers.
public enum ABILabels {
    public static let dropReasons = labels(nd_drop_label)
    public static let passKinds = labels(nd_pass_label)
    public static let peerStates = labels(nd_peer_state_label)
    public static let events = labels(nd_event_label)

    public static func peerState(_ value: UInt32) -> String {
        nd_peer_state_label(value).map { String(cString: $0) } ?? "state-\(value)"
    }

    public static func dropReason(_ value: UInt32) -> String {
        nd_drop_label(value).map { String(cString: $0) } ?? "reason-\(value)"
    }

    public static func event(_ value: UInt32) -> String {
        nd_event_label(value).map { String(cString: $0) } ?? "event-\(value)"
    }

    public static func layer(_ value: UInt32) -> String {
        nd_layer_label(value).map { String(cString: $0) } ?? "layer-\(value)"
    }

    private static func labels(_ function: (UInt32) -> UnsafePointer<CChar>?) -> [String] {
        var all: [String] = []
        while let label = function(UInt32(all.count)) { all.append(String(cString: label)) }
        return all
    }
}
