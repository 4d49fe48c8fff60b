import CLibbpf
import CNDABI
import CNDObjects
import CNDSystem
import Foundation
import NDABI
import NDCore

/// The loaded BPF side of one instance: its maps, opened from the pins.
public final class Datapath: Sendable {
    public let instance: Instance
    public let flows: BPFMap<nd_flow_key, nd_flow>
    /// The latch: secured flows.
    public let secured: BPFMap<nd_flow_key, nd_flow>
    public let peers: BPFMap<nd_peer_key, nd_peer>
    public let local: BPFMap<nd_addr, UInt32>
    public let fragments: BPFMap<nd_fragment_key, nd_fragment>
    public let state: BPFMap<UInt32, nd_state>
    public let policies: BPFMap<UInt32, UInt32>
    public let interfaces: BPFMap<UInt32, nd_interface>
    public let machines: BPFMap<nd_machine, UInt32>
    public let protections: BPFMap<nd_peer_key, nd_protection>
    public let eventsDescriptor: Int32
    public let statsDescriptor: Int32
    private let ikeSocketsDescriptor: Int32

    static let mapNames = [
        "nd_state", "nd_policies", "nd_flows", "nd_peers", "nd_local", "nd_fragments", "nd_stats",
        "nd_events", "nd_protections", "nd_consulting", "nd_callout_meta", "nd_callouts",
        "nd_machines", "nd_secured", "nd_broadcasts", "nd_interfaces", "nd_devices", "nd_ike_sockets", "nd_fresh",
    ]
    static let programNames = [
        "nd_egress", "nd_ingress", "nd_egress_l3", "nd_ingress_l3", "nd_nd0_ingress", SecuredSweep.program,
    ]

    /// Opens the pins of a loaded instance.
    public init(_ instance: Instance) throws {
        self.instance = instance
        state = try instance.openMap("nd_state")
        // First: another version has other maps.
        if let now = state.lookup(0), now.abi != ND_ABI_VERSION {
            throw NDError(
                "instance.abi",
                "instance '\(instance.name)' was loaded by a version with ABI \(now.abi); this is \(ND_ABI_VERSION)",
                hint: "`ndbpf load`, or `ndbpf run`, takes over what that one knows (docs/upgrade.md); nothing was changed")
        }
        flows = try instance.openMap("nd_flows")
        secured = try instance.openMap("nd_secured")
        ikeSocketsDescriptor = try instance.openPin("nd_ike_sockets")
        peers = try instance.openMap("nd_peers")
        local = try instance.openMap("nd_local")
        fragments = try instance.openMap("nd_fragments")
        policies = try instance.openMap("nd_policies")
        interfaces = try instance.openMap("nd_interfaces")
        machines = try instance.openMap("nd_machines")
        protections = try instance.openMap("nd_protections")
        eventsDescriptor = try instance.openPin("nd_events")
        statsDescriptor = try instance.openPin("nd_stats")
    }

    deinit {
        for fd in [
            flows.descriptor, secured.descriptor, ikeSocketsDescriptor, peers.descriptor, local.descriptor, fragments.descriptor, state.descriptor,
            policies.descriptor, interfaces.descriptor, protections.descriptor, machines.descriptor, eventsDescriptor, statsDescriptor,
        ] { close(fd) }
    }

    /// Says of a UDP socket that it is the daemon's: what it sends and gets from an IKE port is exempt.
    public func markIKESocket(_ descriptor: Int32) throws {
        var key = descriptor
        var value: UInt32 = 1
        guard bpf_map_update_elem(ikeSocketsDescriptor, &key, &value, 0) == 0 else {
            throw NDError("map.ike-socket", "can't mark an IKE socket: \(String(cString: strerror(errno)))")
        }
    }

