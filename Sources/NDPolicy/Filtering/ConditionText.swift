import NDCore

extension Condition {
    /// "IP_LOCAL_PORT = 5000-5010", "FLAGS any of IS_LOOPBACK, IS_FRAGMENT".
    public var text: String { "\(field.rawValue) \(Self.sign(match)) \(valueText)" }

    /// The value as a policy writes it.
    public var valueText: String {
        switch value {
        case .number(let number): numberText(number)
        case .numbers(let range): "\(range.lowerBound)-\(range.upperBound)"
        case .address(let address): "\(address)"
        case .addresses(let range): "\(range.lowerBound)-\(range.upperBound)"
        case .prefix(let prefix): "\(prefix)"
        case .flags(let flags): flags.names.joined(separator: ", ")
        case .name(let name): name
        }
    }

    private func numberText(_ number: UInt64) -> String {
        let small = UInt8(exactly: number)
        switch field {
        case .proto:
            // Protocols without a name have one that no policy may write.
            let name = small.map(IPProtocol.name)
            return name.flatMap { IPProtocol.number($0) } == nil ? "\(number)" : name ?? "\(number)"
        case .localAddressType, .destinationAddressType:
            return small.flatMap(NLAddressType.init(rawValue:))?.name ?? "\(number)"
        case .direction: return small.flatMap(PacketDirection.init(rawValue:)).map { "\($0)" } ?? "\(number)"
        default: return "\(number)"
        }
    }

    static func sign(_ match: Match) -> String {
        switch match {
        case .equal, .prefix, .range: "="
        case .notEqual, .notPrefix: "!="
        case .greater: ">"
        case .greaterOrEqual: ">="
        case .less: "<"
        case .lessOrEqual: "<="
        case .flagsAllSet: "all of"
        case .flagsAnySet: "any of"
        case .flagsNoneSet: "none of"
        }
    }
}
