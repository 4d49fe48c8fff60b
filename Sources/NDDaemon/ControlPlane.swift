import CNDABI
import Foundation
import Logging
import NDABI
import NDCore
import NDDatapath
import NDDiscovery
import NDEngine
import NDKeying
import NIOCore

/// Where events become actions: the datapath's, the network's and the clock's go into the two pure
/// machines, and what these ask for is done. Everything here happens on one event loop.
final class ControlPlane: @unchecked Sendable {
    let loop: any EventLoop
    let datapath: Datapath
    let engine: any Engine
    let monitor: MonitorHub
    private(set) var discovery: Discovery
    private(set) var keying: KeyingMachine
    private let log: Logger
    private let sockets: IKESockets
    private let replay: PacketReplay
    private let ikePort: UInt16
    private let natTraversalPort: UInt16
    /// Established pairs by inbound SPI.
    private var pairs: [PeerKey: Set<UInt32>] = [:]
    private var timer: Scheduled<Void>?
    /// Inbound SPIs whose outbound twin is in use; read by engine threads.
    private let confirmed = Locked(Set<UInt32>())
    /// Read by the traffic sampler.
    private let waiting = Locked(false)
    private var stopped = false
    private var lastCounts: [UInt32: UInt64] = [:]
    private(set) var addressFailures: UInt64 = 0

    init(
        loop: any EventLoop, datapath: Datapath, engine: any Engine, keying: KeyingConfiguration,
        discovery: Discovery.Configuration, sockets: IKESockets, replay: PacketReplay, monitor: MonitorHub,
        log: Logger
    ) {
        self.loop = loop
        self.datapath = datapath
        self.engine = engine
        self.sockets = sockets
        self.replay = replay
        self.monitor = monitor
        self.log = log
        ikePort = keying.isakmpPort
        natTraversalPort = keying.natTraversalPort
        self.keying = KeyingMachine(configuration: keying, random: SystemRandom())
        self.discovery = Discovery(discovery, random: SystemRandom())
    }

    // MARK: what comes in

    func adopt() {
        let now = Instant.now()
        let found = datapath.peers.entries().map { (peer: $0.key.key, record: PeerRecord($0.value)) }
        let surviving = engine.adopted()
        for pair in surviving {
            pairs[pair.peer, default: []].insert(pair.inboundSPI)
            confirmed.withLock { _ = $0.insert(pair.inboundSPI) }
        }
        perform(discovery.adopt(found, now: now, hasSA: { self.pairs[$0] != nil }))
        for peer in pairs.keys where discovery.record(peer) == nil {
            perform(discovery.established(peer, isBoundary: false, now: now))
        }
        // Whose SAs died with the earlier daemon is nobody that a filter could know.
        for key in datapath.protections.entries().map(\.key) where pairs[key.key] == nil { datapath.protections.delete(key) }
        for pair in surviving {
            perform(
                keying.adopt(
                    AdoptedPair(
                        peer: pair.peer, inboundSPI: pair.inboundSPI, outboundSPI: pair.outboundSPI, suite: pair.suite,
                        encapsulation: pair.encapsulation,
                        extendedSequenceNumbers: pair.extendedSequenceNumbers, age: pair.age,
                        remaining: pair.remaining), now: now))
        }
        if !found.isEmpty || !surviving.isEmpty {
            log.info("took over \(found.count) peers and \(surviving.count) pairs of SAs of an earlier daemon")
        }
        rearm()
    }

    func handle(_ event: DatapathEvent) {
        guard !stopped else { return }
        let now = Instant.now()
        let packet = event.isComplete ? event.packet : nil
        switch event.kind {
        case ND_EVENT_NEGOTIATE:
            perform(
                discovery.negotiate(
                    event.peer, flow: event.flow, packet: packet, waits: event.reason == ND_DROP_HELD.rawValue, now: now))
        case ND_EVENT_STASH:
            perform(discovery.stash(event.peer, flow: event.flow, packet: packet, now: now))
        case ND_EVENT_CLEAR_REPLY:
            perform(discovery.clearReply(event.peer, flow: event.flow))
        case ND_EVENT_LATCHED:
            perform(discovery.latched(event.peer, flow: event.flow, packet: packet, now: now))
        case ND_EVENT_WAIT:
            perform(discovery.wait(event.peer, flow: event.flow, packet: packet, now: now))
        default:
            break
        }
        monitor.publish(Self.describe(event))
        rearm()
    }

