#if canImport(Glibc)
import Glibc
#endif

/// An IPv4 or IPv6 address. IPv4 is kept in its mapped form (::ffff:a.b.c.d), the form the
/// BPF maps use, so one key layout serves both families.
public struct IPAddress: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The 16 bytes in network order, as two big-endian words.
    public let high: UInt64
    public let low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// From 4 (IPv4) or 16 (IPv6) bytes in network order; any other count is refused.
    public init?(bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4:
            high = 0
            low = bytes.reduce(0xffff) { $0 << 8 | UInt64($1) }
        case 16:
            high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
            low = bytes.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
        default:
            return nil
        }
    }

    /// Parses the textual form with inet_pton; zone suffixes are refused.
    public init?(_ text: String) {
        var v4 = [UInt8](repeating: 0, count: 4)
        if inet_pton(AF_INET, text, &v4) == 1 {
            self.init(bytes: v4)
            return
        }
        var v6 = [UInt8](repeating: 0, count: 16)
        guard inet_pton(AF_INET6, text, &v6) == 1 else { return nil }
        self.init(bytes: v6)
    }

    public var isIPv4: Bool { high == 0 && low >> 32 == 0xffff }

    /// 4 bytes for IPv4, 16 for IPv6, network order.
    public var bytes: [UInt8] { isIPv4 ? Array(mappedBytes.suffix(4)) : mappedBytes }

    /// Always 16 bytes; IPv4 in mapped form.
    public var mappedBytes: [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: high >> (56 - 8 * $0)) }
            + (0..<8).map { UInt8(truncatingIfNeeded: low >> (56 - 8 * $0)) }
    }

    public var isLinkLocal: Bool {
        isIPv4 ? (low >> 16) & 0xffff == 0xa9fe : high >> 54 == 0xfe80 >> 6
    }

    public var isMulticast: Bool {
        isIPv4 ? (low >> 28) & 0xf == 0xe : high >> 56 == 0xff
    }

    public var isLoopback: Bool {
        isIPv4 ? (low >> 24) & 0xff == 127 : high == 0 && low == 1
    }

    public var isUnspecified: Bool {
        isIPv4 ? low & 0xffff_ffff == 0 : high == 0 && low == 0
    }

    public static func < (a: IPAddress, b: IPAddress) -> Bool {
        (a.high, a.low) < (b.high, b.low)
    }

    public var description: String {
        if isIPv4 {
            return bytes.map { String($0) }.joined(separator: ".")
        }
        let raw = mappedBytes
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard inet_ntop(AF_INET6, raw, &text, socklen_t(text.count)) != nil else { return "::" }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}

/// An address prefix such as 192.0.2.0/24. The length counts bits of the address's own family.
public struct IPPrefix: Hashable, Sendable, CustomStringConvertible {
    public let address: IPAddress
    public let length: Int

    public init?(_ address: IPAddress, length: Int) {
        guard (0...(address.isIPv4 ? 32 : 128)).contains(length) else { return nil }
        self.length = length
        self.address = IPPrefix.masked(address, mappedLength: address.isIPv4 ? length + 96 : length)
    }

    /// "192.0.2.0/24", "2001:db8::/32", or a bare address (host prefix).
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let first = parts.first, let address = IPAddress(String(first)) else { return nil }
        if parts.count == 1 {
            self.init(address, length: address.isIPv4 ? 32 : 128)
        } else if parts.count == 2, let length = Int(parts[1]), String(length) == parts[1] {
            self.init(address, length: length)
        } else {
            return nil
        }
    }

    /// The length counted on the 16-byte mapped form.
    public var mappedLength: Int { address.isIPv4 ? length + 96 : length }

    public func contains(_ other: IPAddress) -> Bool {
        other.isIPv4 == address.isIPv4
            && IPPrefix.masked(other, mappedLength: mappedLength) == address
    }

    public var description: String { "\(address)/\(length)" }

    private static func masked(_ a: IPAddress, mappedLength n: Int) -> IPAddress {
        let high: UInt64 = n >= 64 ? .max : (n == 0 ? 0 : .max << UInt64(64 - n))
        let low: UInt64 = n <= 64 ? 0 : (n >= 128 ? .max : .max << UInt64(128 - n))
        return IPAddress(high: a.high & high, low: a.low & low)
    }
}

/// An address and a port.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    public var address: IPAddress
    public var port: UInt16

    public init(_ address: IPAddress, _ port: UInt16) {
        self.address = address
        self.port = port
    }

    public var description: String { address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)" }
}
