import NDCore

extension Condition {
    func matches(_ packet: Packet) -> Bool {
        switch self {
        case .localAddressIsUnicast: packet.localAddress == .unicast
        case .proto(let number): packet.key.proto == number
        case .localAddress(let prefix): prefix.contains(packet.key.local.address)
        case .remoteAddress(let prefix): prefix.contains(packet.key.remote.address)
        case .localPort(let range): packet.hasPorts && range.contains(packet.key.local.port)
        case .remotePort(let range): packet.hasPorts && range.contains(packet.key.remote.port)
        case .icmpType(let range): range.contains(packet.icmpType)
        case .icmpCode(let range): range.contains(packet.icmpCode)
        }
    }
}

extension Filter {
    public func matches(_ packet: Packet) -> Bool {
        layer.family == packet.family
            && conditionGroups.allSatisfy { $0.conditions.contains { $0.matches(packet) } }
    }
}

extension ExpandedPolicy {
    /// The filter that decides at a layer: sublayers from heavy to light, inside one the first
    /// match by weight. Block over permit between sublayers, hard and soft actions and callout
    /// verdicts belong to the full WFP form; with terminating actions only, the first match is
    /// what they come to.
    public func decidingFilter(_ layer: Layer.Kind, _ packet: Packet) -> Filter? {
        filters.filter { $0.layer.kind == layer && $0.matches(packet) }.max { $1.isAsked(before: $0) }
    }
}

extension Filter {
    func isAsked(before other: Filter) -> Bool {
        (sublayer.weight, weight.value, UInt64(other.id)) > (other.sublayer.weight, other.weight.value, UInt64(id))
    }
}
