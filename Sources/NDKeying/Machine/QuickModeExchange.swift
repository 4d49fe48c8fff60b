import NDCore
import NDCrypto
import NDWire

extension KeyingMachine {
    // MARK: Initiator

    mutating func startQuickMode(_ peer: PeerKey, _ mode: MainMode, reused: Bool) {
        guard let association = mode.association else { return }
        guard mode.quickModes.count < configuration.limits.quickModesPerMainMode,
            pairs.count + reservedSPIs.count < configuration.limits.pairs
        else { return failNegotiation(peer, .limit) }
        let messageID = fresh(UInt32.self) { mode.messageIDs.contains($0) || mode.quickModes.contains($0) }
        let id = QuickModeID(mainMode: mode.id, messageID: messageID)
        let spi = reserveSPI()
        do {
            let (state, message) = try QuickModeOffered.start(
                quickModeContext(association, messageID), inboundSPI: spi,
                selectors: QuickModeSelectors(initiator: peer.local, responder: peer.remote))
            var quick = QuickMode(
                id: id, role: .initiator, peer: peer, inboundSPI: spi, phase: .offered(state), started: now,
                transmission: Transmission(message, configuration.retransmission, now))
            quick.reusedMainMode = reused
            quickModeRecords[id] = quick
            mainModeRecords[mode.id]?.quickModes.insert(messageID)
            mainModeRecords[mode.id]?.messageIDs.insert(messageID)
            negotiations[peer]?.step = .quickMode(id)
            timers.cancel(.negotiation(peer))
            counters.count(.quickModesInitiated)
            transmit(message, from: mode.local, to: mode.remote)
            schedule(quick)
        } catch {
            reservedSPIs.remove(spi)
            count(error)
            failNegotiation(peer, error.failure ?? .cryptography)
        }
    }

    private mutating func reserveSPI() -> UInt32 {
        let spi = fresh(UInt32.self, atLeast: 256) { pairs[$0] != nil || reservedSPIs.contains($0) }
        reservedSPIs.insert(spi)
        return spi
    }

    private func quickModeContext(_ association: ISAKMPAssociation, _ messageID: UInt32) -> QuickModeContext {
        QuickModeContext(
            configuration: configuration, random: random, association: association, messageID: messageID)
    }

    // MARK: Messages

    mutating func receiveQuickMode(_ arrival: Arrival) {
        let header = arrival.message.header
        guard header.messageID != 0 else { return drop(.badMessageID) }
        guard case .encrypted = arrival.message.content else { return drop(.badFlags) }
        guard let mode = mainMode(for: arrival) else {
            drop(.unknownExchange)
            // Tells a peer whose SA outlived our restart that it should begin anew.
            return hintError(.invalidCookie, arrival)
        }
        // The peer may be ahead: message 6 is still to come.
        guard let association = mode.association else { return drop(.unexpectedMessage) }
        guard mode.remote.address == arrival.remote.address, mode.local.address == arrival.local.address else {
            return drop(.addressMismatch)
        }
        let id = QuickModeID(mainMode: mode.id, messageID: header.messageID)
        guard let quick = quickModeRecords[id] else { return receiveOffer(id, mode, association, arrival) }
        if repeatAnswer(quick, arrival) { return }
        do {
            switch quick.phase {
            case .offered(let state): try finishInitiator(quick, state, mode, association, arrival)
            case .answered(let state):
                try state.receive(arrival.message, quickModeContext(association, header.messageID))
                followPorts(mode, arrival)
                quickModeRecords[id]?.answered = AnsweredRequest(digest: arrival.digest, reply: nil)
                if pairs[quick.inboundSPI]?.confirmed == false { confirm(quick.inboundSPI) }
            case .finished: drop(.unexpectedMessage)
            }
        } catch {
            count(error)
            if case .offered = quick.phase { quickModeRecords[id]?.hint = error.failure }
        }
    }

    private mutating func repeatAnswer(_ quick: QuickMode, _ arrival: Arrival) -> Bool {
        guard var answered = quick.answered, answered.digest == arrival.digest else { return false }
        counters.count(.retransmissionsReceived)
        guard let reply = answered.reply else { return true }
        guard answered.repeats < configuration.limits.repliesPerRequest else {
            drop(.rateLimited)
            return true
        }
        answered.repeats += 1
        quickModeRecords[quick.id]?.answered = answered
        counters.count(.repliesRepeated)
        transmit(reply, from: arrival.local, to: arrival.remote)
        return true
    }

