import CLibbpf
import CNDABI
import CNDObjects
import Glibc
import NDABI
import NDCore

/// What a packet costs: nanoseconds of one run, one figure per round.
public struct ProgramCost: Sendable {
    public enum Standard: Sendable, Equatable {
        /// The programs that others are measured against.
        case none
        /// A packet of an established flow costs a bare parse and look-up at least.
        case establishedFlow
        /// An entry is made, filters are asked.
        case firstPacket

        /// Times the bare parse and look-up, both over the empty program.
        public var limit: Double? {
            switch self {
            case .none: nil
            case .establishedFlow: 2
            case .firstPacket: 12
            }
        }
    }

    public var name: String
    public var standard: Standard
    /// Of a first packet over an empty program that is reached in the same way; of all others the whole run.
    public var rounds: [Double] = []
    /// Times the bare parse and look-up of the same round and family, both over the empty program.
    public var ratios: [Double] = []

    /// Tables that the processor's caches hold, and those of a small host. With the larger ones each flow that nobody
    /// has seen costs reads of cold memory besides.
    static let tables: [UInt32] = [4096, 65_536]

    /// `discovery` negotiates outbound, `boundary` admits clear inbound. Rounds are interleaved, so that all see the
    /// same machine.
    public static func measure(discovery: PolicyImage, boundary: PolicyImage, rounds: Int) throws -> [ProgramCost] {
        let hosts = try MeasuredHost.Family.allCases.map { family in
            (family, established: try MeasuredHost(family, flows: 4096), firsts: try tables.map { try MeasuredHost(family, flows: $0) })
        }
        var costs: [ProgramCost] = []
        for round in 0..<max(rounds, 1) {
            var row = 0
            func add(_ name: String, _ standard: Standard, _ nanoseconds: Double, _ ratio: Double?) {
                if round == 0 { costs.append(ProgramCost(name: name, standard: standard)) }
                costs[row].rounds.append(nanoseconds)
                if let ratio { costs[row].ratios.append(ratio) }
                row += 1
            }
            for (family, established, firsts) in hosts {
                let name = "IPv\(family.rawValue)"
                try established.commit(discovery)
                let empty = try established.repeated(.empty)
                let floor = max(try established.repeated(.floor) - empty, 1)
                add("empty program, \(name)", .none, empty, nil)
                add("bare parse and LRU look-up, \(name)", .none, floor + empty, 1)
                for program in MeasuredHost.Program.established {
                    let cost = try established.repeated(program)
                    add("established \(program.rawValue), \(name)", .establishedFlow, cost, (cost - empty) / floor)
                }
                for (index, host) in firsts.enumerated() {
                    let room = "\(name), tables of \(tables[index])"
                    let entry = try host.first(.floorFirst)
                    add("bare parse, look-up and new entry, \(room)", .none, entry, entry / floor)
                    try host.commit(discovery)
                    let out = try host.first(.clearOut)
                    add("first packet of a flow out, \(room)", .firstPacket, out, out / floor)
                    try host.commit(boundary)
                    let inbound = try host.first(.clearIn)
                    add("first packet of a flow in, \(room)", .firstPacket, inbound, inbound / floor)
                }
            }
        }
        return costs
    }
}

/// Programs of its own, attached to nothing, that BPF_PROG_TEST_RUN runs on TCP packets between a local address and a
/// peer of which nothing is to be asked. A secured peer beside it, with flows of either kind.
public final class MeasuredHost {
    public enum Family: Int, CaseIterable, Sendable { case v4 = 4, v6 = 6 }

    enum Program: String {
        case empty, floor
        /// The floor's table makes an entry.
        case floorFirst = "bare new entry"
        case clearOut = "clear flow out"
        case clearIn = "clear flow in"
        case securedOut = "secured flow out"

        static let established: [Program] = [.clearOut, .clearIn, .securedOut]
    }

    private static let segment: UInt8 = 0x10, opening: UInt8 = 0x02

    let family: Family
    private let tc: LoadedProgram
    private let reference: LoadedProgram
    private let local: IPAddress
    private let plain: IPAddress
    private let secured: IPAddress
    /// Never one twice.
    private var made: UInt32 = 0

