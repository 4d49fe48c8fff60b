import CESP
import CNDABI
import Foundation
import Glibc
import NDCore
import Synchronization

public struct UserEngineConfiguration: Sendable {
    /// 1 to 15 bytes.
    public var deviceName = "nd0"
    /// Threads, each with its own queues.
    public var workers = 1
    public var natTraversalPort: UInt16 = 4500
    public var aead: AEADChoice = .auto
    /// SO_MARK of the engine's own packets; 0 sets none.
    public var mark: UInt32 = 0
    /// Bytes of every socket buffer.
    public var socketBuffer = 8 << 20
    public var reassembly = ReassemblyLimits()

    public init() {
        workers = min(max(ProcessInfo.processInfo.activeProcessorCount, 1), 16)
    }
}

/// ESP by ndbpf itself, behind a TUN device: where the kernel has no ESP.
public final class UserEngine: Engine {
    private struct State {
        var workers: [Worker] = []
        var tuns: [Int32] = []
    }

    public let kind = EngineKind.user
    private let configuration: UserEngineConfiguration
    private let table = SATable()
    private let library: nd_aead_library
    private let state = Mutex(State())

    public init(_ configuration: UserEngineConfiguration) throws {
        self.configuration = configuration
        let usable = nd_ipsec_mb_usable()
        guard configuration.aead != .ipsecMB || usable else {
            throw NDError(
                "engine.aead", "ipsec-mb can't be used: it needs an x86-64 CPU with AES-NI, PCLMUL and AVX",
                hint: "use `aead: auto` or `aead: openssl`")
        }
        library = usable && configuration.aead != .openssl ? ND_AEAD_IPSEC_MB : ND_AEAD_OPENSSL
    }

    public var cryptography: String { library == ND_AEAD_IPSEC_MB ? "ipsec-mb" : "openssl" }

    public func start(events: any EngineEvents) throws -> EngineLink {
        let name = configuration.deviceName
        guard (1...15).contains(name.utf8.count) else {
            throw NDError("engine.device-name", "'\(name)' can't be a device's name", hint: "1 to 15 bytes")
        }
        var tuns: [Int32] = []
        var workers: [Worker] = []
        do {
            let reassembly = SharedReassembly(configuration.reassembly)
            for index in 0..<configuration.workers {
                var offloads: UInt32 = 0
                let fd = nd_tun_open(name, &offloads)
                guard fd >= 0 else {
                    throw NDError(
                        "engine.tun", "can't open \(name): \(String(cString: strerror(-fd)))",
                        hint: -fd == ENOENT || -fd == ENODEV
                            ? "the kernel has no TUN: modprobe tun"
                            : -fd == EBUSY ? "another daemon uses \(name)" : "CAP_NET_ADMIN is needed")
                }
                tuns.append(fd)
                if index == 0 {
                    // The device outlives a killed daemon, so what BPF redirects there is dropped.
                    let persistent = nd_tun_persist(fd, true)
                    guard persistent == 0 else {
                        throw NDError("engine.tun", "can't keep \(name): \(String(cString: strerror(-persistent)))")
                    }
                    try configure(name)
                    try bringUp(name)
                }
            }
            for (index, tun) in tuns.enumerated() {
                workers.append(
                    try Worker(
                        index: index, tun: tun, port: configuration.natTraversalPort, mark: configuration.mark,
                        socketBuffer: configuration.socketBuffer, table: table, reassembly: reassembly,
                        events: events))
            }
        } catch {
            if let first = tuns.first { _ = nd_tun_persist(first, false) }
            for fd in tuns { close(fd) }
            throw error
        }
        for worker in workers { worker.start() }
        state.withLock { $0 = State(workers: workers, tuns: tuns) }
        return EngineLink(name: name, ifindex: if_nametoindex(name), mtu: 65_535)
    }

