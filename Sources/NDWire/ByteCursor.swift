/// Reads big-endian fields of a byte range; every read is checked against its end.
public struct ByteCursor: Sendable {
    private let bytes: [UInt8]
    public private(set) var position: Int
    public let end: Int

    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
        position = 0
        end = bytes.count
    }

    private init(_ bytes: [UInt8], from: Int, to: Int) {
        self.bytes = bytes
        position = from
        end = to
    }

    public var remaining: Int { end - position }

    public mutating func u8() throws(WireError) -> UInt8 {
        guard remaining >= 1 else { throw .truncated }
        defer { position += 1 }
        return bytes[position]
    }

    public mutating func u16() throws(WireError) -> UInt16 {
        guard remaining >= 2 else { throw .truncated }
        defer { position += 2 }
        return UInt16(bytes[position]) << 8 | UInt16(bytes[position + 1])
    }

    public mutating func u32() throws(WireError) -> UInt32 {
        try UInt32(u16()) << 16 | UInt32(u16())
    }

    public mutating func u64() throws(WireError) -> UInt64 {
        try UInt64(u32()) << 32 | UInt64(u32())
    }

    public mutating func take(_ count: Int) throws(WireError) -> [UInt8] {
        guard count >= 0, count <= remaining else { throw .truncated }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    public mutating func rest() -> [UInt8] {
        defer { position = end }
        return Array(bytes[position..<end])
    }

    /// A cursor over the next bytes, which this one skips.
    public mutating func sub(_ count: Int) throws(WireError) -> ByteCursor {
        guard count >= 0, count <= remaining else { throw .truncated }
        defer { position += count }
        return ByteCursor(bytes, from: position, to: position + count)
    }
}

extension [UInt8] {
    public mutating func append(u16 value: UInt16) {
        append(UInt8(truncatingIfNeeded: value >> 8))
        append(UInt8(truncatingIfNeeded: value))
    }

    public mutating func append(u32 value: UInt32) {
        append(u16: UInt16(truncatingIfNeeded: value >> 16))
        append(u16: UInt16(truncatingIfNeeded: value))
    }

    public mutating func append(u64 value: UInt64) {
        append(u32: UInt32(truncatingIfNeeded: value >> 32))
        append(u32: UInt32(truncatingIfNeeded: value))
    }

    /// The big-endian form of a cookie.
    public init(u64 value: UInt64) {
        self = []
        append(u64: value)
    }

    /// The big-endian form of a message id or an SPI.
    public init(u32 value: UInt32) {
        self = []
        append(u32: value)
    }
}