    /// Message 2: both SAs are ours, message 3 leaves before the first packet does.
    private mutating func finishInitiator(
        _ quick: QuickMode, _ state: QuickModeOffered, _ mode: MainMode, _ association: ISAKMPAssociation,
        _ arrival: Arrival
    ) throws(Refusal) {
        let (result, message) = try state.receive(
            arrival.message, quickModeContext(association, quick.id.messageID))
        followPorts(mode, arrival)
        var quick = quick
        quick.phase = .finished
        quick.transmission = nil
        quick.hint = nil
        quick.answered = AnsweredRequest(digest: arrival.digest, reply: message)
        quickModeRecords[quick.id] = quick
        timers.set(.quickMode(quick.id), now.advanced(by: configuration.limits.exchangeRetention))
        let started = negotiations[quick.peer]?.started ?? quick.started
        install(result, quick, association, arrival, started: started)
        transmit(message, from: arrival.local, to: arrival.remote)
        confirm(quick.inboundSPI)
    }

    // MARK: Responder

    private mutating func receiveOffer(
        _ id: QuickModeID, _ mode: MainMode, _ association: ISAKMPAssociation, _ arrival: Arrival
    ) {
        guard !mode.messageIDs.contains(id.messageID) else { return drop(.replayedMessageID) }
        guard !mode.closing else { return drop(.unexpectedMessage) }
        guard mode.quickModes.count < configuration.limits.quickModesPerMainMode,
            pairs.count + reservedSPIs.count < configuration.limits.pairs
        else { return drop(.limit) }
        let client = association.client(at: mode.remote.address)
        if !configuration.separatesClients, let client,
            (peers[mode.addresses]?.pairs ?? []).contains(where: { pairs[$0]?.client != client })
        {
            event(
                .warning, "client.refused", "\(client) is a second host behind \(mode.remote.address): only the user engine serves several",
                mode.addresses)
            return drop(.limit)
        }
        var verified = false
        do throws(Refusal) {
            let opened = try association.open(
                arrival.message, iv: association.firstIV(messageID: id.messageID),
                limits: configuration.limits.wire)
            try association.verify(opened, seed: [UInt8](u32: id.messageID))
            verified = true
            if prefersOwnQuickMode(to: mode) { return drop(.collision) }
            mainModeRecords[id.mainMode]?.messageIDs.insert(id.messageID)
            followPorts(mode, arrival)
            guard configuration.policy.hasQuickMode(local: mode.local.address, remote: mode.remote.address) else {
                throw Refusal(.noPolicy, notify: .noProposalChosen)
            }
            let spi = reserveSPI()
            defer { reservedSPIs.remove(spi) }
            let (state, result, reply) = try QuickModeAnswered.answer(
                opened, quickModeContext(association, id.messageID), inboundSPI: spi,
                selectors: QuickModeSelectors(
                    initiator: arrival.remote.address, responder: arrival.local.address))
            let quick = QuickMode(
                id: id, role: .responder, peer: peerKey(mode.addresses), inboundSPI: spi,
                phase: .answered(state), started: now,
                answered: AnsweredRequest(digest: arrival.digest, reply: reply))
            quickModeRecords[id] = quick
            mainModeRecords[id.mainMode]?.quickModes.insert(id.messageID)
            counters.count(.quickModesAnswered)
            timers.set(.quickMode(id), now.advanced(by: configuration.limits.halfOpenTimeout))
            install(result, quick, association, arrival, started: firstUse(mode) ? mode.started : now)
            transmit(reply, from: arrival.local, to: arrival.remote)
            yieldOwnQuickModes(to: mode)
            limitPairs(mode.addresses, client)
        } catch {
            count(error)
            // The peer is authenticated: it gets a protected answer.
            if verified, let notify = error.notify {
                counters.count(.errorNotifiesSent)
                sendInformational(
                    mode, association,
                    [.notification(NotificationPayload(protocolID: ProtocolID.esp, type: notify))])
            }
        }
    }

    private func firstUse(_ mode: MainMode) -> Bool {
        mode.role == .responder && mode.quickModes.isEmpty
            && now.since(mode.started) < configuration.limits.halfOpenTimeout
    }

    /// The peer's quick mode says nothing of our contexts: it is taken for the one that is wanted.
    private func peerKey(_ addresses: AddressPair) -> PeerKey {
        let wanted = (peers[addresses]?.negotiations ?? []).filter { !$0.isForFragments }.map(\.context).min()
        return PeerKey(local: addresses.local, remote: addresses.remote, context: wanted ?? 0)
    }

