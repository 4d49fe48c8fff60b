import CLibbpf
import CNDABI
import CNDObjects
import Glibc
import NDABI
import NDCore

/// What TC egress takes for packets of new flows, each run by itself, and for one flow's, by
/// BPF_PROG_TEST_RUN on programs of its own, attached to nothing.
public final class FirstPacketCost {
    private let tc: LoadedProgram
    private let reference: LoadedProgram
    private let local: IPAddress
    private let remote: IPAddress
    /// Never one twice.
    private var flows = 0

    public init() throws {
        tc = try LoadedProgram(nd_object_tc, "nd_tc", entries: ["nd_flows": 1 << 19])
        reference = try LoadedProgram(nd_object_floor, "nd_floor")
        guard let local = IPAddress("10.66.0.1"), let remote = IPAddress("10.66.0.2") else {
            throw NDError("bench.address", "bad address")
        }
        (self.local, self.remote) = (local, remote)
        var state = nd_state()
        state.abi = ND_ABI_VERSION
        state.epoch = 7
        state.mtu = 1500
        try BPFMap<UInt32, nd_state>(descriptor: try tc.map("nd_state"), name: "nd_state").update(0, state)
        try BPFMap<nd_addr, UInt32>(descriptor: try tc.map("nd_local"), name: "nd_local")
            .update(nd_addr(local), ND_LOCAL_UNICAST)
        // Nothing to ask of the peer: no event is part of the cost.
        var peer = nd_peer()
        peer.state = ND_PEER_CLEAR.rawValue
        peer.clear_until = UInt64.max / 2
        try BPFMap<nd_peer_key, nd_peer>(descriptor: try tc.map("nd_peers"), name: "nd_peers")
            .update(nd_peer_key(PeerKey(local: local, remote: remote)), peer)
    }

    public func commit(_ policy: PolicyImage) throws {
        try PolicySlot.commit(
            policy, to: BPFMap(descriptor: try tc.map("nd_policies"), name: "nd_policies"), typesOf: try tc.map("nd_state"))
    }

    /// Median of runs of one packet each: what the clock and the empty program take.
    public func empty(packets: Int = 2000) throws -> Double {
        let program = try reference.program("nd_empty"), frame = ProgramCost.frame(from: local, 1, to: remote, 443)
        return try median((0..<packets).map { _ in try run(program, frame, repeats: 1) })
    }

    /// Median over packets of flows that nobody has seen.
    public func first(packets: Int = 2000) throws -> Double {
        let program = try tc.program("nd_egress")
        return try median(
            (0..<packets).map { _ in
                flows += 1
                let frame = ProgramCost.frame(
                    from: local, UInt16(truncatingIfNeeded: 10_000 + flows % 50_000), to: remote,
                    UInt16(truncatingIfNeeded: 40_000 + flows / 50_000))
                return try run(program, frame, repeats: 1)
            })
    }

    public func established(repeats: UInt32 = 200_000) throws -> Double {
        try run(try tc.program("nd_egress"), ProgramCost.frame(from: local, 9, to: remote, 443), repeats: repeats)
    }

    private func run(_ program: Int32, _ frame: [UInt8], repeats: UInt32) throws -> Double {
        var verdict: UInt32 = 0
        var nanoseconds: UInt32 = 0
        let error = nd_bpf_test_run(
            program, frame, UInt32(frame.count), nil, nil, 0, 0, repeats, &verdict, &nanoseconds)
        guard error == 0 else { throw NDError("bench.run", "BPF_PROG_TEST_RUN: \(String(cString: strerror(-error)))") }
        guard Int32(bitPattern: verdict) == -1 else {
            throw NDError("bench.verdict", "the program answered \(Int32(bitPattern: verdict)) for a clear packet")
        }
        return Double(nanoseconds)
    }

    private func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? .nan : sorted[sorted.count / 2]
    }
}