    func received(_ datagram: [UInt8], local: Endpoint, remote: Endpoint) {
        guard !stopped else { return }
        perform(keying.receive(datagram, local: local, remote: remote, now: .now()))
        rearm()
    }

    func unreachable(local: Endpoint, remote: Endpoint) {
        guard !stopped, local.port == ikePort || local.port == natTraversalPort else { return }
        perform(keying.unreachable(remote: remote, local: local, now: .now()))
        rearm()
    }

    /// Called on an engine's thread, before the packet is delivered: waits until the outbound SA is
    /// in use, so that the answer to this packet does not find its flow latched.
    func firstInboundPacket(spi: UInt32) {
        if confirmed.withLock({ $0.contains(spi) }) { return }
        let done = DispatchSemaphore(value: 0)
        loop.execute {
            self.perform(self.keying.firstInboundPacket(spi: spi, now: .now()))
            self.rearm()
            done.signal()
        }
        _ = done.wait(timeout: .now() + 0.2)
    }

    /// A limit of an SA is near: time, bytes, sequence numbers.
    func softExpired(spi: UInt32, peer: PeerKey) {
        guard !stopped else { return }
        log.info("an SA with \(peer.remote) nears a limit: renewing it")
        perform(keying.softExpired(spi: spi, now: .now()))
        rearm()
    }

    /// The kernel, or somebody else on this host, ended an SA of ours.
    func expired(spi: UInt32, peer: PeerKey) {
        guard !stopped else { return }
        log.warning("an SA with \(peer.remote) is gone from the engine")
        perform(keying.hardExpired(spi: spi, now: .now()))
        rearm()
    }

    /// Whether a pair waits for its first packet behind an engine that doesn't announce it.
    var awaitsFirstPacket: Bool { waiting.withLock { $0 } }

    /// Packets and bytes by SPI.
    func traffic(inbound: [UInt32: (UInt64, UInt64)], outbound: [UInt32: (UInt64, UInt64)]) {
        guard !stopped else { return }
        perform(
            keying.traffic(
                keying.quickModes.map { mode in
                    let (inPackets, inBytes) = inbound[mode.inboundSPI] ?? (0, 0)
                    let (outPackets, outBytes) = outbound[mode.outboundSPI] ?? (0, 0)
                    return TrafficSample(
                        inboundSPI: mode.inboundSPI, inboundPackets: inPackets, inboundBytes: inBytes,
                        outboundPackets: outPackets, outboundBytes: outBytes)
                }, now: .now()))
        rearm()
    }

    /// Renews the SAs with one peer, or all; returns how many peers that were.
    func rekey(remote: IPAddress?) -> Int {
        let due = pairs.keys.filter { remote == nil || $0.remote == remote }
        for peer in due { perform(keying.rekey(peer, now: .now())) }
        rearm()
        return due.count
    }

    /// A packet went into nd0 and found no SA: BPF believes in one that is gone.
    func acquire(_ peer: PeerKey) {
        guard discovery.record(peer)?.state == .secured, pairs[peer] == nil else { return }
        perform(discovery.removed(peer, .deletedLocally, remainingPairs: 0, now: .now()))
        perform(discovery.latched(peer, now: .now()))
        rearm()
    }

    /// This host's addresses could not be read.
    func addressesUnread() {
        addressFailures += 1
        monitor.publish(MonitorEvent("addresses.failed", "this host's addresses can't be read; the last ones stay in force"))
    }

    func fragmentsWait(_ peer: PeerKey) {
        guard !stopped else { return }
        perform(keying.negotiate(peer, now: .now()))
        rearm()
    }

    /// Deletes the SAs with one peer, or all; returns how many pairs that were.
    func delete(remote: IPAddress?) -> Int {
        let before = pairs.values.reduce(0) { $0 + $1.count }
        for peer in Array(pairs.keys) where remote == nil || peer.remote == remote {
            perform(keying.delete(peer, reason: .administrative, now: .now()))
        }
        rearm()
        return before - pairs.values.reduce(0) { $0 + $1.count }
    }

