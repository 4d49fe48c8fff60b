import CLibbpf
import CNDABI
import CNDObjects
import Foundation
import NDABI
import NDCore
import NDPolicy

@testable import NDDatapath

/// The programs as BPF_PROG_TEST_RUN runs them.
///
/// The kernel calls eth_type_trans() on whatever it is given, takes skb->protocol from bytes 12 and
/// 13, and puts the 14 bytes back: data starts where our bytes start. That is right for the two
/// Ethernet programs. The three others want an IP header at 0 and skb->protocol set: with a source
/// in 8.0.0.0/16 or 2001:db8:86dd::/48 the bytes 12 and 13 of the bare IP packet, which belong to its
/// source address, happen to be the EtherType.
enum Hook: String, CaseIterable, Sendable {
    case egress = "nd_egress"
    case ingress = "nd_ingress"
    case egressL3 = "nd_egress_l3"
    case ingressL3 = "nd_ingress_l3"
    case decrypted = "nd_nd0_ingress"

    var isEthernet: Bool { self == .egress || self == .ingress }
    var isOutbound: Bool { self == .egress || self == .egressL3 }
}

enum Verdict: Hashable {
    /// `redirect` is into nd0 or, with a reason for a drop, into no device: the packet is lost.
    case pass, drop, redirect
    case other(UInt32)

    init(_ value: UInt32) {
        switch Int32(bitPattern: value) {
        case -1: self = .pass
        case 2: self = .drop
        case 7: self = .redirect
        default: self = .other(value)
        }
    }
}

/// One copy of the object in the kernel: no pins, nothing attached.
final class LoadedObject: @unchecked Sendable {
    private let object: OpaquePointer
    private let ring: OpaquePointer
    let programs: [Hook: Int32]
    let maps: [String: Int32]
    let sweep: Int32
    private var received: [DatapathEvent] = []

    init() throws {
        var size = 0
        let image = nd_object_tc(&size)
        guard let object = nd_bpf_open(image, size, "nd_test") else {
            throw NDError("test.open", String(cString: nd_bpf_log()))
        }
        for (name, entries) in [("nd_flows", 4096), ("nd_secured", 4096), ("nd_peers", 256), ("nd_local", 64), ("nd_fragments", 1024)] {
            bpf_map__set_max_entries(bpf_object__find_map_by_name(object, name), UInt32(entries))
        }
        guard bpf_object__load(object) == 0 else {
            throw NDError("test.load", String(cString: nd_bpf_log()), hint: "these tests need root")
        }
        self.object = object
        programs = Dictionary(
            uniqueKeysWithValues: Hook.allCases.map {
                ($0, bpf_program__fd(bpf_object__find_program_by_name(object, $0.rawValue)))
            })
        sweep = bpf_program__fd(bpf_object__find_program_by_name(object, "nd_sweep"))
        maps = Dictionary(
            uniqueKeysWithValues: [
                "nd_state", "nd_policies", "nd_flows", "nd_peers", "nd_local", "nd_fragments", "nd_stats", "nd_events",
                "nd_protections", "nd_machines", "nd_consulting", "nd_callout_meta", "nd_callouts", "nd_secured", "nd_broadcasts",
            ].map { ($0, bpf_map__fd(bpf_object__find_map_by_name(object, $0))) })
        final class Box { var deliver: ((DatapathEvent) -> Void)? }
        let box = Box()
        guard
            let ring = nd_ring_open(
                maps["nd_events"] ?? -1,
                { context, data, size in
                    guard let context, let data, size >= MemoryLayout<nd_event>.size else { return 0 }
                    Unmanaged<Box>.fromOpaque(context).takeUnretainedValue().deliver?(
                        DatapathEvent(UnsafePointer(data.assumingMemoryBound(to: nd_event.self))))
                    return 0
                }, Unmanaged.passRetained(box).toOpaque())
        else { throw NDError("test.ring", String(cString: strerror(errno))) }
        self.ring = ring
        box.deliver = { [unowned self] in received.append($0) }
    }

    func drain() -> [DatapathEvent] {
        received = []
        _ = ring_buffer__consume(ring)
        return received
    }

    // MARK: loading takes longer than a test: the objects are lent

    private static let lock = NSLock()
    nonisolated(unsafe) private static var free: [LoadedObject] = []

    static func borrow() throws -> LoadedObject {
        if let one = lock.withLock({ free.popLast() }) { return one }
        return try LoadedObject()
    }

    static func giveBack(_ object: LoadedObject) { lock.withLock { free.append(object) } }
}

