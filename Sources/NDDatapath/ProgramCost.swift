import CLibbpf
import CNDABI
import CNDObjects
import Foundation
import NDABI
import NDCore

/// What one packet costs, by BPF_PROG_TEST_RUN on programs of its own, attached to nothing.
public struct ProgramCost: Sendable {
    public var name: String
    /// Nanoseconds a packet, one per run.
    public var runs: [Double]
    public var median: Double { runs.sorted()[runs.count / 2] }

    /// An established clear TCP flow, IPv4, 1 KB: tc egress, tc ingress, beside a bare parse and
    /// LRU look-up and an empty program. Runs are interleaved, so that all see the same machine.
    public static func measure(policy: PolicyImage, repeats: UInt32 = 200_000, runs: Int = 9) throws -> [ProgramCost] {
        let tc = try LoadedProgram(nd_object_tc, "nd_tc")
        let reference = try LoadedProgram(nd_object_floor, "nd_floor")
        guard let local = IPAddress("10.66.0.1"), let remote = IPAddress("10.66.0.2") else {
            throw NDError("bench.address", "bad address")
        }
        try tc.commit(policy)
        let key = FlowKey(local: Endpoint(local, 40_000), remote: Endpoint(remote, 443), proto: IPProtocol.tcp)
        try tc.prepare(local: local, peer: key.peer)
        var flow = nd_flow()
        flow.first_seen = Instant.now().nanoseconds
        flow.last_seen = flow.first_seen
        for map in [try tc.map("nd_flows"), try reference.map("nd_floor_flows")] {
            try BPFMap<nd_flow_key, nd_flow>(descriptor: map, name: "flows").update(nd_flow_key(key), flow)
        }
        let out = frame(from: local, 40_000, to: remote, 443)
        let inbound = frame(from: remote, 443, to: local, 40_000)
        let programs: [(String, Int32, [UInt8])] = [
            ("empty program", try reference.program("nd_empty"), out),
            ("bare parse and LRU look-up", try reference.program("nd_floor"), out),
            ("tc egress, established clear flow", try tc.program("nd_egress"), out),
            ("tc ingress, established clear flow", try tc.program("nd_ingress"), inbound),
        ]
        var costs = programs.map { ProgramCost(name: $0.0, runs: []) }
        for _ in 0..<runs {
            for (index, program) in programs.enumerated() {
                costs[index].runs.append(try LoadedProgram.run(program.1, program.0, program.2, repeats: repeats))
            }
        }
        return costs
    }

    static func frame(from: IPAddress, _ sourcePort: UInt16, to: IPAddress, _ port: UInt16) -> [UInt8] {
        let payload = [UInt8](repeating: 0x61, count: 1000)
        let length = 40 + payload.count
        let ip: [UInt8] = [0x45, 0, UInt8(length >> 8), UInt8(length & 255), 0, 1, 0x40, 0, 64, 6, 0, 0] + from.bytes + to.bytes
        let tcp: [UInt8] = [
            UInt8(sourcePort >> 8), UInt8(sourcePort & 255), UInt8(port >> 8), UInt8(port & 255), 0, 0, 0, 1, 0, 0, 0, 1,
            0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
        ]
        return [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0] + ip + tcp + payload
    }
}
