import NDCore
import NDWire

/// What `negotiate` asked for, independent of which side's exchange brings it about.
extension KeyingMachine {
    mutating func beginNegotiation(_ peer: PeerKey, rekeyOf: UInt32? = nil) {
        guard negotiations[peer] == nil else {
            // Somebody waits for what was only a renewal.
            if rekeyOf == nil { negotiations[peer]?.rekeyOf = nil }
            return
        }
        counters.count(.negotiationsStarted)
        guard negotiations.count < configuration.limits.negotiations else {
            counters.count(.negotiationsFailed)
            drop(.limit)
            if rekeyOf == nil { actions.append(.failed(peer: peer, reason: .limit)) }
            return
        }
        let addresses = AddressPair(peer)
        let soon = now.advanced(by: configuration.retransmission.firstInterval)
        negotiations[peer] = Negotiation(
            peer: peer, started: now, step: .awaitingPeer(until: soon), rekeyOf: rekeyOf)
        updatePeer(addresses) { $0.negotiations.append(peer) }
        // What the peer negotiates serves the plain context only.
        if peer.context == 0, isPeerNegotiating(addresses) {
            timers.set(.negotiation(peer), soon)
        } else {
            proceed(peer)
        }
    }

    /// The peer's exchange with us began within the last interval: wait for it. An attacker's forged
    /// message 1 gains no more than that interval.
    private func isPeerNegotiating(_ addresses: AddressPair) -> Bool {
        guard let index = peers[addresses] else { return false }
        func recent(_ started: Instant) -> Bool {
            now < started.advanced(by: configuration.retransmission.firstInterval)
        }
        if index.pairs.contains(where: { pairs[$0].map { !$0.confirmed && recent($0.created) } ?? false }) {
            return true
        }
        return index.mainModes.contains {
            guard let mode = mainModeRecords[$0] else { return false }
            return mode.role == .responder && recent(mode.started)
        }
    }

    /// Takes the shortest way on: an ISAKMP SA, one under way, a new one.
    mutating func proceed(_ peer: PeerKey) {
        guard negotiations[peer] != nil else { return }
        // Without a quick mode to come a main mode would be for nothing.
        let policy = configuration.policy
        guard policy.hasMainMode(local: peer.local, remote: peer.remote),
            policy.hasQuickMode(local: peer.local, remote: peer.remote)
        else { return failNegotiation(peer, .noPolicy) }
        let addresses = AddressPair(peer)
        // More for a host that shares its address: not with another one behind it.
        let client = (peers[addresses]?.pairs ?? []).compactMap { pairs[$0] }.last {
            $0.confirmed && !$0.peer.isForFragments
        }?.client
        if let mode = usableMainMode(addresses, client) { return startQuickMode(peer, mode, reused: true) }
        let own = (peers[addresses]?.mainModes ?? []).first {
            guard let mode = mainModeRecords[$0] else { return false }
            return mode.role == .initiator && mode.isNegotiating
        }
        if let own {
            negotiations[peer]?.step = .mainMode(own)
            return
        }
        switch startMainMode(peer) {
        case .success(let id): negotiations[peer]?.step = .mainMode(id)
        case .failure(let failure): failNegotiation(peer, failure.reason)
        }
    }

    mutating func continueNegotiations(after mode: MainMode) {
        if mode.role == .responder {
            // Its initiator is about to start quick mode.
            let until = now.advanced(by: configuration.retransmission.firstInterval)
            abandonOwnMainModes(besides: mode.id, mode.addresses)
            for peer in peers[mode.addresses]?.negotiations ?? [] {
                switch negotiations[peer]?.step {
                case .mainMode(let id) where mainModeRecords[id] == nil:
                    negotiations[peer]?.step = .awaitingPeer(until: until)
                    timers.set(.negotiation(peer), until)
                case .awaitingPeer:
                    negotiations[peer]?.step = .awaitingPeer(until: until)
                    timers.set(.negotiation(peer), until)
                default: break
                }
            }
        } else {
            for peer in peers[mode.addresses]?.negotiations ?? []
            where negotiations[peer]?.step == .mainMode(mode.id) {
                startQuickMode(peer, mode, reused: false)
            }
        }
    }

    mutating func negotiationTimer(_ peer: PeerKey) {
        guard case .awaitingPeer? = negotiations[peer]?.step else { return }
        proceed(peer)
    }

    /// Its main-mode SA is gone: once more from the start.
    mutating func restartNegotiations(thatUsed id: MainModeID, _ addresses: AddressPair) {
        for peer in peers[addresses]?.negotiations ?? [] {
            switch negotiations[peer]?.step {
            case .quickMode(let quick) where quick.mainMode == id: restart(peer, or: .peerRefused(.invalidCookie))
            default: break
            }
        }
    }

    mutating func restart(_ peer: PeerKey, or failure: KeyingFailure) {
        guard let negotiation = negotiations[peer] else { return }
        guard !negotiation.restarted else { return failNegotiation(peer, failure) }
        negotiations[peer]?.restarted = true
        proceed(peer)
    }

    mutating func failNegotiation(_ peer: PeerKey, _ reason: KeyingFailure) {
        guard let negotiation = forgetNegotiation(peer) else { return }
        counters.count(.negotiationsFailed)
        if negotiation.rekeyOf != nil {
            counters.count(.rekeysFailed)
            event(
                .warning, "rekey.failed", "no new SAs with \(peer.remote): \(reason); the old ones are used until they end",
                AddressPair(peer))
            return
        }
        event(.info, "negotiation.failed", "negotiation with \(peer) failed: \(reason)", AddressPair(peer))
        actions.append(.failed(peer: peer, reason: reason))
    }

    /// A pair with the peer is in use, whoever began: nothing is left to be asked for.
    mutating func satisfyNegotiations(_ pair: Pair) {
        let addresses = AddressPair(pair.peer)
        for peer in peers[addresses]?.negotiations ?? []
        where peer == pair.peer || (pair.role == .responder && !peer.isForFragments) {
            guard let negotiation = forgetNegotiation(peer) else { continue }
            counters.count(.negotiationsSucceeded)
            switch negotiation.step {
            case .quickMode(let id) where id != pair.quickMode: removeQuickMode(id)
            case .mainMode: abandonOwnMainModes(besides: pair.mainMode, addresses)
            default: break
            }
        }
    }

    private mutating func forgetNegotiation(_ peer: PeerKey) -> Negotiation? {
        guard let negotiation = negotiations.removeValue(forKey: peer) else { return nil }
        timers.cancel(.negotiation(peer))
        updatePeer(AddressPair(peer)) { $0.negotiations.removeAll { $0 == peer } }
        return negotiation
    }

    // MARK: Deletion

    mutating func deletePeer(_ peer: PeerKey, _ reason: RemovalReason) {
        let addresses = AddressPair(peer)
        for spi in peers[addresses]?.pairs ?? [] where pairs[spi]?.peer == peer {
            sendDelete(spi)
            removePair(spi, reason)
        }
        if let negotiation = negotiations[peer] {
            if case .quickMode(let id) = negotiation.step { removeQuickMode(id) }
            failNegotiation(peer, .cancelled)
        }
        guard let index = peers[addresses], index.pairs.isEmpty, index.negotiations.isEmpty else { return }
        for id in index.mainModes { closeMainMode(id, tellPeer: true) }
    }
}