    public func restore() throws -> EngineLink {
        let name = configuration.deviceName
        let (tuns, workers) = state.withLock { ($0.tuns, $0.workers) }
        // A descriptor whose device went takes another one.
        for (index, tun) in tuns.enumerated() {
            let error = nd_tun_again(tun, name)
            if error == -EEXIST { continue }
            guard error == 0 else {
                throw NDError("engine.tun", "can't make \(name) again: \(String(cString: strerror(-error)))")
            }
            if index == 0 {
                let persistent = nd_tun_persist(tun, true)
                guard persistent == 0 else {
                    throw NDError("engine.tun", "can't keep \(name): \(String(cString: strerror(-persistent)))")
                }
                try configure(name)
            }
        }
        try bringUp(name)
        for worker in workers { worker.deviceReturned() }
        return EngineLink(name: name, ifindex: if_nametoindex(name), mtu: 65_535)
    }

    private func configure(_ name: String) throws {
        // Decrypted packets arrive on nd0 while their route back is the real interface: reverse-path
        // filtering must be loose there. The kernel takes the larger of `all` and the device's.
        try Sysctl.set("ipv4/conf/\(name)/rp_filter", "2")
        guard access("/proc/sys/net/ipv6/conf/\(name)", F_OK) == 0 else { return }
        try Sysctl.set("ipv6/conf/\(name)/disable_ipv6", "0")
        try Sysctl.set("ipv6/conf/\(name)/addr_gen_mode", "1")
        try Sysctl.set("ipv6/conf/\(name)/accept_ra", "0")
        try Sysctl.set("ipv6/conf/\(name)/autoconf", "0")
        try Sysctl.set("ipv6/conf/\(name)/router_solicitations", "0")
    }

    private func bringUp(_ name: String) throws {
        let up = nd_link_up(name, 65_535, 1000)
        guard up == 0 else {
            throw NDError("engine.link", "can't bring \(name) up: \(String(cString: strerror(-up)))")
        }
        let addressed = nd_link_dummy_address(name)
        guard addressed == 0 else {
            throw NDError("engine.link", "can't give \(name) an address: \(String(cString: strerror(-addressed)))")
        }
    }

    public func install(_ pair: SecurityAssociationPair) throws {
        try table.install(
            inbound: InboundSA(pair.inbound, library: library, workers: configuration.workers),
            outbound: OutboundSA(pair.outbound, library: library, workers: configuration.workers))
    }

    public func activateOutbound(peer: PeerKey, spi: UInt32) throws { try table.activate(peer, spi: spi) }

    public func remove(peer: PeerKey, inboundSPI: UInt32, outboundSPI: UInt32) {
        table.remove(peer, inbound: inboundSPI, outbound: outboundSPI)
    }

    public func sendIKE(_ datagram: [UInt8], from: Endpoint, to: Endpoint) {
        let worker = state.withLock { $0.workers.first }
        worker?.sockets.sendIKE(datagram, from: from, to: to)
    }

    public var ikeDescriptors: [Int32] {
        state.withLock { $0.workers.flatMap { [$0.sockets.udp4, $0.sockets.udp6] } }
    }

    /// SAs end with the process that holds them.
    public func adopted() -> [SurvivingPair] { [] }

    public func statistics() -> EngineStatistics {
        var sum = EngineStatistics()
        for worker in state.withLock({ $0.workers }) { worker.counters.add(to: &sum) }
        return sum
    }

    public func securityAssociations() -> [SAStatus] { table.statuses() }

    public func stop(keepDevice: Bool) {
        let old = state.withLock { state -> State in
            defer { state = State() }
            return state
        }
        let stopped = old.workers.map { $0.stop() }
        if !keepDevice, let first = old.tuns.first { _ = nd_tun_persist(first, false) }
        for (fd, stopped) in zip(old.tuns, stopped) where stopped { close(fd) }
    }

    /// Takes away a device that a daemon left. False when there was none.
    @discardableResult
    public static func removeDevice(_ name: String) -> Bool {
        guard if_nametoindex(name) != 0 else { return false }
        var offloads: UInt32 = 0
        let fd = nd_tun_open(name, &offloads)
        guard fd >= 0 else { return false }
        _ = nd_tun_persist(fd, false)
        close(fd)
        return true
    }
}
