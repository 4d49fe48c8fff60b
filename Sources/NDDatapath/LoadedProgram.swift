import CLibbpf
import CNDABI
import Glibc
import NDCore

/// A copy of an object in the kernel: no pins, nothing attached.
final class LoadedProgram {
    let object: OpaquePointer

    init(_ image: (UnsafeMutablePointer<Int>) -> UnsafeRawPointer?, _ name: String, entries: [String: UInt32] = [:]) throws {
        var size = 0
        let bytes = image(&size)
        guard let object = nd_bpf_open(bytes, size, name) else {
            throw NDError("bench.object", "can't open the BPF object \(name)")
        }
        for (map, count) in entries { bpf_map__set_max_entries(bpf_object__find_map_by_name(object, map), count) }
        let error = bpf_object__load(object)
        guard error == 0 else {
            bpf_object__close(object)
            throw NDError(
                "bench.load", "can't load \(name): \(String(cString: strerror(-error)))",
                context: String(String(cString: nd_bpf_log()).suffix(400)), hint: "run as root")
        }
        self.object = object
    }

    deinit { bpf_object__close(object) }

    func map(_ name: String) throws -> Int32 {
        guard let map = bpf_object__find_map_by_name(object, name) else {
            throw NDError("bench.object", "no map \(name)")
        }
        return bpf_map__fd(map)
    }

    func program(_ name: String) throws -> Int32 {
        guard let program = bpf_object__find_program_by_name(object, name) else {
            throw NDError("bench.object", "no program \(name)")
        }
        return bpf_program__fd(program)
    }
}
