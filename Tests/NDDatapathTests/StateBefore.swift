import CLibbpf
import CNDABI
import CNDABI6
import CNDSystem
import Foundation
import NDABI
import NDCore
import NDPolicy
import Testing

@testable import NDDatapath

/// What the version with ABI 6 left on a host of its own: maps of its layouts, programs that let nothing through, its
/// links or filters, and its record. A sender beside it puts packets of a secured flow on the wire the whole time; the
/// other end of the wire counts those that leave.
///
///     eth0 (the host) ---- other end (another namespace), which counts
final class StateBefore: @unchecked Sendable {
    static let flowRoom: UInt32 = 2048
    static let peerRoom: UInt32 = 512
    /// 10.9.0.1 and 10.9.0.2, fd09::1 and fd09::2
    static let addresses = [
        (local: IPAddress(high: 0, low: 0xffff_0a09_0001), remote: IPAddress(high: 0, low: 0xffff_0a09_0002)),
        (local: IPAddress(high: 0xfd09_0000_0000_0000, low: 1), remote: IPAddress(high: 0xfd09_0000_0000_0000, low: 2)),
    ]

    let instance: Instance
    let namespace: String
    let flows: Int32
    let securedKeys: [FlowKey]
    let clearKeys: [FlowKey]
    let peerKeys: [nd6_peer_key]
    private let other: String
    private var descriptors: [Int32] = []
    private let counter: Int32
    private let senders: [Int32]
    private let lock = NSLock()
    private var running = true
    private let finished = DispatchGroup()
    private var passed = 0
    private var sent = 0

