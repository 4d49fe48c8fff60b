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

    /// Puts the map that the instance has pinned in the place of the object's own, before the object is loaded.
    /// Returns 0 or a negative errno.
    static func share(_ map: OpaquePointer, with instance: Instance, pin: String) throws(NDError) -> Int32 {
        let fd = try instance.openPin(pin)
        defer { close(fd) }
        return bpf_map__reuse_fd(map, fd)
    }
}
