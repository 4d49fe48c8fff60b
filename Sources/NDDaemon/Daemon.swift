import CNDABI
import CNDSystem
import Foundation
import Logging
import NDCore
import NDDatapath
import NDDiscovery
import NDEngine
import NDKeying
import NDPolicy
import NDTelemetry
import NIOCore
import NIOPosix
import ServiceLifecycle

public struct DaemonOptions: Sendable {
    public var instance: Instance
    public var policyFile: String
    /// Overrides the policy's when not empty.
    public var interfaces: [String] = []
    /// Overrides the policy's.
    public var tables = TableSizeChoice()
    public var forceClsact = false
    /// Takes the datapath away again when the daemon stops, unless secured connections are open.
    public var unloadOnExit = false
    public var keyLogFile: String?
    public var device = "nd0"
    public var networkNamespace: String?
    public var version: String

    public init(instance: Instance, policyFile: String, version: String) {
        self.instance = instance
        self.policyFile = policyFile
        self.version = version
    }
}

/// `ndbpf run`: the service graph.
public final class Daemon: Service, @unchecked Sendable {
    private let options: DaemonOptions
    private let policy: Policy
    private let interfaces: [String]
    private let log: Logger
    private let started = Date()
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let serving = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let monitor = MonitorHub()
    private var lock: Int32 = -1
    private var keeper: InterfaceKeeper?

    /// Checks the files; nothing is changed.
    public init(_ options: DaemonOptions, log: Logger) throws {
        self.options = options
        self.log = log
        policy = try Policy.load(path: options.policyFile, reading: PolicyCommit.reading)
        interfaces = options.interfaces.isEmpty ? policy.interfaces : options.interfaces
        _ = try Loader.patterns(interfaces)
        guard !policy.preSharedKeys.isEmpty else {
            throw NDError(
                "policy.no-credential", "the policy names no pre-shared key, so no peer can be authenticated",
                context: options.policyFile,
                hint: "add `authentication: { pre-shared-keys: [ { remote: any, file: /etc/ndbpf/psk } ] }`")
        }
        _ = try PolicyCredentials(policy)
    }

    public func run() async throws {
        try takeLock()
        defer { releaseLock() }
        let (compiled, loadedHere) = try loadOrAdopt()
        do {
            try await serve(compiled)
        } catch {
            if loadedHere {
                _ = try? Loader.unload(options.instance)
                // The engine may have made it; it goes when this process does.
                EngineDevice.remove(options.device)
            }
            throw error
        }
        if options.unloadOnExit {
            _ = try Loader.unloadUnused(options.instance)
            EngineDevice.remove(options.device)
        }
    }

    private func takeLock() throws {
        try options.instance.makeRunDirectory()
        lock = try DaemonLock.take(options.instance)
    }

    private func releaseLock() {
        guard lock >= 0 else { return }
        if !options.instance.isLoaded { DaemonLock.removeDirectory(options.instance) }
        close(lock)
    }

    private func loadOrAdopt() throws -> (compiled: CompiledPolicy, loadedHere: Bool) {
        try options.instance.requireHere("run.namespace")
        if try Loader.abandon(options.instance) {
            log.warning("instance '\(options.instance.name)' was loaded in a network namespace that is gone; its pins are taken away, it is loaded anew")
        }
        if try Upgrade.due(options.instance) != nil { try upgrade() }
        if options.instance.isLoaded {
            let datapath = try Datapath(options.instance)
            guard let record = LoadRecord.read(options.instance) else {
                throw NDError(
                    "run.record", "instance '\(options.instance.name)' is loaded, but \(options.instance.recordFile) is not there or can't be read",
                    hint: "ndbpf unload --instance \(options.instance.name), then run again; nothing was changed")
            }
            let loaded = record.interfaces ?? []
            guard Set(loaded) == Set(interfaces) else {
                throw NDError(
                    "run.interfaces",
                    "instance '\(options.instance.name)' is loaded for \(loaded.sorted().joined(separator: ", ")), the policy names \(interfaces.joined(separator: ", "))",
                    hint: "ndbpf unload --instance \(options.instance.name) first; nothing was changed")
            }
            let applied = try PolicyCommit.apply(policy, to: datapath)
            let keeper = try InterfaceKeeper(options.instance, record)
            self.keeper = keeper
            for change in try keeper.settle() where change.kind == .mended || change.kind == .troubled {
                log.warning("\(change.state.interface): \(change.text)")
            }
            log.info("took over the loaded datapath on \(keeper.protectedNames.joined(separator: ", "))")
            return (applied.compiled, false)
        }
        let ready = try PolicyCommit(policy, generation: 1)
        var load = LoadOptions(interfaces: interfaces)
        load.tables = options.tables.or(policy.tables.choice)
        load.forceClsact = options.forceClsact
        var record = try Loader.load(options.instance, policy: ready.image, callouts: ready.callouts, options: load)
        record.networkNamespace = options.networkNamespace
        record.policyFile = options.policyFile
        try record.write(options.instance)
        let keeper = try InterfaceKeeper(options.instance, record)
        self.keeper = keeper
        try keeper.settle()
        log.info("loaded on \(keeper.protectedNames.joined(separator: ", ")) by \(record.attachments.first?.kind ?? "?")")
        if let why = record.missingHooks {
            log.warning("a device that comes while no daemon runs is not guarded: \(why)")
        }
        return (ready.compiled, true)
    }