    /// RFC 3948 §4: keeps a NAT's mapping alive where an outbound SA in UDP has been silent since
    /// the last call.
    func sendKeepalives() {
        guard !stopped else { return }
        var counts: [UInt32: UInt64] = [:]
        for sa in engine.securityAssociations() where sa.direction == .outbound && sa.active {
            guard case .udp(let localPort, let remotePort) = sa.encapsulation else { continue }
            counts[sa.spi] = sa.packets
            if lastCounts[sa.spi] == sa.packets {
                engine.sendIKE(
                    [0xff], from: Endpoint(sa.peer.local, localPort), to: Endpoint(sa.peer.remote, remotePort))
            }
        }
        lastCounts = counts
    }

    func shutdown() {
        guard !stopped else { return }
        perform(keying.deleteAll(now: .now()))
        stopped = true
        timer?.cancel()
    }

    // MARK: what is done

    private func perform(_ actions: [DiscoveryAction]) {
        for action in actions {
            switch action {
            case .startKeying(let peer):
                perform(keying.negotiate(peer, now: .now()))
            case .stopRetransmitting(let peer):
                perform(keying.stopRetransmitting(peer, now: .now()))
            case .abandonKeying(let peer):
                perform(keying.delete(peer, reason: .administrative, now: .now()))
            case .setPeer(let peer, let record):
                write(peer, record)
            case .removePeer(let peer):
                datapath.peers.delete(nd_peer_key(peer))
                datapath.protections.delete(nd_peer_key(peer))
            case .replay(let packet):
                send(packet)
            case .dropStored:
                break
            case .log(let note):
                report(note)
            }
        }
    }

    private func perform(_ actions: [KeyingAction]) {
        for action in actions {
            switch action {
            case .send(let datagram, let from, let to):
                if from.port == natTraversalPort {
                    engine.sendIKE(datagram, from: from, to: to)
                } else {
                    sockets.send(datagram, from: from, to: to)
                }
            case .install(let pair):
                // Before the peer can use it: an answer to a packet that only the kernel saw must wait.
                if engine.kind == .kernel, !pair.inbound.peer.isForFragments {
                    perform(discovery.answering(pair.inbound.peer, now: .now()))
                }
                // And a packet that it protects may be judged by whose it is: on the kernel engine nobody waits for us.
                let key = nd_peer_key(pair.inbound.peer)
                if datapath.protections.lookup(key) == nil, let agreed = keying.agreed(inboundSPI: pair.inbound.spi) {
                    protect(agreed)
                }
                do {
                    try engine.install(pair)
                } catch {
                    log.error("the engine refuses an SA with \(pair.inbound.peer.remote): \(error)")
                    perform(keying.delete(pair.inbound.peer, reason: .administrative, now: .now()))
                }
            case .activateOutbound(let peer, let spi):
                do {
                    try engine.activateOutbound(peer: peer, spi: spi)
                } catch {
                    log.error("the engine can't use the SA with \(peer.remote): \(error)")
                }
            case .established(let result):
                // Before traffic is let in that filters may judge by who sends it.
                protect(result)
                pairs[result.peer, default: []].insert(result.inboundSPI)
                if !result.peer.isForFragments {
                    perform(discovery.established(result.peer, isBoundary: result.peerBoundary, now: .now()))
                }
                // Only now does BPF know: an engine thread that finds the SPI here delivers at once.
                confirmed.withLock { _ = $0.insert(result.inboundSPI) }
                report(result)
            case .remove(let peer, let inbound, let outbound, let reason):
                pairs[peer]?.remove(inbound)
                let remaining = pairs[peer]?.count ?? 0
                if remaining == 0 {
                    pairs[peer] = nil
                    datapath.protections.delete(nd_peer_key(peer))
                }
                confirmed.withLock { _ = $0.remove(inbound) }
                // BPF first: a packet between the two would reach an engine without an SA.
                if !peer.isForFragments {
                    perform(discovery.removed(peer, .init(reason), remainingPairs: remaining, now: .now()))
                }
                engine.remove(peer: peer, inboundSPI: inbound, outboundSPI: outbound)
                monitor.publish(
                    MonitorEvent(
                        "sa.removed", "SA pair removed: \(reason.rawValue)", local: "\(peer.local)",
                        remote: "\(peer.remote)"))
            case .failed(let peer, let reason):
                if !peer.isForFragments { perform(discovery.failed(peer, FailureReason(reason), now: .now())) }
                monitor.publish(
                    MonitorEvent(
                        "keying.failed", "negotiation failed: \(reason)", local: "\(peer.local)",
                        remote: "\(peer.remote)"))
            case .event(let event):
                switch event.level {
                case .debug: log.debug("\(event)")
                case .info: log.info("\(event)")
                case .warning: log.warning("\(event)")
                }
                monitor.publish(
                    MonitorEvent(
                        "keying.\(event.code)", event.text, local: event.local?.description,
                        remote: event.remote?.description))
            }
        }
    }

