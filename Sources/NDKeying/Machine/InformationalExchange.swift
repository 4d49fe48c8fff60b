import NDCore
import NDCrypto
import NDWire

extension KeyingMachine {
    /// One protected message under a fresh message id, not acknowledged (RFC 2409 §5.7).
    mutating func sendInformational(
        _ mode: MainMode, _ association: ISAKMPAssociation, _ payloads: [Payload]
    ) {
        let messageID = fresh(UInt32.self) {
            mode.messageIDs.contains($0) || mode.quickModes.contains($0)
        }
        do {
            var iv = try association.firstIV(messageID: messageID)
            let message = try association.seal(
                payloads, seed: [UInt8](u32: messageID), exchange: .informational, messageID: messageID,
                iv: &iv)
            // Ours too: an echo of it must not be taken for the peer's.
            mainModeRecords[mode.id]?.messageIDs.insert(messageID)
            let current = mainModeRecords[mode.id] ?? mode
            transmit(message, from: current.local, to: current.remote)
        } catch {
            count(error)
        }
    }

    mutating func receiveInformational(_ arrival: Arrival) {
        switch arrival.message.content {
        case .clear(let chain): receiveHint(chain, arrival)
        case .encrypted: receiveProtected(arrival)
        }
    }

    // MARK: Protected

    private mutating func receiveProtected(_ arrival: Arrival) {
        let messageID = arrival.message.header.messageID
        guard messageID != 0 else { return drop(.badMessageID) }
        guard let mode = mainMode(for: arrival), let association = mode.association else {
            return drop(.unknownExchange)
        }
        guard mode.remote.address == arrival.remote.address, mode.local.address == arrival.local.address else {
            return drop(.addressMismatch)
        }
        guard !mode.messageIDs.contains(messageID) else { return drop(.replayedMessageID) }
        do {
            let opened = try association.open(
                arrival.message, iv: association.firstIV(messageID: messageID),
                limits: configuration.limits.wire)
            try association.verify(opened, seed: [UInt8](u32: messageID))
            mainModeRecords[mode.id]?.messageIDs.insert(messageID)
            followPorts(mode, arrival)
            for notify in opened.chain.notifications { receiveNotify(notify, mode) }
            for delete in opened.chain.deletes { receiveDelete(delete, mode) }
        } catch {
            count(error)
        }
    }

    private mutating func receiveNotify(_ notify: NotificationPayload, _ mode: MainMode) {
        counters.count(.notifiesReceived)
        if receiveLiveness(notify, mainModeRecords[mode.id] ?? mode) { return }
        guard notify.type.isError else { return }
        event(
            .info, "notify.received", "\(mode.remote) says \(notify.type)", mode.addresses)
        // Peers name the SPI or nothing: then it is the oldest of our offers under this main mode.
        let offers = mode.quickModes.compactMap {
            quickModeRecords[QuickModeID(mainMode: mode.id, messageID: $0)]
        }.filter { if case .offered = $0.phase { true } else { false } }
        let named = offers.first { notify.spi.starts(with: [UInt8](u32: $0.inboundSPI)) }
        guard let quick = named ?? offers.min(by: { $0.started < $1.started }) else { return }
        removeQuickMode(quick.id)
        failNegotiation(quick.peer, Self.failure(notify.type))
    }

