import NDCore

extension RangeFilter: CustomStringConvertible {
    /// "block when IP_REMOTE_ADDRESS 192.0.2.0-192.0.2.255, IP_PROTOCOL 6, 17 (hard)".
    public var description: String {
        let conditions = fields.sorted { $0.key < $1.key }.map { field, ranges in
            let values = ranges.map { range in
                range.lowerBound == range.upperBound
                    ? text(range.lowerBound, field) : "\(text(range.lowerBound, field))-\(text(range.upperBound, field))"
            }
            return "\(field.label) \(values.isEmpty ? "nothing" : values.joined(separator: "|"))"
        }
        return "\(verdict)" + (conditions.isEmpty ? "" : " when " + conditions.joined(separator: ", "))
            + (isHard ? " (hard)" : "")
    }

    private func text(_ value: UInt128, _ field: PacketField) -> String {
        switch field {
        case .localAddress, .remoteAddress: "\(IPAddress(fieldValue: value, family))"
        default: "\(value)"
        }
    }
}

extension RangeFilter.Verdict: CustomStringConvertible {
    public var description: String {
        switch self {
        case .permit: "permit"
        case .block: "block"
        case .callout(let action, let context): context == 0 ? "\(action)" : "\(action) context \(context)"
        case .program(let number, let inspection, let changes):
            "program \(number)" + (inspection ? " inspects" : "") + (changes ? " and may change the packet" : "")
        case .unregistered(let terminating): terminating ? "unregistered callout: block" : "unregistered callout: go on"
        }
    }
}
