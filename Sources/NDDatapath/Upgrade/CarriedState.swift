import CLibbpf
import CNDABI
import Foundation
import NDABI
import NDCore

/// How much an upgrade took over; part of the record of a load.
public struct TakenOver: Codable, Sendable, Equatable {
    public var abi: UInt32
    public var securedFlows: Int
    public var clearFlows: Int
    public var peers: Int
}

/// What of a loaded instance outlives its programs, in this version's form.
struct CarriedState {
    typealias Flow = (key: nd_flow_key, value: nd_flow)

    var abi: UInt32
    var secured: [Flow] = []
    var clear: [Flow] = []
    var peers: [(key: nd_peer_key, value: nd_peer)] = []
    var protections: [(key: nd_peer_key, value: nd_protection)] = []
    var machines: [(key: nd_machine, value: UInt32)] = []
    /// The devices and the engine's kind.
    var state = nd_state()
    /// Entries that the tables have room for.
    var flowRoom = 0
    var securedRoom = 0
    var peerRoom = 0

    var sum: TakenOver {
        TakenOver(abi: abi, securedFlows: secured.count, clearFlows: clear.count, peers: peers.count)
    }

    /// Whichever version loaded it. Throws where it can't be read whole.
    static func read(_ instance: Instance) throws -> CarriedState {
        switch try instance.loadedABI() {
        case ND_ABI_VERSION: try StateOfThisABI.read(instance)
        case StateOfABI6.number: try StateOfABI6.read(instance)
        case let other:
            throw NDError(
                "upgrade.unknown-abi",
                "instance '\(instance.name)' was loaded by a version with ABI \(other); this one takes over ABI \(StateOfABI6.number) to \(ND_ABI_VERSION)",
                hint: "use the version that loaded it, or one in between (docs/upgrade.md); nothing was changed")
        }
    }

    /// Fills empty tables. Whatever finds no room is an error.
    func write(_ datapath: Datapath) throws {
        for (key, value) in machines { try datapath.machines.update(key, value) }
        for (key, value) in peers { try datapath.peers.update(key, value) }
        for (key, value) in protections { try datapath.protections.update(key, value) }
        for (key, value) in secured { try datapath.secured.update(key, value) }
        // An LRU: the oldest go where there is no room.
        for (key, value) in clear { try datapath.flows.update(key, value) }
    }

    /// Adds what the programs before came to know since the state was read first, while the new ones run already.
    /// Nothing here takes anything from a packet's entry: one that both know keeps the later time, the earlier
    /// answer, and the marks of its end that either saw.
    func merge(_ datapath: Datapath) throws {
        for (key, value) in peers { try datapath.peers.update(key, value, onlyNew: true) }
        for (key, value) in protections { try datapath.protections.update(key, value, onlyNew: true) }
        let ends = ND_FLOW_FIN_IN | ND_FLOW_FIN_OUT | ND_FLOW_RESET
        for (key, old) in secured {
            if try datapath.secured.update(key, old, onlyNew: true) {
                // The latch is asked first; what may remain of it as a clear one means nothing.
                datapath.flows.delete(key)
                continue
            }
            guard let now = datapath.secured.lookup(key), now.last_seen != 0 else { continue }
            var both = now
            if old.first_seen == now.first_seen { both.flags |= old.flags & ends }
            if both.protected_rx_at == 0 { both.protected_rx_at = old.protected_rx_at }
            guard both.flags != now.flags || both.protected_rx_at != now.protected_rx_at else { continue }
            try datapath.secured.update(key, both, onlyExisting: true)
        }
        for (key, value) in clear where datapath.secured.lookup(key) == nil {
            try datapath.flows.update(key, value, onlyNew: true)
        }
    }
}

/// The state of another build with this version's ABI.
enum StateOfThisABI {
    static func read(_ instance: Instance) throws -> CarriedState {
        let datapath = try Datapath(instance)
        var carried = CarriedState(abi: ND_ABI_VERSION)
        carried.secured = try datapath.secured.snapshot().map { ($0.key, $0.value.uncached) }
        carried.clear = try datapath.flows.snapshot().map { ($0.key, $0.value.uncached) }
        carried.peers = try datapath.peers.snapshot()
        carried.protections = try datapath.protections.snapshot()
        carried.machines = try datapath.machines.snapshot()
        guard let state = datapath.state.lookup(0) else {
            throw NDError("map.read", "can't read map nd_state: \(String(cString: strerror(errno)))")
        }
        carried.state = state
        carried.flowRoom = datapath.flows.capacity ?? 0
        carried.securedRoom = datapath.secured.capacity ?? 0
        carried.peerRoom = datapath.peers.capacity ?? 0
        return carried
    }
}

extension nd_flow {
    /// Without verdicts: they were made under another count of epochs and another policy.
    var uncached: nd_flow {
        var flow = self
        flow.epoch = 0
        flow.epoch_in = 0
        flow.generation = 0
        flow.stored = 0
        // One that was about to be removed by a packet: it lives on, and ends by its time.
        if flow.flags & ND_FLOW_SECURE != 0, flow.last_seen == 0 { flow.last_seen = max(flow.secured_at, 1) }
        return flow
    }
}

extension BPFMap {
    func snapshot() throws -> [(key: Key, value: Value)] {
        var all: [(key: Key, value: Value)] = []
        try walk { all.append(($0, $1)) }
        return all
    }
}

extension Instance {
    /// The number of the ABI that what is pinned has; the first word of nd_state in every version.
    func loadedABI() throws(NDError) -> UInt32 {
        let fd = try openPin("nd_state")
        defer { close(fd) }
        guard let info = bpf_map_info(of: fd), info.value_size >= 4, info.value_size <= 4096 else {
            throw NDError("map.read", "can't read map nd_state: \(String(cString: strerror(errno)))")
        }
        var value = [UInt32](repeating: 0, count: Int(info.value_size + 3) / 4)
        var key: UInt32 = 0
        guard bpf_map_lookup_elem(fd, &key, &value) == 0 else {
            throw NDError("map.read", "can't read map nd_state: \(String(cString: strerror(errno)))")
        }
        return value[0]
    }
}
