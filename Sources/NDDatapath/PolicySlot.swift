import CLibbpf
import CNDABI
import Glibc
import NDABI
import NDCore

/// The inner map of one generation of the policy.
enum PolicySlot {
    private static let valueBytes = PolicyImage.bankBytes + Int(ND_BANK_SLACK)

    /// Fills a new inner map and puts it in place: packets see the old policy or the new one.
    /// `typesOf`: a map of the loaded object, whose type information the new map must carry.
    static func commit(_ image: PolicyImage, to policies: BPFMap<UInt32, UInt32>, typesOf map: Int32) throws {
        let slot = nd_map_create_policy(map, UInt32(valueBytes), UInt32(image.banks))
        guard slot >= 0 else {
            throw NDError(
                "policy.commit", "can't create a policy map: \(String(cString: strerror(-slot)))",
                hint: "nothing was changed")
        }
        defer { close(slot) }
        var value = [UInt8](repeating: 0, count: valueBytes)
        for bank in 0..<image.banks {
            let first = bank * PolicyImage.bankBytes
            value.replaceSubrange(0..<PolicyImage.bankBytes, with: image.bytes[first..<first + PolicyImage.bankBytes])
            var key = UInt32(clamping: bank)
            guard bpf_map_update_elem(slot, &key, value, 0) == 0 else {
                throw NDError(
                    "policy.commit", "can't write a policy map: \(String(cString: strerror(errno)))",
                    hint: "nothing was changed")
            }
        }
        let generation = image.header.generation
        try policies.update(place(generation), UInt32(bitPattern: slot))
        try policies.update(0, UInt32(bitPattern: slot))
        // The update waited for everybody who looked at the old one.
        policies.delete(place(generation &+ 1))
    }

    /// Where a packet that began with a generation finds it (bpf/maps.h).
    private static func place(_ generation: UInt32) -> UInt32 { 1 + generation % 2 }

    /// What is in place; nil before the first commit. `banks`: no more than these.
    static func read(_ policies: BPFMap<UInt32, UInt32>, banks most: Int = PolicyImage.mostBanks) throws -> PolicyImage? {
        var place: UInt32 = 0
        var id: UInt32 = 0
        // Only what is not there is nothing: who took an error for that would count generations from the start.
        guard bpf_map_lookup_elem(policies.descriptor, &place, &id) == 0 else {
            guard errno == ENOENT else { throw unreadable(errno) }
            return nil
        }
        let fd = bpf_map_get_fd_by_id(id)
        guard fd >= 0 else { throw unreadable(errno) }
        defer { close(fd) }
        guard let info = bpf_map_info(of: fd) else { throw unreadable(errno) }
        guard info.value_size == UInt32(valueBytes) else { throw unreadable(EINVAL) }
        var bytes: [UInt8] = []
        var value = [UInt8](repeating: 0, count: valueBytes)
        for bank in 0..<min(Int(info.max_entries), most) {
            var key = UInt32(clamping: bank)
            guard bpf_map_lookup_elem(fd, &key, &value) == 0 else { throw unreadable(errno) }
            bytes += value.prefix(PolicyImage.bankBytes)
        }
        guard let image = PolicyImage(bytes: bytes) else { throw unreadable(EINVAL) }
        return image
    }

    private static func unreadable(_ error: Int32) -> NDError {
        NDError(
            "policy.read", "can't read the policy in force: \(String(cString: strerror(error)))",
            hint: error == EPERM || error == EACCES ? "run as root" : "nothing was changed; ndbpf unload and load again if it stays so")
    }
}