/// A host with a policy, its addresses and its tables, and the programs to run on packets.
final class Bench {
    struct Outcome {
        var verdict: Verdict
        /// From the IP header on.
        var packet: [UInt8]
        var events: [DatapathEvent]
        var passed: PassKind?
        var dropped: DropReason?
    }

    let object: LoadedObject
    let flows: BPFMap<nd_flow_key, nd_flow>
    let secured: BPFMap<nd_flow_key, nd_flow>
    let heard: BPFMap<nd_flow_key, UInt64>
    let peers: BPFMap<nd_peer_key, nd_peer>
    let local: BPFMap<nd_addr, UInt32>
    let fragments: BPFMap<nd_fragment_key, nd_fragment>
    let state: BPFMap<UInt32, nd_state>
    let protections: BPFMap<nd_peer_key, nd_protection>
    private let policies: BPFMap<UInt32, UInt32>
    private let statsDescriptor: Int32
    private var counted: [UInt64] = []
    private(set) var policy = CompiledPolicy(filters: [])

    init(_ rules: [Rule] = Rules.discovery, _ change: (inout CompiledPolicy) -> Void = { _ in }) throws {
        let object = try LoadedObject.borrow()
        self.object = object
        func map(_ name: String) -> Int32 { object.maps[name] ?? -1 }
        flows = BPFMap(descriptor: map("nd_flows"), name: "nd_flows")
        secured = BPFMap(descriptor: map("nd_secured"), name: "nd_secured")
        heard = BPFMap(descriptor: map("nd_broadcasts"), name: "nd_heard")
        peers = BPFMap(descriptor: map("nd_peers"), name: "nd_peers")
        local = BPFMap(descriptor: map("nd_local"), name: "nd_local")
        fragments = BPFMap(descriptor: map("nd_fragments"), name: "nd_fragments")
        state = BPFMap(descriptor: map("nd_state"), name: "nd_state")
        protections = BPFMap(descriptor: map("nd_protections"), name: "nd_protections")
        policies = BPFMap(descriptor: map("nd_policies"), name: "nd_policies")
        statsDescriptor = map("nd_stats")
        for key in flows.entries().map(\.key) { flows.delete(key) }
        for key in secured.entries().map(\.key) { secured.delete(key) }
        for key in heard.entries().map(\.key) { heard.delete(key) }
        for key in peers.entries().map(\.key) { peers.delete(key) }
        for key in local.entries().map(\.key) { local.delete(key) }
        for key in fragments.entries().map(\.key) { fragments.delete(key) }
        _ = object.drain()
        for address in Address.local { try local.update(nd_addr(bytesOf: address), ND_LOCAL_UNICAST) }
        try local.update(nd_addr(bytesOf: Address.broadcast), ND_LOCAL_BROADCAST)
        var first = nd_state()
        first.abi = ND_ABI_VERSION
        first.epoch = 100
        first.nd0 = 1
        try state.update(0, first)
        var compiled = CompiledPolicy(filters: rules.rangeFilters)
        compiled.overheadV4 = 62
        compiled.overheadV6 = 62
        change(&compiled)
        try commit(compiled)
        counted = readStats()
    }

    deinit { LoadedObject.giveBack(object) }

    // MARK: what the daemon does

    func commit(_ policy: CompiledPolicy, generation: UInt32 = 1) throws {
        try PolicySlot.commit(policy.image(generation: generation), to: policies, typesOf: state.descriptor)
        self.policy = policy
        try raiseEpoch()
    }

    func raiseEpoch(_ change: (inout nd_state) -> Void = { _ in }) throws {
        var value = state.lookup(0) ?? nd_state()
        change(&value)
        value.epoch += 1
        try state.update(0, value)
    }

    /// As the daemon does it: the entry, then the epoch.
    func setPeer(_ peer: PeerEntry?, _ family: IPFamily = .v4, context: UInt32 = 0) throws {
        let key = Address.peer(family, context)
        if let peer { try peers.update(key, peer.abi) } else { peers.delete(key) }
        try raiseEpoch()
    }

    func secure(_ family: IPFamily = .v4, context: UInt32 = 0) throws {
        let now = Self.now()
        try setPeer(
            PeerEntry(.secured, changedAt: now, securedAt: now, securedUntil: PeerEntry.stillSecured), family,
            context: context)
    }

    func lose(_ family: IPFamily = .v4, secondsAgo: Double = 0) throws {
        var peer = peers.lookup(Address.peer(family)).flatMap { PeerEntry(abi: $0) }
            ?? PeerEntry(.lost, changedAt: Self.ago(secondsAgo), securedAt: Self.ago(secondsAgo + 100))
        peer.state = .lost
        peer.changedAt = Self.ago(secondsAgo)
        peer.securedUntil = Self.ago(secondsAgo)
        try setPeer(peer, family)
    }