    /// Tables have room for so many flows.
    public init(_ family: Family, flows: UInt32) throws {
        tc = try LoadedProgram(nd_object_tc, "nd_tc", entries: ["nd_flows": flows, "nd_secured": flows])
        reference = try LoadedProgram(nd_object_floor, "nd_floor", entries: ["nd_floor_flows": flows])
        self.family = family
        guard let local = IPAddress(family == .v4 ? "10.66.0.1" : "fd66::1"),
            let plain = IPAddress(family == .v4 ? "10.66.0.2" : "fd66::2"),
            let secured = IPAddress(family == .v4 ? "10.66.0.3" : "fd66::3")
        else { throw NDError("bench.address", "bad address") }
        (self.local, self.plain, self.secured) = (local, plain, secured)
        try tc.prepare(local: local, peer: PeerKey(local: local, remote: plain))
        var peer = nd_peer()
        peer.state = ND_PEER_SECURED.rawValue
        peer.secured_until = UInt64.max
        try BPFMap<nd_peer_key, nd_peer>(descriptor: try tc.map("nd_peers"), name: "nd_peers")
            .update(nd_peer_key(PeerKey(local: local, remote: secured)), peer)
        // As the daemon sets nd0 up; the loopback stands for it, for a test run does not follow a redirect.
        try BPFMap<UInt32, UInt32>(descriptor: try tc.map("nd_devices"), name: "nd_devices").update(0, 1)
        let states = BPFMap<UInt32, nd_state>(descriptor: try tc.map("nd_state"), name: "nd_state")
        guard var state = states.lookup(0) else { throw NDError("bench.state", "no state") }
        state.nd0 = 1
        state.flags = ND_STATE_DEVICES
        try states.update(0, state)
        for (map, peer, flags) in [
            (try tc.map("nd_flows"), plain, 0), (try reference.map("nd_floor_flows"), plain, 0),
            (try tc.map("nd_secured"), secured, ND_FLOW_SECURE),
        ] {
            var flow = nd_flow()
            flow.first_seen = Instant.now().nanoseconds
            flow.last_seen = flow.first_seen
            flow.flags = flags
            let key = FlowKey(local: Endpoint(local, 40_000), remote: Endpoint(peer, 443), proto: IPProtocol.tcp)
            try BPFMap<nd_flow_key, nd_flow>(descriptor: map, name: "flows").update(nd_flow_key(key), flow)
        }
    }

    public func commit(_ policy: PolicyImage) throws { try tc.commit(policy) }

    /// One packet of an established flow, many times.
    func repeated(_ program: Program, times: UInt32 = 200_000) throws -> Double {
        try run(program, try descriptor(program), flags: Self.segment, times: times)
    }

    /// Packets of flows that nobody has seen, without what the empty program takes. nd_next_flow gives each repetition
    /// its own ports and calls the program, the empty one too.
    func first(_ program: Program, times: UInt32 = 10_000) throws -> Double {
        let costs = try [.empty, program].map { program in
            let slot = BPFMap<UInt32, UInt32>(descriptor: try reference.map("nd_measured"), name: "nd_measured")
            try slot.update(0, UInt32(bitPattern: try descriptor(program)))
            return try run(program, try reference.program("nd_next_flow"), flags: Self.opening, times: times, first: made)
        }
        made += times
        return costs[1] - costs[0]
    }

    public func firstOut() throws -> Double { try first(.clearOut) }
    public func establishedOut() throws -> Double { try repeated(.clearOut) }

    private func descriptor(_ program: Program) throws -> Int32 {
        switch program {
        case .empty: try reference.program("nd_empty")
        case .floor: try reference.program("nd_floor")
        case .floorFirst: try reference.program("nd_floor_first")
        case .clearOut, .securedOut: try tc.program("nd_egress")
        case .clearIn: try tc.program("nd_ingress")
        }
    }

    private func run(_ program: Program, _ descriptor: Int32, flags: UInt8, times: UInt32, first: UInt32? = nil) throws -> Double {
        // In the order of the packet's bytes, which nd_next_flow counts up as one number.
        var ports = first.map { [UInt8($0 & 255), UInt8($0 >> 8 & 255), UInt8($0 >> 16 & 255), UInt8($0 >> 24)] }
            ?? Self.bytes(40_000) + Self.bytes(443)
        if first == nil, program == .clearIn { ports = Array(ports[2...] + ports[..<2]) }
        let peer = program == .securedOut ? secured : plain
        let (from, to) = program == .clearIn ? (peer, local) : (local, peer)
        return try LoadedProgram.run(
            descriptor, program.rawValue, Self.frame(from, to, ports, flags), repeats: times,
            verdict: program == .securedOut ? 7 /* TC_ACT_REDIRECT */ : -1)
    }

    private static func bytes(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }

    /// 1,000 bytes in TCP.
    private static func frame(_ from: IPAddress, _ to: IPAddress, _ ports: [UInt8], _ flags: UInt8) -> [UInt8] {
        let tcp: [UInt8] = ports + [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]
        let payload = [UInt8](repeating: 0x61, count: 1000)
        let length = UInt16(tcp.count + payload.count)
        let head: [UInt8] = from.isIPv4
            ? [8, 0, 0x45, 0] + bytes(length + 20) + [0, 1, 0x40, 0, 64, 6, 0, 0]
            : [0x86, 0xdd, 0x60, 0, 0, 0] + bytes(length) + [6, 64]
        return [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2] + head + from.bytes + to.bytes + tcp + payload
    }
}
