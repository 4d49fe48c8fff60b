import NDCore
import NDWire

/// RFC 3706. Engines report what passed; ESP from the peer, and every verified message of IKE, proves
/// that it lives.
struct Liveness: Sendable {
    struct Probe: Sendable {
        var sequence: UInt32
        var attempts = 1
        var next: Instant
    }

    var lastHeard: Instant
    var inbound: UInt64 = 0
    /// Packets sent when the peer was last heard.
    var outboundThen: UInt64 = 0
    var outbound: UInt64 = 0
    var probe: Probe?
}

extension KeyingMachine {
    mutating func observe(_ samples: [TrafficSample]) {
        var sums: [AddressPair: (inbound: UInt64, outbound: UInt64)] = [:]
        for sample in samples {
            // Of several hosts behind one address each looks after itself.
            guard let pair = pairs[sample.inboundSPI], !(pair.isRenewedByPeer && configuration.separatesClients)
            else { continue }
            let sum = sums[AddressPair(pair.peer)] ?? (0, 0)
            sums[AddressPair(pair.peer)] = (
                sum.inbound &+ sample.inboundPackets, sum.outbound &+ sample.outboundPackets
            )
        }
        for (addresses, sum) in sums {
            var state = peers[addresses]?.liveness ?? Liveness(lastHeard: now, outboundThen: sum.outbound)
            // A pair that went takes its counts along: that is a change too, and no harm.
            if sum.inbound != state.inbound {
                state.lastHeard = now
                state.probe = nil
                state.outboundThen = sum.outbound
            }
            state.inbound = sum.inbound
            state.outbound = sum.outbound
            updatePeer(addresses) { $0.liveness = state }
            let settings = configuration.deadPeerDetection
            if settings.enabled, state.probe == nil, sum.outbound != state.outboundThen,
                now.since(state.lastHeard) >= settings.idle
            {
                startProbe(addresses)
            }
        }
    }

    mutating func heard(_ addresses: AddressPair) {
        guard var state = peers[addresses]?.liveness else { return }
        state.lastHeard = now
        state.outboundThen = state.outbound
        state.probe = nil
        updatePeer(addresses) { $0.liveness = state }
        timers.cancel(.liveness(addresses))
    }

    private mutating func startProbe(_ addresses: AddressPair) {
        guard let mode = usableMainMode(addresses) else {
            // Nothing to ask under: new SAs tell as well, and end the old ones when nobody answers.
            for spi in peers[addresses]?.pairs ?? [] where pairs[spi]?.rekeyAt ?? now >= now { rekeyPair(spi) }
            return
        }
        guard mode.association?.traits.deadPeerDetection == true else { return }
        ask(addresses, attempts: 1)
    }

    private mutating func ask(_ addresses: AddressPair, attempts: Int) {
        let next = now.advanced(by: configuration.deadPeerDetection.retry)
        timers.set(.liveness(addresses), next)
        guard let mode = usableMainMode(addresses), let association = mode.association else {
            updatePeer(addresses) { $0.liveness?.probe = Liveness.Probe(sequence: 0, attempts: attempts, next: next) }
            return
        }
        let first = random.bytes(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7fff_ffff
        let probe = Liveness.Probe(sequence: mode.ownProbe.map { $0 &+ 1 } ?? first, attempts: attempts, next: next)
        updatePeer(addresses) { $0.liveness?.probe = probe }
        mainModeRecords[mode.id]?.ownProbe = probe.sequence
        counters.count(.deadPeerProbesSent)
        sendInformational(
            mode, association,
            [
                .notification(
                    NotificationPayload(
                        protocolID: ProtocolID.isakmp, type: .rUThere, spi: mode.cookies.bytes,
                        data: [UInt8](u32: probe.sequence)))
            ])
    }

    mutating func livenessTimer(_ addresses: AddressPair) {
        guard let probe = peers[addresses]?.liveness?.probe else { return }
        guard probe.attempts < configuration.deadPeerDetection.tries else { return declareDead(addresses) }
        ask(addresses, attempts: probe.attempts + 1)
    }

    /// Nobody is told: there is nobody.
    private mutating func declareDead(_ addresses: AddressPair) {
        counters.count(.deadPeers)
        event(
            .warning, "peer.dead", "\(addresses.remote) does not answer: its SAs are removed", addresses)
        updatePeer(addresses) { $0.liveness = nil }
        for spi in peers[addresses]?.pairs ?? [] { removePair(spi, .deadPeer) }
        for id in peers[addresses]?.mainModes ?? [] where mainModeRecords[id]?.isNegotiating == false {
            removeMainMode(id)
            restartNegotiations(thatUsed: id, addresses)
        }
    }

    /// True when the notify was one of RFC 3706's.
    mutating func receiveLiveness(_ notify: NotificationPayload, _ mode: MainMode) -> Bool {
        guard notify.type == .rUThere || notify.type == .rUThereAck else { return false }
        guard notify.spi == mode.cookies.bytes, notify.data.count == 4 else {
            drop(.unexpectedPayload)
            return true
        }
        let sequence = notify.data.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        if notify.type == .rUThereAck {
            // Any authenticated message would do; one that names another question is out of date.
            if peers[mode.addresses]?.liveness?.probe?.sequence == sequence { heard(mode.addresses) }
            return true
        }
        counters.count(.deadPeerProbesReceived)
        // RFC 3706 §6.3: a number that is not above the last one is a replay.
        if let last = mode.lastProbe, sequence <= last, last - sequence < 0x4000_0000 {
            drop(.replayedProbe)
            return true
        }
        mainModeRecords[mode.id]?.lastProbe = sequence
        guard let association = mode.association else { return true }
        sendInformational(
            mode, association,
            [
                .notification(
                    NotificationPayload(
                        protocolID: ProtocolID.isakmp, type: .rUThereAck, spi: notify.spi, data: notify.data))
            ])
        return true
    }
}
