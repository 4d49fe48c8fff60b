/// The key of an object of the filter engine, as WFP has them.
public struct GUID: Hashable, Sendable, Comparable, CustomStringConvertible, Codable {
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// "09e61aea-d214-46e2-9b21-b26b0b2f28c8", with or without braces.
    public init?(_ text: String) {
        var digits = Substring(text)
        if digits.hasPrefix("{"), digits.hasSuffix("}") { digits = digits.dropFirst().dropLast() }
        let parts = digits.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.map(\.utf8.count) == [8, 4, 4, 4, 12], parts.allSatisfy({ $0.allSatisfy(\.isHexDigit) }),
            let high = UInt64(parts[0...2].joined(), radix: 16), let low = UInt64(parts[3...4].joined(), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }

    /// A literal of this module, which a test reads back: never outside data.
    init(known text: StaticString) { self = GUID(text.description) ?? GUID(high: 0, low: 0) }

    /// The key of what is known by a name only: the same name gives the same key on every host. The form
    /// is version 8 (RFC 9562 §5.8), the digits FNV-1a's; keys are compared, they protect nothing.
    public init(named name: String, kind: String) {
        let prime: UInt128 = 0x0000_0000_0100_0000_0000_0000_0000_013b
        var hash: UInt128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d
        for byte in "ndbpf/\(kind)/\(name)".utf8 { hash = (hash ^ UInt128(byte)) &* prime }
        high = UInt64(truncatingIfNeeded: hash >> 64) & ~0xf000 | 0x8000
        low = UInt64(truncatingIfNeeded: hash) & ~(3 << 62) | 2 << 62
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let guid = GUID(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "no GUID")
        }
        self = guid
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    public var description: String {
        func digits(_ value: UInt64, _ count: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: max(0, count - text.count)) + text
        }
        return [
            digits(high >> 32, 8), digits(high >> 16 & 0xffff, 4), digits(high & 0xffff, 4), digits(low >> 48, 4),
            digits(low & 0xffff_ffff_ffff, 12),
        ].joined(separator: "-")
    }

    public static func < (a: GUID, b: GUID) -> Bool { (a.high, a.low) < (b.high, b.low) }
}
