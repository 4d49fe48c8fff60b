import NDCore
import NDWire

/// The life type/duration pairs of a transform, in either encoding and order of units.
struct Lifetime: Hashable, Sendable {
    var seconds: UInt64?
    var kilobytes: UInt64?

    /// A shorter wish of a peer's is ignored: it would keep both hosts busy with negotiations.
    static let minimum: UInt64 = 30

    init(_ attributes: [DataAttribute], type: UInt16, duration: UInt16) {
        var unit: UInt64 = 1
        for attribute in attributes {
            if attribute.type == type {
                unit = attribute.number ?? 0
            } else if attribute.type == duration, let value = attribute.number, value > 0 {
                if unit == 1 { seconds = min(seconds ?? .max, value) }
                if unit == 2 { kilobytes = min(kilobytes ?? .max, value) }
            }
        }
    }

    /// The shorter of both sides' wishes.
    func span(own: Span) -> Span {
        guard let seconds else { return own }
        return min(own, .seconds(Double(max(seconds, Self.minimum))))
    }

    func kilobytes(own: UInt32?) -> UInt64? {
        switch (kilobytes, own.map(UInt64.init)) {
        case (let peer?, let own?): min(peer, own)
        case (let one?, nil), (nil, let one?): one
        case (nil, nil): nil
        }
    }
}