    func fail(_ family: IPFamily = .v4, clearFor seconds: Double) throws {
        var peer = peers.lookup(Address.peer(family)).flatMap { PeerEntry(abi: $0) } ?? PeerEntry(.clear, changedAt: Self.now())
        peer.state = .clear
        peer.clearUntil = seconds < 0 ? Self.ago(-seconds) : Self.now().advanced(by: .seconds(seconds))
        try peers.update(Address.peer(family), peer.abi)
    }

    func peer(_ family: IPFamily = .v4, context: UInt32 = 0) -> PeerEntry? {
        peers.lookup(Address.peer(family, context)).flatMap { PeerEntry(abi: $0) }
    }

    /// Whichever table has it; the latch is asked first.
    func flow(_ key: FlowKey) -> FlowEntry? { entry(key).map { FlowEntry(abi: $0) } }

    private func entry(_ key: FlowKey) -> nd_flow? { secured.lookup(nd_flow_key(key)) ?? flows.lookup(nd_flow_key(key)) }

    /// Into the table that an entry of its kind is in, and out of the other.
    func put(_ key: FlowKey, _ flow: nd_flow) throws {
        let isSecure = flow.flags & ND_FLOW_SECURE != 0
        (isSecure ? flows : secured).delete(nd_flow_key(key))
        try (isSecure ? secured : flows).update(nd_flow_key(key), flow)
    }

    func removeFlow(_ key: FlowKey) {
        flows.delete(nd_flow_key(key))
        secured.delete(nd_flow_key(key))
    }

    /// Makes an entry look older (or its latch, or its peer's) by so many seconds.
    func age(_ key: FlowKey, by seconds: Double) throws {
        guard var flow = entry(key) else { return }
        let span = UInt64(seconds * 1e9)
        // No older than the machine, which may have been started a minute ago.
        flow.first_seen -= min(span, flow.first_seen)
        flow.last_seen -= span
        if flow.secured_at > 0 { flow.secured_at -= span }
        if flow.protected_rx_at > 0 { flow.protected_rx_at -= span }
        try put(key, flow)
    }

    func sweep(_ key: nd_flow_key, seen: UInt64) throws -> Bool {
        try SecuredSweep.run(object.sweep, key, seen: seen)
    }

    // MARK: packets

    @discardableResult
    func run(_ hook: Hook, _ packet: [UInt8], vlans: [UInt16] = []) throws -> Outcome {
        let bytes = hook.isEthernet ? Ethernet.frame(packet, vlans: vlans) : packet
        return try runRaw(hook, bytes, headers: hook.isEthernet ? 14 + 4 * vlans.count : 0)
    }

    func runRaw(_ hook: Hook, _ bytes: [UInt8], headers: Int = 0) throws -> Outcome {
        var out = [UInt8](repeating: 0, count: bytes.count + 256)
        var size = UInt32(out.count)
        var value: UInt32 = 0
        var duration: UInt32 = 0
        let error = nd_bpf_test_run(
            object.programs[hook] ?? -1, bytes, UInt32(bytes.count), &out, &size, 0, 0, 1, &value, &duration)
        guard error == 0 else {
            throw NDError("test.run", "\(hook) \(bytes.count) bytes: \(String(cString: strerror(-error)))")
        }
        let events = object.drain()
        let stats = readStats()
        let passes = Int(ND_PASS_COUNT.rawValue)
        let drops = Int(ND_DROP_COUNT.rawValue)
        let passed = (0..<passes).first { stats[$0] > counted[$0] }
        let dropped = (0..<drops).first { stats[2 * passes + $0] > counted[2 * passes + $0] }
        counted = stats
        return Outcome(
            verdict: Verdict(value), packet: Array(out[min(headers, Int(size))..<Int(size)]), events: events,
            passed: passed.flatMap { PassKind(rawValue: UInt32($0)) },
            dropped: dropped.flatMap { DropReason(rawValue: UInt32($0)) })
    }

    /// Counters behind the arrays of nd_stats.
    enum Counter: Int { case upgrades, flowsCreated, eventsLost, peersFull, mssClamped, oversize }

    func counter(_ counter: Counter) -> UInt64 {
        readStats()[2 * Int(ND_PASS_COUNT.rawValue + ND_DROP_COUNT.rawValue) + counter.rawValue]
    }

    private static let processors = Int(max(libbpf_num_possible_cpus(), 1))