    /// Takes over what another version loaded; a failure leaves that in force.
    private func upgrade() throws {
        var load = LoadOptions(interfaces: interfaces)
        load.tables = options.tables.or(policy.tables.choice)
        load.forceClsact = options.forceClsact
        let record = try Upgrade.run(options.instance, options: load) { try PolicyCommit.apply(policy, to: $0) }
        guard let before = record.tookOver else { return }
        log.notice(
            "took over \(before.securedFlows) secured flows, \(before.clearFlows) clear ones and \(before.peers) peers of a version with ABI \(before.abi); its programs are replaced")
    }

    private func serve(_ compiled: CompiledPolicy) async throws {
        let datapath = try Datapath(options.instance)
        let loop = group.next()
        guard let keeper else { throw NDError("run.load", "nothing is loaded") }
        let choice = try EngineChoice(policy, device: options.device, interfaces: keeper.protectedNames)
        let engine = choice.engine
        var keying = try KeyingConfiguration(policy, engineWantsUDP: choice.wantsUDP)
        keying.separatesClients = engine.kind == .user
        if let file = options.keyLogFile {
            let keyLog = try KeyLog(path: file)
            keying.keyLog = { keyLog.write($0) }
            log.warning("keys are written to \(file): anybody who reads it can decrypt the traffic")
        }
        let selfTest = try KeyingSelfTest.run(keying)
        log.debug("self-test: negotiated in \(selfTest)")
        let relay = EngineRelay(loop: loop, log: log)
        let link = try engine.start(events: relay)
        for descriptor in engine.ikeDescriptors { try datapath.markIKESocket(descriptor) }
        let sockets = IKESockets(
            loop: loop, port: keying.isakmpPort, mark: { try datapath.markIKESocket($0) }
        ) { datagram, local, remote in
            relay.controlPlane?.received(datagram, local: local, remote: remote)
        }
        let control = ControlPlane(
            loop: loop, datapath: datapath, engine: engine, keying: keying,
            discovery: Discovery.Configuration(policy), sockets: sockets, replay: try PacketReplay(),
            monitor: monitor, log: log)
        relay.attach(control)
        try keeper.take(device: link.name, index: link.ifindex, fragments: link.fragments)
        let ranKernelEngine = datapath.runsKernelEngine
        try datapath.setDevices(nd0: link.ifindex, fragments: link.fragments)
        try datapath.changeState {
            $0.flags = engine.kind == .kernel ? $0.flags | ND_STATE_KERNEL_ENGINE : $0.flags & ~ND_STATE_KERNEL_ENGINE
        }
        // Which engine it is decides where decrypted packets are met; the commit above knew the earlier one.
        if engine.kind == .user {
            try datapath.leaveSocket()
        } else if !ranKernelEngine, compiled.asksDecrypted {
            try PolicyCommit.apply(policy, to: datapath)
        }
        monitor.onWatched = { watched in
            try? datapath.changeState { $0.drop_sample = watched ? 1 : 0 }
        }

        let log = self.log
        let addresses = try LocalAddresses.synchronize(datapath, protected: keeper.protectedNames)
        let synchronize: @Sendable () -> EventLoopFuture<Void> = {
            loop.assertInEventLoop()
            do {
                let now = try LocalAddresses.synchronize(datapath, protected: keeper.protectedNames)
                return sockets.synchronize(Self.ikeAddresses(now))
            } catch {
                // What stands stays: an error is not a host without addresses.
                log.error("can't read this host's addresses: \(error); the last ones stay in force")
                control.addressesUnread()
                return loop.makeSucceededVoidFuture()
            }
        }
        try await loop.flatSubmit { sockets.synchronize(Self.ikeAddresses(addresses)) }.get()
        try await loop.submit { control.adopt() }.get()

        let watch = InterfaceWatch(
            keeper: keeper, datapath: datapath, engine: engine, monitor: monitor, log: log,
            changed: { loop.execute { _ = synchronize() } })
        watch.start()
        let watcher = try NetworkWatcher()
        watcher.start { notice in
            loop.execute {
                switch notice {
                case .networkChanged:
                    watch.look()
                    _ = synchronize()
                case .unreachable(let local, let remote): control.unreachable(local: local, remote: remote)
                }
            }
        }
        let events = try EventReader(datapath) { event in loop.execute { control.handle(event) } }
        events.start()
        // An IPv6 address can't be bound while it is tentative.
        let retry = loop.scheduleRepeatedTask(initialDelay: .milliseconds(500), delay: .seconds(2)) { _ in
            if sockets.hasFailures { _ = synchronize() }
        }
        let keepalive = loop.scheduleRepeatedTask(initialDelay: .seconds(20), delay: .seconds(20)) { _ in
            control.sendKeepalives()
        }
        let sampler = TrafficSampler(engine: engine, control: control)
        sampler.start()
        let lives = FlowSweeper.Lives(
            idle: compiled.idle.nanoseconds, tcpIdle: compiled.tcpIdle.nanoseconds,
            securedIdle: compiled.securedIdle.nanoseconds)
        let tables = TableKeeper(datapath, lives: lives, log: log)
        let sweep = serving.next().scheduleRepeatedTask(initialDelay: .seconds(30), delay: .seconds(30)) { _ in
            tables.tick()
        }

        let reports = Reports(
            options: options, policy: policy, watch: watch, lives: lives,
            started: started, link: link, engineReason: choice.reason,
            encapsulation: choice.wantsUDP ? "udp" : "native", control: control)
        let controlSocket = try await ControlServer.start(
            group: serving, path: options.instance.controlSocket,
            answer: { request, target in reports.answer(request).hop(to: target) }, monitor: monitor)
        var metrics: (any Channel)?
        if let listen = policy.metrics.listen {
            metrics = try await MetricsServer.start(
                group: serving, host: listen.address.description, port: Int(listen.port),
                render: { target in reports.metrics().hop(to: target) })
        }
        log.info(
            "ready: instance \(options.instance.name), engine \(engine.kind.rawValue) (\(engine.cryptography); \(choice.reason)), \(policy.scenarioName)\(policy.metrics.listen.map { ", metrics on \($0)" } ?? "")")

        try? await gracefulShutdown()

        log.info("stopping: deleting SAs; the datapath stays and enforces")
        retry.cancel()
        sweep.cancel()
        keepalive.cancel()
        sampler.stop()
        try await loop.submit { control.shutdown() }.get()
        // The deletes are on their way through the same loop.
        try? await Task.sleep(for: .milliseconds(50))
        events.stop()
        watcher.stop()
        watch.stop()
        try? await controlSocket.close().get()
        try? await metrics?.close().get()
        try await loop.submit { sockets.close() }.get()
        engine.stop(keepDevice: true)
        unlink(options.instance.controlSocket)
    }

