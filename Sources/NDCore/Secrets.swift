#if canImport(Glibc)
import Glibc
#endif

/// Key material. Shared by reference so that there is one copy, zeroed when the last owner goes;
/// it never prints its content.
public final class SecretBytes: @unchecked Sendable, CustomStringConvertible {
    private let storage: UnsafeMutableRawBufferPointer

    public init(_ bytes: some Collection<UInt8>) {
        storage = .allocate(byteCount: max(bytes.count, 1), alignment: 16)
        storage.copyBytes(from: bytes)
        count = bytes.count
    }

    public let count: Int

    deinit {
        if let base = storage.baseAddress { explicit_bzero(base, storage.count) }
        storage.deallocate()
    }

    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeRawBufferPointer(rebasing: storage[..<count]))
    }

    /// A copy of a part; out-of-range bounds are clamped.
    public func slice(_ range: Range<Int>) -> SecretBytes {
        withUnsafeBytes { SecretBytes(Array($0[range.clamped(to: 0..<count)])) }
    }

    public var description: String { "<\(count) secret bytes>" }
}

extension UnsafeMutableRawBufferPointer {
    /// Zeroes, also where a compiler sees no later use.
    public func wipe() {
        if let baseAddress { explicit_bzero(baseAddress, count) }
    }
}

/// Where randomness comes from; tests pass a seeded one.
public protocol RandomSource: Sendable {
    func bytes(_ count: Int) -> [UInt8]
}
