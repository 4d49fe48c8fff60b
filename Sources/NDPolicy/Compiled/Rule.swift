import CNDABI
import NDABI
import NDCore

/// What BPF does with a packet that a rule matches (enum nd_action).
public struct RuleAction: Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt8

    public init?(rawValue: UInt8) {
        guard UInt32(rawValue) < ND_ACTION_COUNT.rawValue else { return nil }
        self.rawValue = rawValue
    }

    private init(_ action: nd_action) { rawValue = UInt8(truncatingIfNeeded: action.rawValue) }

    public static let permit = RuleAction(ND_ACTION_PERMIT)
    public static let block = RuleAction(ND_ACTION_BLOCK)
    public static let negotiateDiscover = RuleAction(ND_ACTION_NEGOTIATE_DISCOVER)
    public static let requireOutbound = RuleAction(ND_ACTION_REQUIRE_OUTBOUND)
    public static let persistSecurity = RuleAction(ND_ACTION_PERSIST_SECURITY)
    public static let initiateSecure = RuleAction(ND_ACTION_INITIATE_SECURE)

    public static var all: [RuleAction] {
        (0..<UInt8(truncatingIfNeeded: ND_ACTION_COUNT.rawValue)).compactMap(RuleAction.init)
    }

    public var description: String { nd_action_label(UInt32(rawValue)).map { String(cString: $0) } ?? "?" }
}

/// One filter for BPF: every condition that is present must hold. Converts to nd_rule and back
/// without loss.
public struct Rule: Hashable, Sendable {
    /// The filter it was compiled from; the IPv4 one of a pair of twins.
    public var id: UInt32
    public var context: UInt32
    public var layer: DatapathLayer
    public var action: RuleAction
    public var family: IPFamily?
    public var proto: UInt8?
    public var local: IPPrefix?
    public var remote: IPPrefix?
    public var localPort: ClosedRange<UInt16>?
    public var remotePort: ClosedRange<UInt16>?
    public var icmpType: ClosedRange<UInt8>?
    public var icmpCode: ClosedRange<UInt8>?

    public init(
        id: UInt32, layer: DatapathLayer, action: RuleAction, context: UInt32 = 0, family: IPFamily? = nil,
        proto: UInt8? = nil, local: IPPrefix? = nil, remote: IPPrefix? = nil,
        localPort: ClosedRange<UInt16>? = nil, remotePort: ClosedRange<UInt16>? = nil,
        icmpType: ClosedRange<UInt8>? = nil, icmpCode: ClosedRange<UInt8>? = nil
    ) {
        self.id = id
        self.layer = layer
        self.action = action
        self.context = context
        self.family = family
        self.proto = proto
        self.local = local
        self.remote = remote
        self.localPort = localPort
        self.remotePort = remotePort
        self.icmpType = icmpType
        self.icmpCode = icmpCode
    }

    public func matches(_ packet: Packet) -> Bool {
        (family.map { $0 == packet.family } ?? true)
            && (proto.map { $0 == packet.key.proto } ?? true)
            && (local.map { $0.contains(packet.key.local.address) } ?? true)
            && (remote.map { $0.contains(packet.key.remote.address) } ?? true)
            && (localPort.map { packet.hasPorts && $0.contains(packet.key.local.port) } ?? true)
            && (remotePort.map { packet.hasPorts && $0.contains(packet.key.remote.port) } ?? true)
            && (icmpType.map { $0.contains(packet.icmpType) } ?? true)
            && (icmpCode.map { $0.contains(packet.icmpCode) } ?? true)
    }
}

extension Rule {
    public var abi: nd_rule {
        var rule = nd_rule()
        rule.id = id
        rule.context = context
        rule.layer = layer.rawValue
        rule.action = action.rawValue
        var match: UInt32 = 0
        if let family {
            match |= ND_MATCH_FAMILY
            rule.family = family.rawValue
        }
        if let proto {
            match |= ND_MATCH_PROTO
            rule.proto = proto
        }
        if let local {
            match |= ND_MATCH_LOCAL
            rule.local = nd_addr(local.address)
            rule.local_prefix = UInt8(truncatingIfNeeded: local.mappedLength)
        }
        if let remote {
            match |= ND_MATCH_REMOTE
            rule.remote = nd_addr(remote.address)
            rule.remote_prefix = UInt8(truncatingIfNeeded: remote.mappedLength)
        }
        if let localPort {
            match |= ND_MATCH_LOCAL_PORT
            (rule.local_port_min, rule.local_port_max) = (localPort.lowerBound, localPort.upperBound)
        }
        if let remotePort {
            match |= ND_MATCH_REMOTE_PORT
            (rule.remote_port_min, rule.remote_port_max) = (remotePort.lowerBound, remotePort.upperBound)
        }
        if let icmpType {
            match |= ND_MATCH_ICMP_TYPE
            (rule.icmp_type_min, rule.icmp_type_max) = (icmpType.lowerBound, icmpType.upperBound)
        }
        if let icmpCode {
            match |= ND_MATCH_ICMP_CODE
            (rule.icmp_code_min, rule.icmp_code_max) = (icmpCode.lowerBound, icmpCode.upperBound)
        }
        rule.match = UInt16(truncatingIfNeeded: match)
        return rule
    }

    /// nil for a rule that this module can't have written.
    public init?(abi rule: nd_rule) {
        guard let layer = DatapathLayer(rawValue: rule.layer), let action = RuleAction(rawValue: rule.action)
        else { return nil }
        func range<T: Comparable>(_ bit: UInt32, _ low: T, _ high: T) -> ClosedRange<T>?? {
            guard UInt32(rule.match) & bit != 0 else { return .some(nil) }
            return low <= high ? .some(low...high) : nil
        }
        func prefix(_ bit: UInt32, _ address: nd_addr, _ bits: UInt8) -> IPPrefix?? {
            guard UInt32(rule.match) & bit != 0 else { return .some(nil) }
            let address = address.address
            guard
                let prefix = IPPrefix(address, length: Int(bits) - (address.isIPv4 ? 96 : 0))
            else { return nil }
            return .some(prefix)
        }
        guard let local = prefix(ND_MATCH_LOCAL, rule.local, rule.local_prefix),
            let remote = prefix(ND_MATCH_REMOTE, rule.remote, rule.remote_prefix),
            let localPort = range(ND_MATCH_LOCAL_PORT, rule.local_port_min, rule.local_port_max),
            let remotePort = range(ND_MATCH_REMOTE_PORT, rule.remote_port_min, rule.remote_port_max),
            let icmpType = range(ND_MATCH_ICMP_TYPE, rule.icmp_type_min, rule.icmp_type_max),
            let icmpCode = range(ND_MATCH_ICMP_CODE, rule.icmp_code_min, rule.icmp_code_max)
        else { return nil }
        var family: IPFamily?
        if UInt32(rule.match) & ND_MATCH_FAMILY != 0 {
            guard let given = IPFamily(rawValue: rule.family) else { return nil }
            family = given
        }
        self.init(
            id: rule.id, layer: layer, action: action, context: rule.context, family: family,
            proto: UInt32(rule.match) & ND_MATCH_PROTO != 0 ? rule.proto : nil, local: local, remote: remote,
            localPort: localPort, remotePort: remotePort, icmpType: icmpType, icmpCode: icmpCode)
    }
}