    private mutating func receiveDelete(_ delete: DeletePayload, _ mode: MainMode) {
        counters.count(.deletesReceived)
        switch (delete.protocolID, delete.spiSize) {
        case (ProtocolID.esp, 4):
            // The sender names what it receives on: our outbound SPI.
            let named = Set(delete.spis.map { $0.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } })
            for spi in peers[mode.addresses]?.pairs ?? [] {
                guard let pair = pairs[spi], named.contains(pair.result.outboundSPI),
                    pair.established.identity == mode.association?.identity
                else { continue }
                // Who deletes the old pair uses the new one, message 3 or not.
                let following = (peers[mode.addresses]?.pairs ?? []).drop { $0 != spi }.dropFirst().filter {
                    pairs[$0]?.isAkin(to: pair) == true
                }
                if let newest = following.last, following.allSatisfy({ pairs[$0]?.confirmed == false }) { confirm(newest) }
                removePair(spi, .deletedByPeer)
            }
        case (ProtocolID.isakmp, 16):
            for id in peers[mode.addresses]?.mainModes ?? [] {
                guard let named = mainModeRecords[id], let association = named.association,
                    association.identity == mode.association?.identity,
                    delete.spis.contains(named.cookies.bytes)
                else { continue }
                retire(named)
            }
        default: drop(.unexpectedPayload)
        }
    }

    /// The peer gave the ISAKMP SA up: nothing new under it, but it stays a while for the deletes of
    /// its pairs ([MS-IKEE] §3.8).
    private mutating func retire(_ mode: MainMode) {
        var mode = mode
        mode.closing = true
        let soon = now.advanced(by: configuration.limits.exchangeRetention)
        mode.expires = min(mode.expires ?? soon, soon)
        mainModeRecords[mode.id] = mode
        schedule(mode)
        // Its message 3 will hardly come: a pair that nobody uses must not keep the peer from a new
        // start. But it may be lost, and the pair in use.
        let patience = now.advanced(by: configuration.limits.abandonedPair)
        for spi in peers[mode.addresses]?.pairs ?? []
        where pairs[spi]?.mainMode == mode.id && pairs[spi]?.confirmed == false {
            guard let pair = pairs[spi] else { continue }
            pairs[spi]?.expires = min(pair.expires, patience)
            schedulePair(spi)
        }
        restartNegotiations(thatUsed: mode.id, mode.addresses)
    }

    // MARK: Unprotected

    /// Anyone can write these: they can only shorten an initiator's wait, to the end of the current
    /// interval, and a valid reply until then wins.
    private mutating func receiveHint(_ chain: PayloadChain, _ arrival: Arrival) {
        counters.count(.hintsReceived)
        guard let mode = mainMode(for: arrival) else { return drop(.unknownExchange) }
        guard mode.remote.address == arrival.remote.address, mode.local.address == arrival.local.address else {
            return drop(.addressMismatch)
        }
        guard let notify = chain.notifications.first else { return drop(.missingPayload) }
        if notify.type == .invalidCookie, mode.association != nil {
            for messageID in mode.quickModes {
                let id = QuickModeID(mainMode: mode.id, messageID: messageID)
                if case .offered? = quickModeRecords[id]?.phase {
                    quickModeRecords[id]?.hint = .peerRefused(.invalidCookie)
                }
            }
            return
        }
        guard mode.role == .initiator, case .negotiating(let state) = mode.phase else {
            return drop(.unexpectedMessage)
        }
        if notify.type == .dosCookie {
            guard case .proposalSent(let sent) = state else { return drop(.unexpectedMessage) }
            return answerCookieDemand(notify, mode, sent)
        }
        guard notify.type.isError else { return }
        var failure = Self.failure(notify.type)
        if case .identitySent = state,
            [.authenticationFailed, .invalidHashInformation, .payloadMalformed].contains(notify.type)
        {
            failure = .authenticationFailed
        }
        mainModeRecords[mode.id]?.hint = failure
    }

    /// Message 1 unchanged but for the responder cookie ([MS-IKEE] §3.9).
    private mutating func answerCookieDemand(
        _ notify: NotificationPayload, _ mode: MainMode, _ sent: ProposalSent
    ) {
        let body = notify.spi + notify.data
        guard body.count >= 8, mode.cookieDemands < 2 else { return drop(.unexpectedMessage) }
        counters.count(.cookieDemandsReceived)
        let cookie = body.suffix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        var mode = mode
        mode.cookieDemands += 1
        mode.transmission?.message = sent.message(responderCookie: cookie)
        mainModeRecords[mode.id] = mode
        if let message = mode.transmission?.message { transmit(message, from: mode.local, to: mode.remote) }
    }

    private static func failure(_ notify: NotifyType) -> KeyingFailure {
        switch notify {
        case .noProposalChosen: .noProposalChosen
        case .authenticationFailed, .invalidHashInformation: .authenticationFailed
        default: .peerRefused(notify)
        }
    }
}