    /// A verified message from other ports moves the peer (RFC 3947 §4, §6).
    mutating func followPorts(_ mode: MainMode, _ arrival: Arrival) {
        heard(mode.addresses)
        guard mode.local != arrival.local || mode.remote != arrival.remote else { return }
        mainModeRecords[mode.id]?.local = arrival.local
        mainModeRecords[mode.id]?.remote = arrival.remote
        guard mode.local.port == arrival.local.port, arrival.local.port == configuration.natTraversalPort else { return }
        // A NAT gave the peer another port: its installed SAs send to the old one.
        for spi in peers[mode.addresses]?.pairs ?? []
        where pairs[spi]?.established.identity == mode.association?.identity && pairs[spi]?.encapsulation != .native {
            rekeyPair(spi)
        }
    }

    // MARK: Simultaneous start

    /// Of two crossing quick modes the one under the main mode with the lower initiator cookie goes
    /// first, under one main mode that of its initiator. As with main mode, for one interval.
    private func ownRank(_ mode: MainMode) -> (UInt64, Int) {
        (mode.cookies.initiator, mode.role == .initiator ? 0 : 1)
    }

    private func peerRank(_ mode: MainMode) -> (UInt64, Int) {
        (mode.cookies.initiator, mode.role == .responder ? 0 : 1)
    }

    private func ownOffers(_ addresses: AddressPair) -> [(QuickMode, MainMode)] {
        // A pair for whole datagrams is wanted besides whatever the peer begins.
        (peers[addresses]?.negotiations ?? []).filter { !$0.isForFragments }.compactMap {
            guard case .quickMode(let id)? = negotiations[$0]?.step, let quick = quickModeRecords[id],
                case .offered = quick.phase, let mode = mainModeRecords[id.mainMode]
            else { return nil }
            return (quick, mode)
        }
    }

    private func prefersOwnQuickMode(to mode: MainMode) -> Bool {
        ownOffers(mode.addresses).contains { quick, own in
            ownRank(own) < peerRank(mode)
                && now < quick.started.advanced(by: configuration.retransmission.firstInterval)
        }
    }

    private mutating func yieldOwnQuickModes(to mode: MainMode) {
        for (quick, own) in ownOffers(mode.addresses)
        where quick.yieldedUntil == nil && peerRank(mode) < ownRank(own) {
            counters.count(.collisions)
            quickModeRecords[quick.id]?.yieldedUntil = now.advanced(
                by: configuration.retransmission.firstInterval.times(2))
        }
    }

    // MARK: Time and end

    mutating func schedule(_ quick: QuickMode) {
        if let next = quick.transmission?.next { timers.set(.quickMode(quick.id), next) }
    }

    mutating func quickModeTimer(_ id: QuickModeID) {
        guard var quick = quickModeRecords[id] else { return }
        guard case .offered = quick.phase, var transmission = quick.transmission,
            let mode = mainModeRecords[id.mainMode]
        else { return removeQuickMode(id) }
        let policy = configuration.retransmission
        let unconfirmed = (peers[mode.addresses]?.pairs ?? []).contains { pairs[$0]?.confirmed == false }
        if quick.hint == nil, let until = quick.yieldedUntil, now < until, unconfirmed {
            quick.transmission?.next = until
            quickModeRecords[id] = quick
            return schedule(quick)
        }
        let tries = quick.reusedMainMode ? min(policy.triesOnReusedMainMode, policy.tries) : policy.tries
        if quick.hint != nil || transmission.attempts >= tries {
            let failure = quick.hint ?? .timedOut
            removeQuickMode(id)
            let unknownThere = failure == .peerRefused(.invalidCookie)
            if quick.reusedMainMode || unknownThere, negotiations[quick.peer]?.restarted == false {
                // The peer may have lost the ISAKMP SA; silence is all it can answer with then.
                event(
                    .info, "main-mode.stale", "no answer under the main mode with \(mode.remote), beginning anew",
                    mode.addresses)
                removeMainMode(id.mainMode)
                restart(quick.peer, or: failure)
            } else {
                failNegotiation(quick.peer, failure)
            }
            return
        }
        transmission.repeated(policy, now)
        quick.transmission = transmission
        quickModeRecords[id] = quick
        counters.count(.retransmissionsSent)
        transmit(transmission.message, from: mode.local, to: mode.remote)
        schedule(quick)
    }

    mutating func removeQuickMode(_ id: QuickModeID) {
        guard let quick = quickModeRecords.removeValue(forKey: id) else { return }
        reservedSPIs.remove(quick.inboundSPI)
        timers.cancel(.quickMode(id))
        mainModeRecords[id.mainMode]?.quickModes.remove(id.messageID)
    }
}
