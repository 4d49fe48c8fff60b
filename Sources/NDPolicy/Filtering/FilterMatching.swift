import NDCore

extension Filter {
    public func matches(_ packet: Packet) -> Bool { matches(packet) { _ in nil } }

    /// `interfaceIndex` resolves the names in conditions.
    public func matches(_ packet: Packet, interfaceIndex: (String) -> UInt32?) -> Bool {
        layer.family == packet.family && failing(packet, interfaceIndex) == nil
    }

    /// The first field whose conditions all fail, and what the packet has there.
    func failing(
        _ packet: Packet, _ interfaceIndex: (String) -> UInt32?
    ) -> (condition: String, found: String)? {
        for (field, conditions) in conditionGroups {
            let found: String
            if !field.isIdentity, let tested = field.packetField(layer.kind, packet.direction) {
                let value = packet.value(tested, layer.kind)
                let width = tested.width(layer.family)
                let holds = value.map { value in
                    conditions.contains { condition in
                        condition.values(layer.family, width: width, numbers: interfaceIndex)
                            .ranges.contains { $0.contains(value) }
                    }
                }
                if holds == true { continue }
                found = value.map { Self.text($0, field, layer.family) } ?? "nothing"
            } else {
                let name = packet.identity(field)
                if let name, conditions.contains(where: { ($0.value == .name(name)) != $0.match.isNegative }) { continue }
                found = name ?? "nothing"
            }
            return (conditions.map(\.text).joined(separator: " or "), found)
        }
        return nil
    }

    private static func text(_ value: UInt128, _ field: Condition.Field, _ family: IPFamily) -> String {
        switch field {
        case .localAddress, .remoteAddress:
            let low = UInt64(truncatingIfNeeded: value)
            let address =
                family == .v4
                ? IPAddress(high: 0, low: 0xffff_0000_0000 | low & 0xffff_ffff)
                : IPAddress(high: UInt64(truncatingIfNeeded: value >> 64), low: low)
            return "\(address)"
        case .flags:
            let set = ConditionFlags.named.filter { $0.packetBit.map { value & UInt128($0) != 0 } ?? false }
            return set.isEmpty ? "none" : set.map(\.name).joined(separator: ", ")
        default:
            return Condition(field, .equal, .number(UInt64(truncatingIfNeeded: value))).valueText
        }
    }
}

extension Packet {
    fileprivate func identity(_ field: Condition.Field) -> String? {
        switch field {
        case .remoteMachine: remoteMachine
        case .remoteUser: remoteUser
        case .localUser: localUser
        default: nil
        }
    }
}
