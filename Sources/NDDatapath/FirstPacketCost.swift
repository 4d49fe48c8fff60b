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
        try tc.prepare(local: local, peer: PeerKey(local: local, remote: remote))
    }

    public func commit(_ policy: PolicyImage) throws { try tc.commit(policy) }

    /// Median of runs of one packet each: what the clock and the empty program take.
    public func empty(packets: Int = 2000) throws -> Double {
        let program = try reference.program("nd_empty"), frame = ProgramCost.frame(from: local, 1, to: remote, 443)
        return try median((0..<packets).map { _ in try LoadedProgram.run(program, "nd_empty", frame, repeats: 1) })
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
                return try LoadedProgram.run(program, "nd_egress", frame, repeats: 1)
            })
    }

    public func established(repeats: UInt32 = 200_000) throws -> Double {
        try LoadedProgram.run(
            try tc.program("nd_egress"), "nd_egress", ProgramCost.frame(from: local, 9, to: remote, 443), repeats: repeats)
    }

    private func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? .nan : sorted[sorted.count / 2]
    }
}
