import CNDABI

/// A policy's tables as BPF reads them: banks of ND_BANK_BYTES, the first of which begins with a nd_policy.
/// An address is a byte's place in all of them together.
public struct PolicyImage: Hashable, Sendable {
    public static let bankBytes = 1 << Int(ND_BANK_BITS)
    public static let mostBanks = Int(ND_BANKS_MAX)

    public private(set) var bytes: [UInt8]

    public init() { bytes = Array(repeating: 0, count: Self.bankBytes) }

    /// nil unless these are whole banks of this version.
    public init?(bytes: [UInt8]) {
        guard !bytes.isEmpty, bytes.count % Self.bankBytes == 0, bytes.count / Self.bankBytes <= Self.mostBanks
        else { return nil }
        self.bytes = bytes
        guard header.abi == ND_ABI_VERSION else { return nil }
    }

    public var banks: Int { bytes.count / Self.bankBytes }

    public mutating func addBank() { bytes.append(contentsOf: repeatElement(0, count: Self.bankBytes)) }

    public var header: nd_policy {
        get { load(at: 0, as: nd_policy.self) ?? nd_policy() }
        set { store(newValue, at: 0) }
    }

    /// nil: not all of it is inside.
    public func load<T>(at address: Int, as type: T.Type) -> T? {
        guard address >= 0, address <= bytes.count - MemoryLayout<T>.size else { return nil }
        return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: address, as: T.self) }
    }

    public mutating func store<T>(_ value: T, at address: Int) {
        guard address >= 0, address <= bytes.count - MemoryLayout<T>.size else { return }
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: address, as: T.self) }
    }

    public mutating func store<T>(_ values: [T], at address: Int) {
        let stride = MemoryLayout<T>.stride
        guard address >= 0, address <= bytes.count - stride * values.count else { return }
        bytes.withUnsafeMutableBytes { target in
            values.withUnsafeBytes { source in
                guard let base = target.baseAddress, let from = source.baseAddress else { return }
                (base + address).copyMemory(from: from, byteCount: source.count)
            }
        }
    }
}
