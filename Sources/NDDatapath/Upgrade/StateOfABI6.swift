import CLibbpf
import CNDABI
import CNDABI6
import Glibc
import NDABI
import NDCore

/// The state that the version with ABI 6 pinned. One table, an LRU, had all its flows; a flag told the secured ones.
enum StateOfABI6 {
    static let number = ND6_ABI_VERSION

    static func read(_ instance: Instance) throws -> CarriedState {
        var carried = CarriedState(abi: number)
        let flows: BPFMap<nd6_flow_key, nd6_flow> = try instance.openMap("nd_flows")
        defer { close(flows.descriptor) }
        for (key, flow) in try flows.snapshot() {
            let converted = (nd_flow_key(key), nd_flow(flow))
            if flow.flags & ND6_FLOW_SECURE != 0 { carried.secured.append(converted) } else { carried.clear.append(converted) }
        }
        let peers: BPFMap<nd6_peer_key, nd6_peer> = try instance.openMap("nd_peers")
        defer { close(peers.descriptor) }
        carried.peers = try peers.snapshot().map { (nd_peer_key($0.key), nd_peer($0.value)) }
        let protections: BPFMap<nd6_peer_key, nd6_protection> = try instance.openMap("nd_protections")
        defer { close(protections.descriptor) }
        carried.protections = try protections.snapshot().map { (nd_peer_key($0.key), nd_protection($0.value)) }
        let machines: BPFMap<nd6_machine, UInt32> = try instance.openMap("nd_machines")
        defer { close(machines.descriptor) }
        carried.machines = try machines.snapshot().map { (nd_machine(name: $0.key.name), $0.value) }
        let state: BPFMap<UInt32, nd6_state> = try instance.openMap("nd_state")
        defer { close(state.descriptor) }
        guard let dynamic = state.lookup(0) else {
            throw NDError("map.read", "can't read map nd_state: \(String(cString: strerror(errno)))")
        }
        carried.state.nd0 = dynamic.nd0
        carried.state.fragments = dynamic.fragments
        if dynamic.flags & ND6_STATE_KERNEL_ENGINE != 0 { carried.state.flags = ND_STATE_KERNEL_ENGINE }
        carried.flowRoom = flows.capacity ?? 0
        carried.securedRoom = carried.flowRoom
        carried.peerRoom = peers.capacity ?? 0
        return carried
    }
}

extension nd_addr {
    fileprivate init(_ old: nd6_addr) {
        self.init()
        words = old.words
    }
}

extension nd_flow_key {
    fileprivate init(_ old: nd6_flow_key) {
        self.init(
            local: nd_addr(old.local), remote: nd_addr(old.remote), local_port: old.local_port,
            remote_port: old.remote_port, proto: old.proto, zero: (0, 0, 0))
    }
}

extension nd_flow {
    fileprivate init(_ old: nd6_flow) {
        self.init()
        first_seen = old.first_seen
        last_seen = old.last_seen
        secured_at = old.secured_at
        protected_rx_at = old.protected_rx_at
        packets = old.packets
        bytes = old.bytes
        context = old.context
        // An inbound clear flow is not said to be accepted: ABI 6 let forged packets make such entries.
        for (before, now) in [
            (ND6_FLOW_SECURE, ND_FLOW_SECURE), (ND6_FLOW_EXEMPT, ND_FLOW_EXEMPT), (ND6_FLOW_TRIGGER, ND_FLOW_TRIGGER),
            (ND6_FLOW_CLEAR_REPLY, ND_FLOW_CLEAR_REPLY),
        ] where old.flags & before != 0 { flags |= now }
        // Clear packets could mark a secured connection as ended (a forged RST).
        if flags & ND_FLOW_SECURE == 0 {
            for (before, now) in [
                (ND6_FLOW_FIN_OUT, ND_FLOW_FIN_OUT), (ND6_FLOW_FIN_IN, ND_FLOW_FIN_IN), (ND6_FLOW_RESET, ND_FLOW_RESET),
            ] where old.flags & before != 0 { flags |= now }
        } else if last_seen == 0 {
            last_seen = max(secured_at, 1)
        }
        direction = old.direction
    }
}

extension nd_peer_key {
    fileprivate init(_ old: nd6_peer_key) {
        self.init(local: nd_addr(old.local), remote: nd_addr(old.remote), context: old.context, zero: 0)
    }
}

extension nd_peer {
    fileprivate init(_ old: nd6_peer) {
        self.init(
            state: old.state, flags: old.flags & (ND6_PEER_BOUNDARY | ND6_PEER_ANSWERING), changed_at: old.changed_at,
            secured_at: old.secured_at, secured_until: old.secured_until, clear_until: old.clear_until)
    }
}

extension nd_protection {
    fileprivate init(_ old: nd6_protection) {
        self.init(
            spi_in: old.spi_in, spi_out: old.spi_out, identity_length: old.identity_length,
            identity_type: old.identity_type, in_udp: old.in_udp, machine: old.machine, zero: 0, identity: old.identity)
    }
}
