import CLibbpf
import CNDABI
import Glibc
import NDCore

/// Removes entries of secured flows by the program that does it, nd_sweep: an entry goes only if no packet touched it
/// since it was read.
public final class SecuredSweep {
    static let program = "nd_sweep"
    private let descriptor: Int32

    public init(_ instance: Instance) throws(NDError) { descriptor = try instance.openPin("prog_\(Self.program)") }

    deinit { close(descriptor) }

    /// Removes a secured flow that was last seen then. False where it lives on, or is gone already.
    public func remove(_ key: nd_flow_key, seen: UInt64) throws(NDError) -> Bool {
        try Self.run(descriptor, key, seen: seen)
    }

    /// False where it lives on, or is gone already.
    static func run(_ descriptor: Int32, _ key: nd_flow_key, seen: UInt64) throws(NDError) -> Bool {
        var request = nd_sweep_request(key: key, zero: 0, seen: seen)
        var options = bpf_test_run_opts()
        options.sz = MemoryLayout<bpf_test_run_opts>.size
        options.ctx_size_in = UInt32(MemoryLayout<nd_sweep_request>.size)
        let error = withUnsafeMutablePointer(to: &request) { request in
            options.ctx_in = UnsafeRawPointer(request)
            return bpf_prog_test_run_opts(descriptor, &options)
        }
        guard error == 0 else {
            throw NDError("map.sweep", "can't run \(program): \(String(cString: strerror(-error)))")
        }
        return options.retval != 0
    }
}
