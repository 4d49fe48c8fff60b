import CLibbpf
import Glibc
import NDCore

/// What a BPF object that is open consists of.
enum ObjectParts {
    static func programs(_ object: OpaquePointer) -> [OpaquePointer] { all { bpf_object__next_program(object, $0) } }

    static func maps(_ object: OpaquePointer) -> [OpaquePointer] { all { bpf_object__next_map(object, $0) } }

    private static func all(_ next: (OpaquePointer?) -> OpaquePointer?) -> [OpaquePointer] {
        var found: [OpaquePointer] = []
        while let one = next(found.last) { found.append(one) }
        return found
    }

    /// Puts the map that is pinned in the place of the object's own, before the object is loaded. Returns 0, also
    /// where nothing is pinned yet, or a negative errno.
    static func share(_ map: OpaquePointer, pinnedAt pin: String) -> Int32 {
        let fd = bpf_obj_get(pin)
        guard fd >= 0 else { return errno == ENOENT ? 0 : -errno }
        defer { close(fd) }
        return bpf_map__reuse_fd(map, fd)
    }
}
