import CNDABI
import Foundation
import NDABI
import NDCore
import NDDatapath
import NDDiscovery
import NDEngine
import NDKeying
import NDPolicy
import NDTelemetry
import NIOCore

/// What the daemon tells: status, SAs, keying, metrics.
struct Reports: @unchecked Sendable {
    let options: DaemonOptions
    let policy: Policy
    let watch: InterfaceWatch
    let lives: FlowSweeper.Lives
    let started: Date
    let link: EngineLink
    let engineReason: String
    let encapsulation: String
    let control: ControlPlane

    /// `policy apply` makes new ones without us.
    private var generation: UInt32 { (try? control.datapath.currentPolicy()?.generation).flatMap { $0 } ?? 0 }

    func answer(_ request: ControlRequest) -> EventLoopFuture<ControlAnswer> {
        control.loop.submit {
            var answer = ControlAnswer()
            switch request.verb {
            case .status: answer.status = status()
            case .sas: answer.sas = securityAssociations()
            case .keying: answer.keying = keying()
            case .delete: answer.deleted = control.delete(remote: try Self.remote(request))
            case .rekey: answer.rekeyed = control.rekey(remote: try Self.remote(request))
            case .monitor: break
            }
            return answer
        }
    }

    private static func remote(_ request: ControlRequest) throws -> IPAddress? {
        guard let text = request.remote else { return nil }
        guard let address = IPAddress(text) else { throw NDError("control.address", "'\(text)' is no IP address") }
        return address
    }

    private func status() -> StatusReport {
        let stats = control.datapath.stats()
        var flows = FlowSweeper.Count()
        var warnings: [String] = []
        var tables: [TableFill] = []
        do {
            flows = try FlowSweeper.sweep(control.datapath, lives: lives, remove: false)
            tables = try TableFill.read(control.datapath, flows: flows.flows, secured: flows.secured)
        } catch {
            warnings.append("the tables of connections can't be read, their numbers are missing here: \(error)")
        }
        let counters = control.discovery.counters
        var drops: [String: UInt64] = [:]
        for (item, count) in zip(Lists.dropReasons, dropCounts(stats)) { drops[item.label] = count }
        let pairs = control.engine.securityAssociations()
        for fill in tables where fill.isHigh { warnings.append(fill.warning) }
        if stats.events_lost > 0 { warnings.append("\(stats.events_lost) events were lost: the ring was full") }
        if stats.peers_full > 0 { warnings.append("\(stats.peers_full) peers found no room in the peer table") }
        let interfaces = watch.keeper.current
        for state in interfaces { if let trouble = state.trouble { warnings.append("\(state.interface): \(trouble)") } }
        for pattern in watch.missing { warnings.append("no interface of this host is '\(pattern)' now; one that comes is protected") }
        if let why = watch.keeper.missingHooks {
            warnings.append("a device that comes while no daemon runs is not guarded: \(why)")
        }
        return StatusReport(
            instance: options.instance.name, version: options.version, pid: getpid(),
            since: ISO8601DateFormatter().string(from: started),
            uptimeSeconds: Date().timeIntervalSince(started), scenario: policy.scenarioName,
            policyFile: options.policyFile, policyGeneration: generation,
            interfaces: interfaces.filter { $0.role == .protected }.map(\.interface), interfaceStates: interfaces,
            attachment: interfaces.first?.attachment ?? (watch.keeper.loaded.clsact == true ? "clsact" : "tcx"), engine: control.engine.kind.rawValue,
            engineReason: engineReason, aead: control.engine.cryptography, encapsulation: encapsulation,
            device: link.name,
            addresses: ((try? LocalAddresses.current()) ?? [:]).filter { $0.value & ND_LOCAL_UNICAST != 0 }.keys.sorted()
                .filter { !$0.isLoopback }.map(\.description),
            peers: Dictionary(
                uniqueKeysWithValues: control.discovery.peersByState().map { ($0.key.label, $0.value) }),
            flows: ["clear": flows.clear, "secure": flows.secure, "exempt": flows.exempt], tables: tables,
            securityAssociations: pairs.count,
            negotiations: [
                "started": counters.started, "succeeded": counters.succeeded,
                "failed": counters.failed.values.reduce(0, &+), "overBudget": counters.overBudget,
                "running": UInt64(control.discovery.negotiating),
            ],
            drops: drops, upgrades: stats.upgrades,
            metrics: policy.metrics.listen.map { "http://\($0)/metrics" }, warnings: warnings)
    }

    /// BPF's drops and the engine's, in one list.
    private func dropCounts(_ stats: nd_stats) -> [UInt64] {
        let bpf = withUnsafeBytes(of: stats.drops) { Array($0.bindMemory(to: UInt64.self)) }
        return zip(bpf, control.engine.statistics().drops).map { $0 &+ $1 }
    }