    /// Many times, and nobody reads the events.
    func runUnread(_ hook: Hook, _ packet: [UInt8], times: UInt32) throws {
        let bytes = hook.isEthernet ? Ethernet.frame(packet) : packet
        var (value, duration): (UInt32, UInt32) = (0, 0)
        let error = nd_bpf_test_run(
            object.programs[hook] ?? -1, bytes, UInt32(bytes.count), nil, nil, 0, 0, times, &value, &duration)
        guard error == 0 else { throw NDError("test.run", String(cString: strerror(-error))) }
    }

    /// What other programs counted is not the next run's.
    func forgetCounts() { counted = readStats() }

    func rawStats() -> [UInt64] { readStats() }

    private func readStats() -> [UInt64] {
        let words = MemoryLayout<nd_stats>.size / 8
        var raw = [UInt64](repeating: 0, count: words * Self.processors)
        var key: UInt32 = 0
        guard bpf_map_lookup_elem(statsDescriptor, &key, &raw) == 0 else { return raw }
        return (0..<words).map { word in (0..<Self.processors).reduce(0) { $0 + raw[$1 * words + word] } }
    }

    // MARK: time, as bpf_ktime_get_coarse_ns reads it

    static func now() -> Instant {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
        return Instant(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }

    static func ago(_ seconds: Double) -> Instant {
        Instant(nanoseconds: now().nanoseconds - UInt64(seconds * 1e9))
    }
}

extension nd_addr {
    /// NDPolicy and NDDatapath both have an initializer of this shape.
    init(bytesOf address: IPAddress) {
        self.init()
        quads = (address.high.bigEndian, address.low.bigEndian)
    }
}

enum Address {
    static let local4 = IPAddress("8.0.0.1") ?? .zero
    static let remote4 = IPAddress("8.0.0.2") ?? .zero
    static let router4 = IPAddress("8.0.0.9") ?? .zero
    static let local6 = IPAddress("2001:db8:86dd::1") ?? .zero
    static let remote6 = IPAddress("2001:db8:86dd::2") ?? .zero
    static let router6 = IPAddress("2001:db8:86dd::9") ?? .zero
    static let linkLocal6 = IPAddress("fe80::2") ?? .zero
    static let linkLocal4 = IPAddress("169.254.1.2") ?? .zero
    static let foreign4 = IPAddress("8.0.7.7") ?? .zero
    static let foreign6 = IPAddress("2001:db8:86dd:7::7") ?? .zero
    static let broadcast = IPAddress("8.0.255.255") ?? .zero
    static let local = [local4, local6]

    static func local(_ family: IPFamily) -> IPAddress { family == .v4 ? local4 : local6 }
    static func remote(_ family: IPFamily) -> IPAddress { family == .v4 ? remote4 : remote6 }
    static func router(_ family: IPFamily) -> IPAddress { family == .v4 ? router4 : router6 }
    static func foreign(_ family: IPFamily) -> IPAddress { family == .v4 ? foreign4 : foreign6 }
    static func linkLocal(_ family: IPFamily) -> IPAddress { family == .v4 ? linkLocal4 : linkLocal6 }

    static func peer(_ family: IPFamily, _ context: UInt32 = 0) -> nd_peer_key {
        nd_peer_key(PeerKey(local: local(family), remote: remote(family), context: context))
    }
}

extension IPAddress {
    static let zero = IPAddress(high: 0, low: 0)
}

/// Rule sets in the order of a compiled scenario.
enum Rules {
    static func rule(
        _ layer: DatapathLayer, _ action: RuleAction, proto: UInt8? = nil, _ change: (inout Rule) -> Void = { _ in }
    ) -> Rule {
        var rule = Rule(id: 1, layer: layer, action: action, proto: proto)
        change(&rule)
        return rule
    }

    static let exemptICMP = [DatapathLayer.outboundTransport, .inboundTransport, .aleAuthRecvAccept].flatMap { layer in
        [rule(layer, .permit, proto: IPProtocol.icmp), rule(layer, .permit, proto: IPProtocol.icmpv6)]
    }
    /// NEGOTIATE_DISCOVER out, INITIATE_SECURE in.
    static let discoveryNoICMP = [
        rule(.outboundTransport, .negotiateDiscover), rule(.inboundTransport, .persistSecurity),
        rule(.aleAuthRecvAccept, .initiateSecure),
    ]
    static let boundaryNoICMP = Array(discoveryNoICMP.prefix(2))
    static let secureNoICMP = [rule(.outboundTransport, .requireOutbound)] + discoveryNoICMP.dropFirst()
    static let discovery = exemptICMP + discoveryNoICMP
    static let boundary = exemptICMP + boundaryNoICMP
    static let secure = exemptICMP + secureNoICMP
}
