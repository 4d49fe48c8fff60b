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
        try PolicySlot.commit(
            policy, to: BPFMap(descriptor: try tc.map("nd_policies"), name: "nd_policies"),
            typesOf: try tc.map("nd_state"))
        var state = nd_state()
        state.abi = ND_ABI_VERSION
        state.epoch = 7
        state.mtu = 1500
        try BPFMap<UInt32, nd_state>(descriptor: try tc.map("nd_state"), name: "nd_state").update(0, state)
        try BPFMap<nd_addr, UInt32>(descriptor: try tc.map("nd_local"), name: "nd_local")
            .update(nd_addr(local), ND_LOCAL_UNICAST)
        let key = FlowKey(local: Endpoint(local, 40_000), remote: Endpoint(remote, 443), proto: IPProtocol.tcp)
        var peer = nd_peer()
        peer.state = ND_PEER_CLEAR.rawValue
        peer.clear_until = UInt64.max / 2
        try BPFMap<nd_peer_key, nd_peer>(descriptor: try tc.map("nd_peers"), name: "nd_peers")
            .update(nd_peer_key(key.peer), peer)
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
                var verdict: UInt32 = 0
                var nanoseconds: UInt32 = 0
                let error = nd_bpf_test_run(
                    program.1, program.2, UInt32(program.2.count), nil, nil, 0, 0, repeats, &verdict, &nanoseconds)
                guard error == 0 else {
                    throw NDError("bench.run", "BPF_PROG_TEST_RUN: \(String(cString: strerror(-error)))")
                }
                guard Int32(bitPattern: verdict) == -1 else {
                    throw NDError("bench.verdict", "\(program.0) answered \(Int32(bitPattern: verdict)) for a clear flow")
                }
                costs[index].runs.append(Double(nanoseconds))
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
