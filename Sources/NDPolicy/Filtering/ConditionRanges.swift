import NDCore

/// Values of one field as ranges that are sorted and don't touch.
struct RangeSet: Hashable, Sendable {
    private(set) var ranges: [ClosedRange<UInt128>]

    static let none = RangeSet([])

    init(_ ranges: [ClosedRange<UInt128>]) {
        var merged: [ClosedRange<UInt128>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            guard let last = merged.last else {
                merged.append(range)
                continue
            }
            // Neighbours become one: 1...2 and 3...4 are 1...4.
            let (next, overflow) = last.upperBound.addingReportingOverflow(1)
            if overflow || range.lowerBound <= next {
                merged[merged.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        self.ranges = merged
    }

    func union(_ other: RangeSet) -> RangeSet { RangeSet(ranges + other.ranges) }

    func intersection(_ other: RangeSet) -> RangeSet {
        RangeSet(
            ranges.flatMap { a in
                other.ranges.compactMap { b in
                    let low = max(a.lowerBound, b.lowerBound)
                    let high = min(a.upperBound, b.upperBound)
                    return low <= high ? low...high : nil
                }
            })
    }

    /// Everything else up to the field's largest value.
    func complement(_ most: UInt128) -> RangeSet {
        var result: [ClosedRange<UInt128>] = []
        var next: UInt128 = 0
        for range in ranges {
            if range.lowerBound > next { result.append(next...(range.lowerBound - 1)) }
            guard range.upperBound < most else { return RangeSet(result) }
            next = range.upperBound + 1
        }
        result.append(next...most)
        return RangeSet(result)
    }
}

extension IPAddress {
    /// `PacketField.localAddress`: 32 bits of an IPv4 address, 128 of an IPv6 one.
    var number: UInt128 { isIPv4 ? UInt128(low & 0xffff_ffff) : UInt128(high) << 64 | UInt128(low) }
}

extension Condition.Field {
    /// What BPF tests; nil for what no packet carries. Where packets of both directions pass, which end is the
    /// destination depends on the packet's.
    func packetField(_ layer: Layer.Kind, _ direction: PacketDirection? = nil) -> PacketField? {
        switch self {
        case .localAddressType: .localAddressType
        case .destinationAddressType: (layer.direction ?? direction) == .inbound ? .localAddressType : .remoteAddressType
        case .proto: .proto
        case .localAddress: .localAddress
        case .remoteAddress: .remoteAddress
        case .localPort: .localPort
        case .remotePort: .remotePort
        case .icmpType: .icmpType
        case .icmpCode: .icmpCode
        case .interface: .interface
        case .direction: .direction
        case .flags: .flags
        case .remoteMachine: .remoteMachine
        case .remoteUser, .localUser: nil
        }
    }
}

extension Layer.Kind {
    /// nil where packets of both directions pass.
    var direction: PacketDirection? { (shown ?? self).datapathLayer?.direction }
}

extension Condition {
    /// Every value of the field that fulfils it. A value of the other family fulfils nothing.
    /// `numbers`: of names, an interface's index or a machine's number.
    func values(_ family: IPFamily, width: Int, numbers: (String) -> UInt32?) -> RangeSet {
        let most: UInt128 = width >= 128 ? .max : UInt128(1) << UInt128(width) - 1
        func bounded(_ low: UInt128, _ high: UInt128) -> RangeSet {
            low <= high && low <= most ? RangeSet([low...min(high, most)]) : .none
        }
        let given: RangeSet
        switch value {
        case .number(let number): given = bounded(UInt128(number), UInt128(number))
        case .numbers(let range): given = bounded(UInt128(range.lowerBound), UInt128(range.upperBound))
        case .address(let address):
            guard address.isIPv4 == (family == .v4) else { return .none }
            given = bounded(address.number, address.number)
        case .addresses(let range):
            guard range.lowerBound.isIPv4 == (family == .v4), range.upperBound.isIPv4 == (family == .v4)
            else { return .none }
            given = bounded(range.lowerBound.number, range.upperBound.number)
        case .prefix(let prefix):
            guard prefix.address.isIPv4 == (family == .v4) else { return .none }
            let bits = UInt128(width - prefix.length)
            let host: UInt128 = bits >= 128 ? .max : UInt128(1) << bits - 1
            given = bounded(prefix.address.number, prefix.address.number | host)
        case .flags(let flags): return flagValues(flags, most)
        case .name(let name):
            guard let index = numbers(name) else { return match == .notEqual ? bounded(0, most) : .none }
            given = bounded(UInt128(index), UInt128(index))
        }
        let low = given.ranges.first?.lowerBound
        let high = given.ranges.last?.upperBound
        switch match {
        case .equal, .range, .prefix: return given
        case .notEqual, .notPrefix: return given.complement(most)
        case .greater: return high.map { $0 < most ? bounded($0 + 1, most) : .none } ?? .none
        case .greaterOrEqual: return low.map { bounded($0, most) } ?? .none
        case .less: return low.map { $0 > 0 ? bounded(0, $0 - 1) : .none } ?? .none
        case .lessOrEqual: return high.map { bounded(0, $0) } ?? .none
        case .flagsAllSet, .flagsAnySet, .flagsNoneSet: return .none
        }
    }

    /// Flags that no packet carries are never set.
    private func flagValues(_ flags: ConditionFlags, _ most: UInt128) -> RangeSet {
        let mask = UInt128(flags.packetBits)
        let unseen = !flags.unseen.isEmpty
        func each(_ holds: (UInt128) -> Bool) -> RangeSet {
            RangeSet((0...min(most, 255)).filter(holds).map { $0...$0 })
        }
        switch match {
        case .equal: return unseen ? .none : each { $0 == mask }
        case .notEqual: return unseen ? each { _ in true } : each { $0 != mask }
        case .flagsAllSet: return unseen ? .none : each { $0 & mask == mask }
        case .flagsAnySet: return each { $0 & mask != 0 }
        case .flagsNoneSet: return each { $0 & mask == 0 }
        default: return .none
        }
    }
}
