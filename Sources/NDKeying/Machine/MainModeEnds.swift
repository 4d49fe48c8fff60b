import NDCore
import NDWire

extension KeyingMachine {
    // MARK: Time

    mutating func schedule(_ mode: MainMode) {
        let at = [mode.transmission?.next, mode.expires, mode.rekeyAt].compactMap { $0 }.min()
        if let at { timers.set(.mainMode(mode.id), at) } else { timers.cancel(.mainMode(mode.id)) }
    }

    mutating func mainModeTimer(_ id: MainModeID) {
        guard var mode = mainModeRecords[id] else { return }
        if let expires = mode.expires, expires <= now {
            if mode.isNegotiating {
                counters.count(.halfOpenExpired)
                removeMainMode(id)
            } else {
                event(.info, "main-mode.expired", "main mode with \(mode.remote) expired", mode.addresses)
                closeMainMode(id, tellPeer: !mode.closing)
            }
            return
        }
        if let at = mode.rekeyAt, at <= now { return rekeyMainMode(mode) }
        guard var transmission = mode.transmission, transmission.next <= now else { return schedule(mode) }
        if let hint = mode.hint { return failMainMode(id, hint) }
        if mode.isUnanswered {
            if mode.stopRetransmitting { return failMainMode(id, .noAnswer) }
            if let until = mode.yieldedUntil, now < until, peerMainModeUnderWay(mode.addresses) {
                mode.transmission?.next = until
                mainModeRecords[id] = mode
                return schedule(mode)
            }
        }
        guard transmission.attempts < configuration.retransmission.tries else {
            return failMainMode(id, mode.isUnanswered ? .noAnswer : .timedOut)
        }
        transmission.repeated(configuration.retransmission, now)
        mode.transmission = transmission
        mainModeRecords[id] = mode
        counters.count(.retransmissionsSent)
        transmit(transmission.message, from: mode.local, to: mode.remote)
        schedule(mode)
    }

    /// A new ISAKMP SA before the old one ends, where pairs will need one.
    private mutating func rekeyMainMode(_ old: MainMode) {
        var mode = old
        mode.rekeyAt = nil
        mainModeRecords[mode.id] = mode
        schedule(mode)
        guard let index = peers[mode.addresses], let spi = index.pairs.last, let peer = pairs[spi]?.peer,
            usableMainMode(mode.addresses)?.id == mode.id,
            !index.mainModes.contains(where: { mainModeRecords[$0]?.isNegotiating == true })
        else { return }
        counters.count(.mainModesRekeyed)
        _ = startMainMode(PeerKey(local: peer.local, remote: peer.remote))
    }

    /// Whoever made the new one deletes the old ones, a little later: an exchange may be under way there.
    /// Their pairs live on (RFC 2408 §5.15 ends only what is named).
    mutating func replaceMainModes(with mode: MainMode, _ identity: AuthenticatedIdentity) {
        for id in peers[mode.addresses]?.mainModes ?? [] where id != mode.id {
            // Of two that crossed both stay: each side would delete the other's.
            guard var old = mainModeRecords[id], old.association?.identity == identity,
                let established = old.established, established < mode.started
            else { continue }
            old.rekeyAt = nil
            if mode.role == .initiator {
                let soon = now.advanced(by: configuration.limits.exchangeRetention)
                old.expires = min(old.expires ?? soon, soon)
            }
            mainModeRecords[id] = old
            schedule(old)
        }
    }

    func peerMainModeUnderWay(_ addresses: AddressPair) -> Bool {
        (peers[addresses]?.mainModes ?? []).contains {
            guard let mode = mainModeRecords[$0] else { return false }
            return mode.role == .responder && mode.isNegotiating
        }
    }

    // MARK: Ends

    mutating func failMainMode(_ id: MainModeID, _ reason: KeyingFailure) {
        guard let mode = mainModeRecords[id] else { return }
        removeMainMode(id)
        let waiting = (peers[mode.addresses]?.negotiations ?? []).filter {
            negotiations[$0]?.step == .mainMode(id)
        }
        for peer in waiting {
            // The peer's own exchange may have brought what ours could not.
            if let other = usableMainMode(mode.addresses) {
                startQuickMode(peer, other, reused: true)
            } else {
                failNegotiation(peer, reason)
            }
        }
    }

    /// Ends an ISAKMP SA; its pairs live on ([MS-IKEE] §3.8).
    mutating func closeMainMode(_ id: MainModeID, tellPeer: Bool) {
        guard let mode = mainModeRecords[id] else { return }
        if tellPeer, let association = mode.association {
            counters.count(.deletesSent)
            sendInformational(
                mode, association,
                [
                    .delete(
                        DeletePayload(
                            protocolID: ProtocolID.isakmp, spiSize: 16, spis: [mode.cookies.bytes]))
                ])
        }
        removeMainMode(id)
        restartNegotiations(thatUsed: id, mode.addresses)
    }

    /// Forgets it with its phase-2 exchanges, silently.
    mutating func removeMainMode(_ id: MainModeID) {
        guard let mode = mainModeRecords.removeValue(forKey: id) else { return }
        byCookies[mode.cookies] = nil
        if mode.role == .initiator { ownInitiatorCookies.remove(mode.cookies.initiator) }
        if mode.role == .responder, mode.isNegotiating { releaseHalfOpen(mode.remote.address) }
        timers.cancel(.mainMode(id))
        updatePeer(mode.addresses) { $0.mainModes.removeAll { $0 == id } }
        for messageID in mode.quickModes {
            removeQuickMode(QuickModeID(mainMode: id, messageID: messageID))
        }
    }

    mutating func limitMainModes(_ addresses: AddressPair, _ identity: AuthenticatedIdentity) {
        let established = (peers[addresses]?.mainModes ?? []).filter {
            mainModeRecords[$0]?.association?.identity == identity
        }
        for id in established.dropLast(configuration.limits.mainModesPerPeer) {
            closeMainMode(id, tellPeer: true)
        }
    }

    /// The peer knows of nothing older than this exchange (RFC 2407 §4.6.3.3). What was agreed on
    /// while it ran stays: with simultaneous starts the notify may be out of date. Others behind the
    /// same NAT address are told apart by their identity.
    mutating func initialContact(_ mode: MainMode, _ identity: AuthenticatedIdentity) {
        counters.count(.initialContacts)
        guard let index = peers[mode.addresses] else { return }
        for spi in index.pairs {
            guard let pair = pairs[spi], pair.created < mode.started, pair.established.identity == identity
            else { continue }
            removePair(spi, .initialContact)
        }
        for id in index.mainModes where id != mode.id {
            guard let other = mainModeRecords[id], let established = other.established,
                established < mode.started, other.association?.identity == identity
            else { continue }
            removeMainMode(id)
            restartNegotiations(thatUsed: id, mode.addresses)
        }
    }
}
