/// RFC 2408 §3.3. The encoding is kept beside the value: a responder echoes a transform unchanged.
public struct DataAttribute: Hashable, Sendable {
    public enum Value: Hashable, Sendable {
        /// AF = 1, type/value.
        case short(UInt16)
        /// AF = 0, type/length/value.
        case long([UInt8])
    }

    /// 15 bits.
    public var type: UInt16
    public var value: Value

    public init(_ type: UInt16, _ value: UInt16) {
        self.type = type & 0x7fff
        self.value = .short(value)
    }

    /// Short when it fits 16 bits, else four bytes long.
    public init(_ type: UInt16, number: UInt32) {
        self.type = type & 0x7fff
        value = UInt16(exactly: number).map { .short($0) } ?? .long([UInt8](u32: number))
    }

    public init(_ type: UInt16, bytes: [UInt8]) {
        self.type = type & 0x7fff
        value = .long(bytes)
    }

    /// The value whatever its encoding; nil beyond 64 bits.
    public var number: UInt64? {
        switch value {
        case .short(let value): return UInt64(value)
        case .long(let bytes):
            let significant = bytes.drop { $0 == 0 }
            guard significant.count <= 8, !bytes.isEmpty else { return nil }
            return significant.reduce(0) { $0 << 8 | UInt64($1) }
        }
    }

    init(_ cursor: inout ByteCursor) throws(WireError) {
        let word = try cursor.u16()
        type = word & 0x7fff
        let second = try cursor.u16()
        if word & 0x8000 != 0 {
            value = .short(second)
        } else {
            guard Int(second) <= cursor.remaining else { throw .attributeOverrun }
            value = .long(try cursor.take(Int(second)))
        }
    }

    func encode(into out: inout [UInt8]) {
        switch value {
        case .short(let short):
            out.append(u16: type | 0x8000)
            out.append(u16: short)
        case .long(let bytes):
            out.append(u16: type)
            out.append(u16: UInt16(truncatingIfNeeded: bytes.count))
            out += bytes
        }
    }
}