    private func securityAssociations() -> [SAReport] {
        let now = Instant.now()
        var quickModes: [UInt32: [QuickModeStatus]] = [:]
        for mode in control.keying.quickModes {
            for spi in Set([mode.inboundSPI, mode.outboundSPI]) { quickModes[spi, default: []].append(mode) }
        }
        return control.engine.securityAssociations().map { sa in
            let known = quickModes[sa.spi]?.first { $0.peer == sa.peer }
            let encapsulation: String
            switch sa.encapsulation {
            case .native: encapsulation = "esp"
            case .udp(_, let port): encapsulation = "udp:\(port)"
            }
            return SAReport(
                direction: sa.direction == .inbound ? "in" : "out", spi: Self.hex(sa.spi),
                local: "\(sa.peer.local)", remote: "\(sa.peer.remote)", suite: "\(sa.suite)",
                encapsulation: encapsulation, extendedSequenceNumbers: sa.extendedSequenceNumbers,
                active: sa.active, packets: sa.packets, bytes: sa.bytes, sequence: sa.sequence,
                ageSeconds: now.since(sa.installedAt).seconds,
                expiresInSeconds: known.map { $0.expires.since(now).seconds }, role: known?.role.rawValue)
        }
    }

    private func keying() -> KeyingReport {
        let now = Instant.now()
        var counters: [String: UInt64] = [:]
        for (name, value) in control.keying.counters.all { counters[name.rawValue] = value }
        return KeyingReport(
            mainModes: control.keying.mainModes.map {
                KeyingReport.MainMode(
                    local: "\($0.local)", remote: "\($0.remote)", role: $0.role.rawValue, state: $0.state,
                    initiatorCookie: String($0.initiatorCookie, radix: 16),
                    responderCookie: String($0.responderCookie, radix: 16),
                    suite: $0.suite.map { "\($0)" }, identity: $0.identity.map { "\($0)" },
                    negotiationDiscovery: $0.peerNegotiationDiscovery, ageSeconds: now.since($0.started).seconds)
            }, counters: counters)
    }

    /// The maps are read on the caller's side; the loop gives only what is its own.
    func metrics() -> EventLoopFuture<String> {
        control.loop.submit {
            var snapshot = Snapshot(
                build: .init(
                    version: options.version, engine: control.engine.kind.rawValue,
                    scenario: policy.scenarioName))
            snapshot.datapath = .init(abi: control.datapath.stats())
            snapshot.datapath.droppedPackets = dropCounts(control.datapath.stats())
            let discovery = control.discovery
            let counters = discovery.counters
            snapshot.peers = Dictionary(
                uniqueKeysWithValues: discovery.peersByState().map { ($0.key.label, UInt64($0.value)) })
            snapshot.negotiationsStarted = counters.started
            snapshot.negotiationsSucceeded = counters.succeeded
            snapshot.negotiationsFailed = Dictionary(
                uniqueKeysWithValues: counters.failed.map { ($0.key.rawValue, $0.value) })
            snapshot.negotiationsRunning = UInt64(discovery.negotiating)
            snapshot.negotiationsOverBudget = counters.overBudget
            snapshot.negativeCacheHits = counters.negativeCacheHits
            snapshot.peersLost = counters.lost
            for sa in control.engine.securityAssociations() {
                if sa.direction == .inbound { snapshot.inboundSAs += 1 } else { snapshot.outboundSAs += 1 }
            }
            snapshot.replays = Dictionary(
                uniqueKeysWithValues: counters.fates.map { ($0.key.rawValue, $0.value) })
            let keying = control.keying.counters
            snapshot.ikeReceived = keying[.datagramsReceived]
            snapshot.ikeSent = keying[.datagramsSent]
            for (reason, value) in keying.dropped { snapshot.ikeDrops[reason.rawValue] = value }
            for (reason, value) in keying.malformed { snapshot.ikeDrops["malformed_\(reason)", default: 0] &+= value }
            snapshot.interfaces = watch.keeper.current.map {
                .init(name: $0.interface, role: $0.role.rawValue, isInPlace: $0.isInPlace)
            }
            snapshot.interfaceReadsFailed = watch.count.failedReads
            snapshot.interfacesPutRight = watch.count.putRight
            snapshot.policyGeneration = UInt64(generation)
            snapshot.addressFailures = control.addressFailures
            snapshot.startedAtUnixSeconds = started.timeIntervalSince1970
            return snapshot
        }.flatMapThrowing { snapshot in
            var snapshot = snapshot
            let count = try FlowSweeper.sweep(control.datapath, lives: lives, remove: false)
            snapshot.tables = try TableFill.read(control.datapath, flows: count.flows, secured: count.secured).map {
                .init(name: $0.name, entries: UInt64($0.entries), size: UInt64($0.size))
            }
            snapshot.flows.clear = UInt64(count.clear)
            snapshot.flows.secure = UInt64(count.secure)
            snapshot.flows.exempt = UInt64(count.exempt)
            return Snapshot.render(snapshot)
        }
    }

    static func hex(_ spi: UInt32) -> String {
        let text = String(spi, radix: 16)
        return "0x" + String(repeating: "0", count: max(0, 8 - text.count)) + text
    }
}
