import CNDABI
import NDABI
import NDCore

/// Gives out room in a policy's banks. Nothing lies across two of them.
struct TableArena {
    private(set) var image = PolicyImage()
    private var used: [Int]

    init() { used = [MemoryLayout<nd_policy>.stride] }

    /// Returns the address.
    mutating func place<T>(_ values: [T], aligned alignment: Int) throws(NDError) -> UInt32 {
        let address = try room(MemoryLayout<T>.stride * values.count, alignment)
        image.store(values, at: address)
        return UInt32(clamping: address)
    }

    mutating func setHeader(_ header: nd_policy) { image.header = header }

    private mutating func room(_ bytes: Int, _ alignment: Int) throws(NDError) -> Int {
        guard bytes <= PolicyImage.bankBytes else { throw Self.tooLarge }
        while true {
            for bank in used.indices {
                let start = (used[bank] + alignment - 1) / alignment * alignment
                guard start + bytes <= PolicyImage.bankBytes else { continue }
                used[bank] = start + bytes
                return bank * PolicyImage.bankBytes + start
            }
            guard used.count < PolicyImage.mostBanks else { throw Self.tooLarge }
            image.addBank()
            used.append(0)
        }
    }

    static let tooLarge = NDError(
        "policy.too-large",
        "the filters' tables need more than \((PolicyImage.mostBanks * PolicyImage.bankBytes) >> 20) MiB",
        hint: "each distinct range of addresses or ports costs about 160 bytes: use fewer or wider ones")
}
