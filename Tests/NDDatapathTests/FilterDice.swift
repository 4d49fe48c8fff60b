import CNDABI
import NDABI
import NDCore
import NDPolicy

/// Random filter sets and packets that meet: packets are drawn from the edges of the filters' ranges.
struct FilterDice {
    var random: Seeded
    /// How many filters each field, shape of range and kind of verdict was drawn for.
    private(set) var drawn: [String: Int] = [:]

    /// Programs that the test registers; others nobody did.
    static func callout(_ number: UInt32) -> CalloutAnswer? {
        switch number % 8 {
        case 1: .goOn
        case 2: .permit
        case 3: .block
        case 4: .veto
        default: nil
        }
    }

    static let shapes = ["one value", "prefix", "range", "not equal", "at least", "at most", "several", "everything", "nothing"]
    static let answers = ["answer goOn", "answer permit", "answer block", "answer veto", "no answer"]
    static let verdicts = ["permit", "block", "callout", "program", "inspection", "unregistered terminating", "unregistered inspection"]

    init(random: Seeded) { self.random = random }

    private mutating func note(_ what: String) { drawn[what, default: 0] += 1 }

    mutating func filters(_ count: Int) -> [RangeFilter] {
        let sublayers = random.pick([1, 1, 2, 3, 8, 8])
        let hardness = random.pick([2, 8, 8])
        // Large sets of one kind of filter are what hosts have; mixed ones are what breaks tables.
        let layers = random.oneIn(2) ? DatapathLayer.all : [random.pick(DatapathLayer.all)]
        let families = random.oneIn(2) ? IPFamily.allCases : [random.pick(IPFamily.allCases)]
        let testing = random.pick([1, 2, 2, 3, 5])
        return (0..<count).map { index in
            let family = random.pick(families)
            var fields: [PacketField: [ClosedRange<UInt128>]] = [:]
            for _ in 0..<random.below(testing + 1) {
                let field = random.pick(PacketField.allCases)
                fields[field] = ranges(field, family)
                note("\(field)")
            }
            let isHard = random.oneIn(hardness)
            if isHard { note("hard") }
            return RangeFilter(
                id: UInt64(index + 1), layer: random.pick(layers), family: family, sublayer: random.below(sublayers),
                weight: random.oneIn(3) ? UInt64(random.below(4)) : random.next(), fields: fields, verdict: verdict(),
                isHard: isHard)
        }
    }

    private mutating func verdict() -> RangeFilter.Verdict {
        let name = random.pick(Self.verdicts + ["permit", "block", "callout", "callout"])
        note(name)
        switch name {
        case "permit": return .permit
        case "block": return .block
        case "callout": return .callout(random.pick(RuleAction.all.filter { $0 != .permit && $0 != .block }), context: UInt32(random.below(3)))
        case "program", "inspection":
            // Those that the test registers twice as often: what answers is what arbitration is about.
            let number = UInt32(random.oneIn(2) ? random.below(16) : 1 + random.below(4))
            if name == "program" { note(Self.callout(number).map { "answer \($0)" } ?? "no answer") }
            let changes = random.oneIn(4)
            if changes { note("changes") }
            return .program(number, inspection: name == "inspection", changes: changes)
        default: return .unregistered(terminating: name == "unregistered terminating")
        }
    }

    private mutating func ranges(_ field: PacketField, _ family: IPFamily) -> [ClosedRange<UInt128>] {
        let width = field.width(family)
        let largest = width == 128 ? UInt128.max : UInt128(1) << UInt128(width) - 1
        let shape = random.pick(Self.shapes)
        note(shape)
        let a = value(field, family), b = value(field, family)
        switch shape {
        case "one value": return [a...a]
        case "prefix":
            let host = UInt128(1) << UInt128(random.below(width)) - 1
            return [a & ~host...a | host]
        case "range": return [min(a, b)...max(a, b)]
        case "not equal": return (a > 0 ? [0...(a - 1)] : []) + (a < largest ? [(a + 1)...largest] : [])
        case "at least": return [a...largest]
        case "at most": return [0...a]
        case "everything": return [0...largest]
        case "nothing": return []
        default: return Self.union((0..<2 + random.below(6)).map { _ in
            let c = value(field, family), d = random.oneIn(2) ? c : value(field, family)
            return min(c, d)...max(c, d)
        })
        }
    }

    /// Sorted, and ranges that touch made one.
    static func union(_ ranges: [ClosedRange<UInt128>]) -> [ClosedRange<UInt128>] {
        var result: [ClosedRange<UInt128>] = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = result.last, last.upperBound == .max || range.lowerBound <= last.upperBound + 1 {
                result[result.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                result.append(range)
            }
        }
        return result
    }

