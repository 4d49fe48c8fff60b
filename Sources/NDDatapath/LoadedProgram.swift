import CLibbpf
import CNDABI
import Glibc
import NDABI
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
            throw VerifierReport.refusal(image, name, error: error, code: "bench.load")
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

    /// What a benchmark's packets meet: a local address, and a peer of which nothing is to be asked, so that no
    /// event is part of the cost.
    func prepare(local: IPAddress, peer key: PeerKey) throws {
        var state = nd_state()
        state.abi = ND_ABI_VERSION
        state.epoch = 7
        state.mtu = 1500
        try BPFMap<UInt32, nd_state>(descriptor: try map("nd_state"), name: "nd_state").update(0, state)
        try BPFMap<nd_addr, UInt32>(descriptor: try map("nd_local"), name: "nd_local")
            .update(nd_addr(local), ND_LOCAL_UNICAST)
        var peer = nd_peer()
        peer.state = ND_PEER_CLEAR.rawValue
        peer.clear_until = UInt64.max / 2
        try BPFMap<nd_peer_key, nd_peer>(descriptor: try map("nd_peers"), name: "nd_peers").update(nd_peer_key(key), peer)
    }

    func commit(_ policy: PolicyImage) throws {
        try PolicySlot.commit(
            policy, to: BPFMap(descriptor: try map("nd_policies"), name: "nd_policies"), typesOf: try map("nd_state"))
    }

    /// Nanoseconds that a packet takes; the program must answer with `expected`, by default it passes.
    static func run(
        _ program: Int32, _ name: String, _ frame: [UInt8], repeats: UInt32, verdict expected: Int32 = -1
    ) throws -> Double {
        var verdict: UInt32 = 0
        var nanoseconds: UInt32 = 0
        let error = nd_bpf_test_run(
            program, frame, UInt32(frame.count), nil, nil, 0, 0, repeats, &verdict, &nanoseconds)
        guard error == 0 else { throw NDError("bench.run", "BPF_PROG_TEST_RUN: \(String(cString: strerror(-error)))") }
        guard Int32(bitPattern: verdict) == expected else {
            throw NDError("bench.verdict", "\(name): answered \(Int32(bitPattern: verdict)), not \(expected)")
        }
        return Double(nanoseconds)
    }
}