    /// Where protected packets go from now on; 0: nowhere. In the same breath into the map from which the kernel
    /// takes a device that goes.
    public func setDevices(nd0: UInt32, fragments: UInt32) throws {
        let devices: BPFMap<UInt32, UInt32> = try instance.openMap("nd_devices")
        defer { close(devices.descriptor) }
        for (place, index) in [(UInt32(0), nd0), (1, fragments)] {
            if index == 0 { devices.delete(place) } else { try devices.update(place, index) }
        }
        try changeState {
            $0.nd0 = nd0
            $0.fragments = fragments
            $0.flags |= ND_STATE_DEVICES
        }
    }

    /// A flow's entry, whichever table has it.
    public func flow(_ key: nd_flow_key) -> nd_flow? { secured.lookup(key) ?? flows.lookup(key) }

    /// Changes the dynamic state and raises the epoch, so that no cached verdict outlives it.
    public func changeState(_ body: (inout nd_state) -> Void = { _ in }) throws {
        // The daemon and `policy apply` are two processes.
        try locked("state.lock") {
            var value = state.lookup(0) ?? nd_state()
            value.abi = ND_ABI_VERSION
            body(&value)
            // Zero is the epoch of a fresh flow entry, which must never look valid.
            value.epoch = value.epoch &+ 1 == 0 ? 1 : value.epoch &+ 1
            try state.update(0, value)
        }
    }

    /// Puts a whole policy in place with one pointer swap.
    public func commit(_ policy: PolicyImage) throws {
        try PolicySlot.commit(policy, to: policies, typesOf: state.descriptor)
        try changeState()
    }

    /// The policy in force; nil before the first commit.
    public func currentPolicy() throws -> nd_policy? {
        try PolicySlot.read(policies, banks: 1)?.header
    }

    /// The same with its filters' tables.
    public func currentImage() throws -> PolicyImage? { try PolicySlot.read(policies) }

    /// Sums over the CPUs.
    public func stats() -> nd_stats {
        var sum = nd_stats()
        let cpus = Int(max(libbpf_num_possible_cpus(), 1))
        // The kernel rounds a per-CPU value up to 8 bytes; nd_stats is made of 64-bit words.
        let words = MemoryLayout<nd_stats>.size / 8
        var raw = [UInt64](repeating: 0, count: words * cpus)
        var key: UInt32 = 0
        guard bpf_map_lookup_elem(statsDescriptor, &key, &raw) == 0 else { return sum }
        withUnsafeMutableBytes(of: &sum) { bytes in
            let into = bytes.bindMemory(to: UInt64.self)
            for cpu in 0..<cpus {
                for word in 0..<min(words, into.count) { into[word] &+= raw[cpu * words + word] }
            }
        }
        return sum
    }

    public func describeMaps() -> [MapDescription] {
        // The last one is there while the program at the socket is.
        (Self.mapNames + [CalloutSlots.socketMap]).compactMap { name in
            let fd = bpf_obj_get(instance.mapPin(name))
            guard fd >= 0 else { return nil }
            defer { close(fd) }
            guard let info = bpf_map_info(of: fd) else { return nil }
            let type = libbpf_bpf_map_type_str(bpf_map_type(rawValue: info.type)).map { String(cString: $0) }
            var count: Int?
            switch name {
            case "nd_flows": count = flows.entries().count
            case "nd_secured": count = secured.entries().count
            case "nd_peers": count = peers.entries().count
            case "nd_local": count = local.entries().count
            case "nd_fragments": count = fragments.entries().count
            case "nd_interfaces": count = interfaces.entries().count
            case "nd_machines": count = machines.entries().count
            case "nd_protections": count = protections.entries().count
            case "nd_state", "nd_policies", "nd_stats": count = Int(info.max_entries)
            default: count = nil
            }
            return MapDescription(
                name: name, type: type ?? "\(info.type)", keyBytes: Int(info.key_size),
                valueBytes: Int(info.value_size), capacity: Int(info.max_entries), entries: count)
        }
    }
}