    /// For callouts that ask how a packet is protected and by whom.
    private func protect(_ result: Established) {
        guard !result.peer.isForFragments else { return }
        do {
            var protection = nd_protection(result)
            protection.machine = datapath.machineNumber(protection)
            try datapath.protections.update(nd_peer_key(result.peer), protection)
        } catch {
            log.error("can't write the protection of \(result.peer.remote): \(error)")
        }
    }

    private func write(_ peer: PeerKey, _ record: PeerRecord) {
        do {
            try datapath.peers.update(nd_peer_key(peer), nd_peer(record))
            // Only a change between protected and not can turn a cached verdict.
            if record.state == .secured || record.state == .lost { try datapath.changeState() }
        } catch {
            log.error("can't write the peer \(peer.remote): \(error)")
        }
    }

    /// The last quick-mode message and what follows it race at the peer: strongSwan 5.9.8 has its SAs some
    /// milliseconds after that message came and drops what is faster (measured: every second connect()
    /// waited a second). A second SYN harms nobody, a second datagram might.
    private static let synAgain: [Int64] = [25, 100, 400]

    private func send(_ packet: StoredPacket) {
        // The peer may have answered in clear meanwhile: then it has the packet. One that waited it can't have.
        if !packet.waits, let flow = datapath.flow(nd_flow_key(packet.flow)),
            flow.packets.2 != 0 || flow.packets.3 != 0
        {
            return
        }
        if !replay.send(packet.bytes) { log.debug("the first packet of \(packet.flow) can't be sent again") }
        if packet.opensTCP { sendAgain(packet, sent: 1, after: Self.synAgain[...]) }
    }

    private func sendAgain(_ packet: StoredPacket, sent: UInt64, after waits: ArraySlice<Int64>) {
        guard let wait = waits.first else { return }
        loop.scheduleTask(in: .milliseconds(wait)) { [weak self] in
            // What came in protected the kernel engine does not count; that we sent more tells it too.
            guard let self, !self.stopped, self.pairs[packet.peer] != nil,
                let flow = self.datapath.flow(nd_flow_key(packet.flow)),
                flow.packets.2 == 0, flow.packets.3 == 0, flow.packets.1 <= sent,
                self.replay.send(packet.bytes)
            else { return }
            self.sendAgain(packet, sent: sent + 1, after: waits.dropFirst())
        }
    }

    private func rearm() {
        if engine.kind == .kernel {
            let unconfirmed = keying.hasUnconfirmedPairs
            waiting.withLock { $0 = unconfirmed }
        }
        timer?.cancel()
        timer = nil
        guard !stopped, let next = [keying.nextDeadline, discovery.nextTimer].compactMap({ $0 }).min() else { return }
        let wait = next.since(.now())
        timer = loop.scheduleTask(in: .nanoseconds(Int64(clamping: max(wait.nanoseconds, 1_000_000)))) { [weak self] in
            guard let self, !self.stopped else { return }
            let now = Instant.now()
            self.perform(self.keying.timerFired(now: now))
            if let due = self.discovery.nextTimer, due <= now { self.perform(self.discovery.timer(now)) }
            self.rearm()
        }
    }

    // MARK: what is told

    private func report(_ result: Established) {
        let encapsulation: String
        switch result.encapsulation {
        case .native: encapsulation = "protocol 50"
        case .udp: encapsulation = "UDP 4500"
        }
        let text =
            "secured with \(result.quickModeSuite) over \(encapsulation) as \(result.role.rawValue) in \(result.elapsed) (main mode \(result.mainModeSuite)\(result.peerBoundary ? ", boundary peer" : ""))"
        log.info("\(result.peer.remote): \(text)")
        monitor.publish(
            MonitorEvent(
                "keying.established", text, local: "\(result.peer.local)", remote: "\(result.peer.remote)"))
    }