    static func run(_ arguments: String...) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw NDError("test.run", arguments.joined(separator: " ")) }
    }

    init(clsact: Bool = false, abi: UInt32 = ND6_ABI_VERSION, secured: Int = 100) throws {
        let tag = "u\(getpid())x\(UInt32.random(in: 0..<1_000_000))"
        let (namespace, other) = ("nd\(tag)", "nd\(tag)-o")
        let instance = try Instance(tag)
        var descriptors: [Int32] = []
        try Self.run("ip", "netns", "add", namespace)
        try Self.run("ip", "netns", "add", other)
        try Self.run("ip", "link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", "end0", "netns", other)
        try Self.run("ip", "-n", other, "link", "set", "end0", "up")
        for command in ["link set lo up", "link set eth0 up", "addr add 10.9.0.1/24 dev eth0", "addr add fd09::1/64 dev eth0 nodad"] {
            try Self.run("sh", "-c", "ip -n \(namespace) \(command)")
        }
        let mac = "02:00:00:00:09:02"
        try Self.run("ip", "-n", namespace, "neigh", "add", "10.9.0.2", "lladdr", mac, "dev", "eth0", "nud", "permanent")
        try Self.run("ip", "-n", namespace, "neigh", "add", "fd09::2", "lladdr", mac, "dev", "eth0", "nud", "permanent")

        // ---- maps
        try Instance.prepareFileSystem()
        try FileManager.default.createDirectory(atPath: instance.pinDirectory, withIntermediateDirectories: true)
        func map<Key, Value>(_ name: String, _ type: bpf_map_type, _ room: UInt32, flags: UInt32 = 0, _: Key.Type, _: Value.Type) throws -> Int32 {
            var options = bpf_map_create_opts()
            options.sz = MemoryLayout<bpf_map_create_opts>.size
            options.map_flags = flags
            let fd = bpf_map_create(type, name, UInt32(MemoryLayout<Key>.stride), UInt32(MemoryLayout<Value>.stride), room, &options)
            guard fd >= 0, bpf_obj_pin(fd, instance.mapPin(name)) == 0 else { throw NDError("test.map", "\(name): \(errno)") }
            descriptors.append(fd)
            return fd
        }
        let noPrealloc: UInt32 = 1
        let flows = try map("nd_flows", BPF_MAP_TYPE_LRU_HASH, Self.flowRoom, nd6_flow_key.self, nd6_flow.self)
        let peers = try map("nd_peers", BPF_MAP_TYPE_HASH, Self.peerRoom, nd6_peer_key.self, nd6_peer.self)
        let protections = try map("nd_protections", BPF_MAP_TYPE_HASH, Self.peerRoom, flags: noPrealloc, nd6_peer_key.self, nd6_protection.self)
        let machines = try map("nd_machines", BPF_MAP_TYPE_HASH, 64, flags: noPrealloc, nd6_machine.self, UInt32.self)
        let state = try map("nd_state", BPF_MAP_TYPE_ARRAY, 1, UInt32.self, nd6_state.self)

        let now = Instant.now().nanoseconds
        var securedKeys: [FlowKey] = []
        var clearKeys: [FlowKey] = []
        var peerKeys: [nd6_peer_key] = []
        for (index, pair) in Self.addresses.enumerated() {
            for number in 0..<secured / 2 {
                let udp = number == 0
                let key = FlowKey(
                    local: Endpoint(pair.local, UInt16(20_000 + number)), remote: Endpoint(pair.remote, 9), proto: udp ? IPProtocol.udp : IPProtocol.tcp)
                securedKeys.append(key)
                try Self.put(flows, nd6_flow_key(key), Self.flow(secured: true, seed: UInt64(number), now))
            }
            for number in 0..<10 {
                let key = FlowKey(local: Endpoint(pair.local, UInt16(30_000 + number)), remote: Endpoint(pair.remote, 80), proto: IPProtocol.tcp)
                clearKeys.append(key)
                try Self.put(flows, nd6_flow_key(key), Self.flow(secured: false, seed: UInt64(number), now))
            }
            for context in 0..<UInt32(3) {
                let key = nd6_peer_key(local: nd6_addr(pair.local), remote: nd6_addr(pair.remote), context: context, zero: 0)
                peerKeys.append(key)
                // lost, then secured, then clear
                let secured: UInt64 = [now - 5, ~0, 0][Int(context)]
                try Self.put(
                    peers, key,
                    nd6_peer(
                        state: [3, 2, 4][Int(context)], flags: context & 3, changed_at: now - 7, secured_at: now - 9,
                        secured_until: secured, clear_until: now + 60_000_000_000))
                var protection = nd6_protection()
                (protection.spi_in, protection.spi_out, protection.machine) = (0x1000 + context, UInt32(index), UInt16(7))
                protection.identity.0 = 99
                try Self.put(protections, key, protection)
            }
        }
        var machine = nd6_machine()
        machine.name.0 = 97
        try Self.put(machines, machine, UInt32(7))
        try Self.put(state, UInt32(0), nd6_state(abi: abi, epoch: 9, nd0: 4711, flags: 0, drop_sample: 0, mtu: 1500, fragments: 0, zero: 0))

        // ---- sockets, before the programs: what leaves now is counted by nobody
        let (ends, count) = try Self.inside(namespace) {
            try Self.addresses.map { pair in try Self.socket(Endpoint(pair.local, 20_000), Endpoint(pair.remote, 9)) }
        }.withCounter(in: other)
        (self.instance, self.namespace, self.other, self.flows, self.descriptors) = (instance, namespace, other, flows, descriptors)
        (self.securedKeys, self.clearKeys, self.peerKeys) = (securedKeys, clearKeys, peerKeys)
        (senders, counter) = (ends, count)

        // ---- programs: nothing gets through
        var record = "{ \"version\": 1, \"loadedAt\": \"before\", \"attachments\": ["
        let index = try Self.inside(namespace) { Int32(if_nametoindex("eth0")) }
        var parts: [String] = []
        for ingress in [true, false] {
            let direction = ingress ? "ingress" : "egress"
            var code = [bpf_insn(), bpf_insn()]
            code[0].code = 0xb7  // r0 = 2: TCX_DROP
            code[0].imm = 2
            code[1].code = 0x95
            let program = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "before", "GPL", &code, 2, nil)
            guard program >= 0, bpf_obj_pin(program, instance.mapPin("prog_nd_\(direction)")) == 0 else { throw NDError("test.program", "\(errno)") }
            defer { Glibc.close(program) }
            let made: Bool? = try Self.inside(namespace) { [instance] in
                let link = clsact ? -EINVAL : nd_tcx_attach(program, index, ingress)
                // No TCX before 6.6.
                if link == -EINVAL {
                    var qdisc = false
                    let error = nd_clsact_attach(program, index, ingress, 0x6e64, 0x6e64, &qdisc)
                    guard error == 0 else { throw NDError("test.attach", "\(error)") }
                    return qdisc
                }
                guard link >= 0, bpf_obj_pin(link, "\(instance.pinDirectory)/link_eth0_\(direction)") == 0 else { throw NDError("test.attach", "\(link)") }
                Glibc.close(link)
                return nil
            }
            parts.append(
                "{ \"interface\": \"eth0\", \"ifindex\": \(index), \"direction\": \"\(direction)\", \"kind\": \"\(made == nil ? "tcx" : "clsact")\", \"madeQdisc\": \(made ?? false) }")
        }
        record += parts.joined(separator: ", ") + "] }"
        try instance.makeRunDirectory()
        try record.write(toFile: instance.recordFile, atomically: true, encoding: .utf8)
        startTraffic()
    }

    // MARK: what leaves

    private static func socket(_ local: Endpoint, _ remote: Endpoint) throws -> Int32 {
        let fd = nd_udp_socket(!local.address.isIPv4)
        guard fd >= 0 else { throw NDError("test.socket", "\(fd)") }
        let bytes = local.address.bytes
        guard nd_udp_bind(fd, !local.address.isIPv4, bytes, local.port) == 0 else { throw NDError("test.bind", "\(errno)") }
        return fd
    }

    private func startTraffic() {
        for (place, fd) in senders.enumerated() {
            let remote = Self.addresses[place].remote
            finished.enter()
            let thread = Thread { [self] in
                var v4 = sockaddr_in()
                v4.sin_family = sa_family_t(AF_INET)
                v4.sin_port = UInt16(9).bigEndian
                var v6 = sockaddr_in6()
                v6.sin6_family = sa_family_t(AF_INET6)
                v6.sin6_port = UInt16(9).bigEndian
                withUnsafeMutableBytes(of: &v4.sin_addr) { $0.copyBytes(from: remote.bytes.prefix(4)) }
                if !remote.isIPv4 { withUnsafeMutableBytes(of: &v6.sin6_addr) { $0.copyBytes(from: remote.bytes) } }
                while lock.withLock({ running }) {
                    let text = Array("not for others".utf8)
                    let size = remote.isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
                    withUnsafeBytes(of: &v4) { four in
                        withUnsafeBytes(of: &v6) { six in
                            let base = (remote.isIPv4 ? four : six).baseAddress?.assumingMemoryBound(to: sockaddr.self)
                            _ = sendto(fd, text, text.count, Int32(MSG_DONTWAIT), base, socklen_t(size))
                        }
                    }
                    lock.withLock { sent += 1 }
                    usleep(200)
                }
                finished.leave()
            }
            thread.start()
        }
    }

    /// Datagrams of the secured flow that came out at the other end.
    var leaked: Int {
        var buffer = [UInt8](repeating: 0, count: 2048)
        while true {
            let count = recv(counter, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { break }
            if String(decoding: buffer.prefix(count), as: UTF8.self).contains("not for others") { lock.withLock { passed += 1 } }
        }
        return lock.withLock { passed }
    }

    var packetsSent: Int { lock.withLock { sent } }

    // MARK: what tests do

    static func inside<T: Sendable>(_ namespace: String, _ body: @escaping @Sendable () throws -> T) throws -> T {
        let box = Shared<Result<T, any Error>>()
        let done = DispatchSemaphore(value: 0)
        let thread = Thread {
            let error = nd_setns_net("/run/netns/\(namespace)")
            box.value = error == 0 ? Result { try body() } : .failure(NDError("test.setns", "\(error)"))
            done.signal()
        }
        thread.stackSize = 4 << 20
        thread.start()
        done.wait()
        guard let result = box.value else { throw NDError("test.thread", "no result") }
        return try result.get()
    }

    func inside<T: Sendable>(_ body: @escaping @Sendable () throws -> T) throws -> T { try Self.inside(namespace, body) }

    static var options: LoadOptions {
        var options = LoadOptions(interfaces: ["eth0"])
        options.tables = TableSizeChoice(flows: 1024, peers: 64)
        return options
    }

    static func commit(_ datapath: Datapath) throws {
        try datapath.commit(CompiledPolicy(filters: Rules.discovery.rangeFilters).image(generation: try datapath.nextGeneration()), callouts: CalloutCommit())
    }

    @discardableResult
    func upgrade(_ options: LoadOptions = StateBefore.options) throws -> LoadRecord {
        try inside { [instance] in try Upgrade.run(instance, options: options, commit: Self.commit) }
    }

    struct Killed: Error {}

    /// Ends after a step with everything as it is then, as a kill would.
    func killed(after last: Upgrade.Step, then body: @escaping @Sendable () throws -> Void = {}) throws {
        do {
            try inside { [instance] in
                _ = try Upgrade.advance(instance, options: Self.options, commit: Self.commit) { step in
                    guard step == last else { return }
                    try body()
                    throw Killed()
                }
            }
        } catch is Killed {}
    }

    func addSecured(port: UInt16) throws -> FlowKey {
        let key = FlowKey(local: Endpoint(Self.addresses[0].local, port), remote: Endpoint(Self.addresses[0].remote, 9), proto: IPProtocol.tcp)
        try Self.put(flows, nd6_flow_key(key), Self.flow(secured: true, seed: 1, Instant.now().nanoseconds))
        return key
    }

    /// Pins, and what hangs on the interface.
    func trace() throws -> [String] {
        let pins = ((try? FileManager.default.contentsOfDirectory(atPath: "\(Instance.bpffs)/ndbpf")) ?? [])
            .filter { $0 == instance.name || $0.hasPrefix(instance.name + "+") }.sorted()
            .flatMap { directory in
                ((try? FileManager.default.contentsOfDirectory(atPath: "\(Instance.bpffs)/ndbpf/\(directory)")) ?? []).sorted().map { "\(directory)/\($0)" }
            }
        return try pins + programs().map { "\($0)" } + ((try? FileManager.default.contentsOfDirectory(atPath: instance.runDirectory)) ?? []).filter { $0.hasSuffix("json") }.sorted()
    }

    /// Ids of the programs on eth0, ingress then egress.
    func programs() throws -> [[UInt32]] {
        try inside {
            try [true, false].map { ingress in
                let hook = DeviceHook(index: if_nametoindex("eth0"), ingress: ingress)
                return try (hook.tcxPrograms() ?? []) + (hook.filters() ?? []).map(\.program)
            }
        }
    }

    static func flow(secured: Bool, seed: UInt64, _ now: UInt64) -> nd6_flow {
        var flow = nd6_flow()
        // In parts of the host's life, which may have begun a moment ago.
        flow.first_seen = now / 8 + seed
        flow.last_seen = now - seed
        flow.packets = (seed, seed + 1, seed + 2, seed + 3)
        flow.bytes = (100 + seed, 101, 102, 103)
        flow.epoch = 1
        flow.epoch_in = 1
        flow.context = 0
        flow.generation = 3
        flow.direction = UInt8(seed & 1)
        flow.flags = ND6_FLOW_TRIGGER
        if secured {
            flow.flags |= ND6_FLOW_SECURE | ND6_FLOW_RESET
            flow.secured_at = now / 4
            flow.protected_rx_at = seed & 1 == 0 ? now / 2 : 0
        }
        return flow
    }

    static func put<Key, Value>(_ map: Int32, _ key: Key, _ value: Value) throws {
        try BPFMap<Key, Value>(descriptor: map, name: "before").update(key, value)
    }

    func close() {
        lock.withLock { running = false }
        finished.wait()
        for fd in descriptors + senders + [counter] { Glibc.close(fd) }
        _ = try? inside { [instance] in try Loader.unload(instance) }
        for name in [namespace, other] { try? Self.run("ip", "netns", "del", name) }
    }
}

extension [Int32] {
    /// A packet socket at the other end.
    fileprivate func withCounter(in namespace: String) throws -> ([Int32], Int32) {
        let counter = try StateBefore.inside(namespace) {
            let fd = Glibc.socket(AF_PACKET, Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue), Int32(UInt16(3).bigEndian))
            guard fd >= 0 else { throw NDError("test.capture", "\(errno)") }
            var room: Int32 = 64 << 20
            setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, 4)
            return fd
        }
        return (self, counter)
    }
}

extension nd6_addr {
    init(_ address: IPAddress) {
        self.init()
        quads = (address.high.bigEndian, address.low.bigEndian)
    }
}

extension nd6_flow_key {
    init(_ key: FlowKey) {
        self.init(
            local: nd6_addr(key.local.address), remote: nd6_addr(key.remote.address), local_port: key.local.port.bigEndian,
            remote_port: key.remote.port.bigEndian, proto: key.proto, zero: (0, 0, 0))
    }
}