    /// Dense enough that two draws meet, with the ends of the field's values among them.
    private mutating func value(_ field: PacketField, _ family: IPFamily) -> UInt128 {
        let width = field.width(family)
        let largest = width == 128 ? UInt128.max : UInt128(1) << UInt128(width) - 1
        switch field {
        case .localAddressType, .remoteAddressType: return UInt128(random.below(5))
        case .proto: return random.oneIn(4) ? UInt128(random.below(256)) : UInt128(random.pick(Dice.protocols))
        case .direction: return UInt128(random.below(2))
        case .flags: return UInt128(random.below(8))
        case .interface where random.oneIn(2): return UInt128(1 + random.below(4))
        default: break
        }
        switch random.below(8) {
        case 0: return 0
        case 1: return largest
        case 2, 3: return UInt128(random.next()) << 64 & largest | UInt128(random.next()) & largest
        // Few networks, so that values of different filters lie between each other.
        default:
            let high = UInt128(random.below(4)) << UInt128(width - 2)
            return high | UInt128(random.below(1 << min(width - 2, 10)))
        }
    }

    /// A packet at a layer for which the set has filters, at or beside the edges of one of them.
    mutating func packet(_ filters: [RangeFilter]) -> FilterPacket {
        let aim = filters.isEmpty ? nil : random.pick(filters)
        let family = random.oneIn(16) ? random.pick(IPFamily.allCases) : aim?.family ?? random.pick(IPFamily.allCases)
        let layer = random.oneIn(16) ? random.pick(DatapathLayer.all) : aim?.layer ?? random.pick(DatapathLayer.all)
        var values: [PacketField: UInt128] = [:]
        for field in PacketField.allCases {
            let width = field.width(family)
            let largest = width == 128 ? UInt128.max : UInt128(1) << UInt128(width) - 1
            var value = value(field, family)
            if let ranges = aim?.fields[field], !ranges.isEmpty, aim?.family == family {
                let range = random.pick(ranges)
                switch random.below(8) {
                case 0: value = range.lowerBound > 0 ? range.lowerBound - 1 : 0
                case 1: value = range.upperBound < largest ? range.upperBound + 1 : largest
                case 2, 3, 4: value = range.lowerBound
                case 5: break
                default: value = range.upperBound
                }
            }
            values[field] = min(value, largest)
        }
        return FilterPacket(layer: layer, family: family, values)
    }
}

/// A packet that has, as far as a packet can, the values that were drawn.
struct FilterPacket {
    var layer: DatapathLayer
    var family: IPFamily
    var packet: Packet
    var interface: UInt32
    var flags: PacketFlags
    var machine: UInt16

    init(layer: DatapathLayer, family: IPFamily, _ values: [PacketField: UInt128]) {
        func number(_ field: PacketField) -> UInt64 { UInt64(truncatingIfNeeded: values[field] ?? 0) }
        self.layer = layer
        self.family = family
        let local = IPAddress(fieldValue: values[.localAddress] ?? 0, family)
        let remote = IPAddress(fieldValue: values[.remoteAddress] ?? 0, family)
        packet = Packet(
            key: FlowKey(
                local: Endpoint(local, UInt16(truncatingIfNeeded: number(.localPort))),
                remote: Endpoint(remote, UInt16(truncatingIfNeeded: number(.remotePort))),
                proto: UInt8(truncatingIfNeeded: number(.proto))),
            localAddress: Self.unicast.contains(local) ? .unicast : Self.broadcast == local ? .broadcast : .foreign,
            remoteIsBroadcast: Self.broadcast == remote, icmpType: UInt8(truncatingIfNeeded: number(.icmpType)),
            icmpCode: UInt8(truncatingIfNeeded: number(.icmpCode)))
        packet.direction = layer.direction ?? (number(.direction) & 1 == 0 ? .outbound : .inbound)
        interface = UInt32(truncatingIfNeeded: number(.interface))
        flags = PacketFlags(rawValue: UInt8(truncatingIfNeeded: number(.flags)))
        machine = UInt16(truncatingIfNeeded: number(.remoteMachine))
    }

    /// What this host's address table has.
    static let unicast = [IPAddress(fieldValue: 1 << 30 | 5, .v4), IPAddress(fieldValue: 1 << 126 | 5, .v6)]
    static let broadcast = IPAddress(fieldValue: 1 << 30 | 6, .v4)

    var question: nd_question {
        var question = nd_question()
        question.key = nd_flow_key(packet.key)
        question.ifindex = interface
        question.layer = layer.rawValue
        question.family = family.rawValue
        (question.icmp_type, question.icmp_code) = (packet.icmpType, packet.icmpCode)
        question.flags = flags.rawValue
        question.machine = machine
        question.outbound = packet.direction == .outbound ? 1 : 0
        return question
    }

    var values: FieldValues { FieldValues(packet, layer, family, interface: interface, flags: flags, machine: machine) }
}