    private func report(_ note: DiscoveryNote) {
        let (peer, kind, text): (PeerKey, String, String)
        switch note {
        case .started(let p, let again):
            (peer, kind, text) = (p, "peer.negotiating", again ? "negotiating again" : "negotiating")
        case .secured(let p, let after):
            let time = after.map { " after \(Span(nanoseconds: $0))" } ?? ""
            (peer, kind, text) = (p, "peer.secured", "secured\(time)")
        case .failed(let p, let reason, let span):
            (peer, kind, text) = (p, "peer.clear", "no IPsec (\(reason.rawValue)): clear for \(span)")
        case .lost(let p, let reason):
            (peer, kind, text) = (p, "peer.lost", "SAs gone (\(reason.rawValue)): secured flows are latched")
        case .overBudget(let p):
            (peer, kind, text) = (p, "peer.over-budget", "negotiation put off: over the budget")
        case .forgotten(let p):
            (peer, kind, text) = (p, "peer.forgotten", "forgotten")
        }
        log.info("\(peer.remote): \(text)")
        monitor.publish(MonitorEvent(kind, text, local: "\(peer.local)", remote: "\(peer.remote)"))
    }

    private static func describe(_ event: DatapathEvent) -> MonitorEvent {
        let label = ABILabels.event(event.kind.rawValue)
        let flow = "\(IPProtocol.name(event.flow.proto)) \(event.flow.local) \(event.inbound ? "<" : ">") \(event.flow.remote)"
        var kind = "flow.\(label)"
        let text: String
        switch event.kind {
        case ND_EVENT_DISCARD:
            kind = "discard.\(ABILabels.layer(event.layer).lowercased())"
            text = "\(flow): dropped at \(ABILabels.layer(event.layer))_DISCARD by filter \(event.filter), \(event.length) bytes"
        case ND_EVENT_DROP:
            kind = "drop.\(ABILabels.dropReason(event.reason))"
            text = "\(flow): dropped, \(ABILabels.dropReason(event.reason))"
        case ND_EVENT_NEGOTIATE: text = "\(flow): first packet, negotiation asked for"
        case ND_EVENT_STASH: text = "\(flow): first packet while negotiating"
        case ND_EVENT_CLEAR_REPLY: text = "\(flow): answered in clear"
        default: text = "\(flow): latched"
        }
        return MonitorEvent(kind, text, local: "\(event.flow.local)", remote: "\(event.flow.remote)")
    }
}

extension nd_protection {
    fileprivate init(_ result: Established) {
        self.init()
        spi_in = result.inboundSPI
        spi_out = result.outboundSPI
        if case .udp = result.encapsulation { in_udp = 1 }
        let (type, bytes) = result.identity.wireForm
        identity_type = type
        identity_length = UInt16(clamping: bytes.count)
        withUnsafeMutableBytes(of: &identity) { $0.copyBytes(from: bytes.prefix($0.count)) }
    }
}

extension nd_peer {
    init(_ record: PeerRecord) {
        self.init()
        state = record.state.rawValue
        flags = (record.isBoundary ? ND_PEER_BOUNDARY : 0) | (record.isAnswering ? ND_PEER_ANSWERING : 0)
        changed_at = record.changedAt.nanoseconds
        secured_at = record.securedAt?.nanoseconds ?? 0
        secured_until = record.securedUntil?.nanoseconds ?? 0
        clear_until = record.clearUntil?.nanoseconds ?? 0
    }
}

extension PeerRecord {
    public init(_ value: nd_peer) {
        func instant(_ value: UInt64) -> Instant? { value == 0 ? nil : Instant(nanoseconds: value) }
        self.init(
            PeerState(rawValue: value.state) ?? .unknown, changedAt: Instant(nanoseconds: value.changed_at),
            isBoundary: value.flags & ND_PEER_BOUNDARY != 0, securedAt: instant(value.secured_at),
            securedUntil: instant(value.secured_until), clearUntil: instant(value.clear_until))
    }
}
