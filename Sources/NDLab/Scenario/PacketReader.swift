import NDCore
import NDPolicy

extension StepReader {
    func packets(_ body: MappingReader, _ factor: Double) -> Step.Action? {
        guard let capture = capture(body, "in") else { return nil }
        var expectation = PacketExpectation(capture: capture, predicate: PacketPredicate())
        if let predicate = predicate(body, "where", factor) { expectation.predicate = predicate }
        expectation.count = range(body, "count")
        expectation.distinct = body.maybe("distinct", PacketExpectation.Distinct.self)
        expectation.repeated = range(body, "repeated")
        if body.has("growing-gaps") { expectation.growingGaps = body.number("growing-gaps", in: 1...100, default: 1) }
        if let limit = span(body, "within", factor) {
            guard let reference = reference(body, factor) else { return nil }
            expectation.near = (limit, reference)
        }
        if expectation.count == nil, expectation.near == nil, expectation.repeated == nil, expectation.growingGaps == nil {
            findings.add(
                "missing-key", at: body.mark, "'packets' expects nothing",
                fix: "`count: 0`, `count: 1..`, or `within: 20ms` with `of: { connect: NAME }`")
        }
        return .packets(expectation)
    }

    private func reference(_ body: MappingReader, _ factor: Double) -> PacketExpectation.Reference? {
        guard body.require("of", fix: "`of: { connect: NAME }` or `of: { packet: { ... } }`"),
            let of = body.mapping("of", keys: ["connect", "packet"])
        else { return nil }
        if of.has("packet") { return predicate(of, "packet", factor).map { .packet($0) } }
        return use(of, "connect", connections, "connection").map { .connect($0) }
    }

    private func predicate(_ body: MappingReader, _ key: String, _ factor: Double) -> PacketPredicate? {
        guard
            let section = body.mapping(
                key,
                keys: [
                    "kind", "direction", "protocol", "flow", "from", "to", "syn", "rst", "first-ike-message",
                    "unreachable", "longer", "after", "before",
                ])
        else { return nil }
        var predicate = PacketPredicate()
        predicate.kind = section.maybe("kind", PacketPredicate.Kind.self)
        predicate.direction = section.maybe("direction", PacketPredicate.Direction.self)
        predicate.proto = section.maybe("protocol", PacketPredicate.Proto.self)
        if section.has("flow") { predicate.flow = use(section, "flow", connections, "connection") }
        if section.has("from") { predicate.from = host(section, "from") }
        if section.has("to") { predicate.to = host(section, "to") }
        predicate.syn = section.maybeFlag("syn")
        predicate.rst = section.maybeFlag("rst")
        predicate.firstIKEMessage = section.maybeFlag("first-ike-message")
        predicate.unreachable = section.maybeFlag("unreachable")
        if section.has("longer") { predicate.longer = section.integer("longer", in: 0...65_535, default: 0) }
        predicate.after = instant(section, "after", factor)
        predicate.before = instant(section, "before", factor)
        return predicate
    }

    /// `{ time: 1s, of: CONNECTION }`, counted from its connect().
    private func instant(_ body: MappingReader, _ key: String, _ factor: Double) -> (span: Span, of: String)? {
        guard let section = body.mapping(key, keys: ["time", "of"]), section.require("time", fix: "`time: 1s`"),
            let time = span(section, "time", factor), let of = use(section, "of", connections, "connection")
        else { return nil }
        return (time, of)
    }
}