    /// Where an IKE socket makes sense: unicast addresses that peers can use.
    private static func ikeAddresses(_ all: [IPAddress: UInt32]) -> Set<IPAddress> {
        Set(
            all.filter { address, kind in
                kind & ND_LOCAL_UNICAST != 0 && !address.isLoopback && !address.isLinkLocal
                    && !address.isMulticast && !address.isUnspecified
            }.keys)
    }
}

/// One daemon for an instance.
public enum DaemonLock {
    /// Where nothing is loaded any more; whoever calls holds the lock.
    public static func removeDirectory(_ instance: Instance) {
        unlink("\(instance.runDirectory)/daemon.lock")
        rmdir(instance.runDirectory)
        rmdir("/run/ndbpf")
    }

    public static func take(_ instance: Instance) throws -> Int32 {
        let fd = try instance.openLock("daemon.lock")
        guard flock(fd, LOCK_EX | LOCK_NB) == 0 else {
            close(fd)
            throw NDError(
                "run.already", "a daemon runs for instance '\(instance.name)' already",
                hint: "stop it first: systemctl stop ndbpf, or kill its process (`ndbpf status` tells the pid)")
        }
        return fd
    }
}

/// Carries the engine's calls to the control plane, which is made after the engine.
private final class EngineRelay: EngineEvents, @unchecked Sendable {
    private let loop: any EventLoop
    private let log: Logger
    private let target = Locked<ControlPlane?>(nil)

    init(loop: any EventLoop, log: Logger) {
        self.loop = loop
        self.log = log
    }

    func attach(_ control: ControlPlane) { target.withLock { $0 = control } }
    var controlPlane: ControlPlane? { target.withLock { $0 } }

    func firstInboundPacket(spi: UInt32, peer: PeerKey) { controlPlane?.firstInboundPacket(spi: spi) }

    func ikeDatagram(_ bytes: [UInt8], local: Endpoint, remote: Endpoint) {
        guard let control = controlPlane else { return }
        loop.execute { control.received(bytes, local: local, remote: remote) }
    }

    func sequenceExhausted(spi: UInt32, peer: PeerKey) {
        guard let control = controlPlane else { return }
        loop.execute { control.softExpired(spi: spi, peer: peer) }
    }

    func softExpired(spi: UInt32, peer: PeerKey) {
        guard let control = controlPlane else { return }
        loop.execute { control.softExpired(spi: spi, peer: peer) }
    }

    func expired(spi: UInt32, peer: PeerKey) {
        guard let control = controlPlane else { return }
        loop.execute { control.expired(spi: spi, peer: peer) }
    }

    func acquire(_ peer: PeerKey) {
        guard let control = controlPlane else { return }
        loop.execute { control.acquire(peer) }
    }

    func fragmentsWait(_ peer: PeerKey) {
        guard let control = controlPlane else { return }
        loop.execute { control.fragmentsWait(peer) }
    }

    func engineLog(_ text: String) { log.info("\(text)") }
}
