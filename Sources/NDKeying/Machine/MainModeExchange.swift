import NDCore
import NDCrypto
import NDWire

extension KeyingMachine {
    // MARK: Initiator

    /// nil when the limits or the credentials forbid it.
    mutating func startMainMode(_ peer: PeerKey) -> Result<MainModeID, KeyingFailureReason> {
        guard mainModeRecords.count < configuration.limits.mainModes else { return .failure(.init(.limit)) }
        guard let key = configuration.credentials.preSharedKey(local: peer.local, remote: peer.remote) else {
            return .failure(.init(.noCredential))
        }
        let addresses = AddressPair(peer)
        let cookie = fresh(UInt64.self) { ownInitiatorCookies.contains($0) }
        let state = ProposalSent(
            initiatorCookie: cookie, configuration: configuration, local: peer.local,
            initialContact: !hasAssociations(addresses, except: nil), preSharedKey: key)
        let message = state.message()
        let mode = MainMode(
            id: makeMainModeID(), role: .initiator, cookies: CookiePair(initiator: cookie, responder: 0),
            local: Endpoint(peer.local, configuration.isakmpPort),
            remote: Endpoint(peer.remote, configuration.isakmpPort), phase: .negotiating(.proposalSent(state)),
            started: now, transmission: Transmission(message, configuration.retransmission, now))
        mainModeRecords[mode.id] = mode
        byCookies[mode.cookies] = mode.id
        ownInitiatorCookies.insert(cookie)
        updatePeer(addresses) { $0.mainModes.append(mode.id) }
        counters.count(.mainModesInitiated)
        transmit(message, from: mode.local, to: mode.remote)
        schedule(mode)
        return .success(mode.id)
    }

    /// Authenticated state with this peer besides `id`.
    func hasAssociations(_ addresses: AddressPair, except id: MainModeID?) -> Bool {
        guard let index = peers[addresses] else { return false }
        return !index.pairs.isEmpty
            || index.mainModes.contains { $0 != id && mainModeRecords[$0]?.association != nil }
    }

    // MARK: Messages

    mutating func receiveMainMode(_ arrival: Arrival) {
        let header = arrival.message.header
        guard header.messageID == 0 else { return drop(.badMessageID) }
        if header.responderCookie == 0 {
            guard !ownInitiatorCookies.contains(header.initiatorCookie) else { return drop(.reflected) }
            return receiveFirstMessage(arrival, demanded: nil)
        }
        guard let mode = mainMode(for: arrival) else {
            // Message 1 again, now with the cookie we demanded.
            if case .clear = arrival.message.content, header.nextPayload == .securityAssociation {
                return receiveFirstMessage(arrival, demanded: header.responderCookie)
            }
            return drop(.unknownExchange)
        }
        guard mode.remote.address == arrival.remote.address, mode.local.address == arrival.local.address else {
            return drop(.addressMismatch)
        }
        if repeatAnswer(mode, arrival) { return }
        guard case .negotiating(let state) = mode.phase else { return drop(.unexpectedMessage) }
        advance(mode, state, arrival)
    }

    /// True when the request was seen before; a responder answers it as it did then.
    private mutating func repeatAnswer(_ mode: MainMode, _ arrival: Arrival) -> Bool {
        guard var answered = mode.answered, answered.digest == arrival.digest else { return false }
        counters.count(.retransmissionsReceived)
        guard mode.role == .responder, let reply = answered.reply else { return true }
        guard answered.repeats < configuration.limits.repliesPerRequest else {
            drop(.rateLimited)
            return true
        }
        answered.repeats += 1
        mainModeRecords[mode.id]?.answered = answered
        counters.count(.repliesRepeated)
        transmit(reply, from: arrival.local, to: arrival.remote)
        return true
    }

    private mutating func advance(_ old: MainMode, _ state: MainModeState, _ arrival: Arrival) {
        let context = MainModeContext(
            configuration: configuration, random: random, local: arrival.local, remote: arrival.remote,
            otherAssociations: hasAssociations(old.addresses, except: old.id))
        let step: MainModeStep
        do {
            step = try state.receive(arrival.message, context)
        } catch {
            count(error)
            if old.role == .initiator, let failure = error.failure {
                mainModeRecords[old.id]?.hint = failure
            } else if old.role == .responder, let notify = error.notify {
                hintError(notify, arrival)
            }
            return
        }
        var mode = old
        mode.hint = nil
        mode.answered = AnsweredRequest(digest: arrival.digest, reply: step.reply)
        // The peer may have moved to other ports (RFC 3947 §4); what it proved counts.
        mode.local = arrival.local
        mode.remote = arrival.remote
        if step.float, mode.local.port == configuration.isakmpPort {
            mode.local.port = configuration.natTraversalPort
            mode.remote.port = configuration.natTraversalPort
        }
        if mode.cookies.responder == 0 {
            byCookies[mode.cookies] = nil
            mode.cookies.responder = arrival.message.header.responderCookie
            byCookies[mode.cookies] = mode.id
        }
        if let reply = step.reply, mode.role == .initiator {
            mode.transmission = Transmission(reply, configuration.retransmission, now)
        }
        switch step.next {
        case .state(let next):
            mode.phase = .negotiating(next)
            if mode.role == .responder {
                mode.expires = now.advanced(by: configuration.limits.halfOpenTimeout)
            }
            mainModeRecords[mode.id] = mode
            if let reply = step.reply { transmit(reply, from: mode.local, to: mode.remote) }
            schedule(mode)
        case .established(let association):
            mode.phase = .established(association)
            mode.transmission = nil
            mode.established = now
            let lifetime = association.lifetime.span(own: configuration.mainModeLifetime)
            mode.expires = now.advanced(by: lifetime)
            let lead = configuration.rekey.lead(lifetime, mode.role, fraction: randomFraction())
            mode.rekeyAt = now.advanced(by: Span(nanoseconds: lifetime.nanoseconds - min(lead.nanoseconds, lifetime.nanoseconds)))
            mainModeRecords[mode.id] = mode
            mainModeEstablished(mode, association, step)
        }
    }

    private mutating func mainModeEstablished(
        _ mode: MainMode, _ association: ISAKMPAssociation, _ step: MainModeStep
    ) {
        if mode.role == .responder { releaseHalfOpen(mode.remote.address) }
        counters.count(.mainModesEstablished)
        configuration.keyLog?(
            .isakmp(
                initiatorCookie: [UInt8](u64: mode.cookies.initiator),
                encryptionKey: association.encryptionKey))
        if let reply = step.reply { transmit(reply, from: mode.local, to: mode.remote) }
        if step.initialContact { initialContact(mode, association.identity) }
        schedule(mode)
        event(
            .info, "main-mode.established",
            "main mode with \(mode.remote) established as \(mode.role.rawValue), \(association.suite), "
                + "identity \(association.identity)", mode.addresses)
        replaceMainModes(with: mode, association.identity)
        limitMainModes(mode.addresses, association.identity)
        continueNegotiations(after: mode)
    }

    // MARK: Responder

    /// Message 1, or message 1 repeated with the cookie that was demanded.
    private mutating func receiveFirstMessage(_ arrival: Arrival, demanded: UInt64?) {
        let header = arrival.message.header
        let candidates = responderCookie.candidates(
            initiatorCookie: header.initiatorCookie, local: arrival.local, remote: arrival.remote, now: now)
        for cookie in candidates {
            let pair = CookiePair(initiator: header.initiatorCookie, responder: cookie)
            guard let id = byCookies[pair], let mode = mainModeRecords[id] else { continue }
            if !repeatAnswer(mode, arrival) { drop(.unexpectedMessage) }
            return
        }
        guard let current = candidates.first else { return drop(.cryptography) }
        if let demanded, !candidates.contains(demanded) { return drop(.unknownExchange) }
        guard case .clear = arrival.message.content else { return drop(.badFlags) }
        let addresses = AddressPair(arrival.local, arrival.remote)
        if prefersOwnMainMode(to: header.initiatorCookie, addresses) { return drop(.collision) }
        guard admit(arrival, hasCookie: demanded != nil) else { return }
        guard configuration.policy.hasMainMode(local: arrival.local.address, remote: arrival.remote.address) else {
            drop(.noPolicy)
            return hintError(.noProposalChosen, arrival)
        }
        guard
            let key = configuration.credentials.preSharedKey(
                local: arrival.local.address, remote: arrival.remote.address)
        else {
            drop(.noCredential)
            return hintError(.noProposalChosen, arrival)
        }
        let context = MainModeContext(
            configuration: configuration, random: random, local: arrival.local, remote: arrival.remote,
            otherAssociations: false)
        let cookie = demanded ?? current
        do {
            let (state, reply) = try ProposalAnswered.answer(
                arrival.message, responderCookie: cookie, preSharedKey: key, context)
            let mode = MainMode(
                id: makeMainModeID(), role: .responder,
                cookies: CookiePair(initiator: header.initiatorCookie, responder: cookie),
                local: arrival.local, remote: arrival.remote, phase: .negotiating(.proposalAnswered(state)),
                started: now, expires: now.advanced(by: configuration.limits.halfOpenTimeout),
                answered: AnsweredRequest(digest: arrival.digest, reply: reply))
            mainModeRecords[mode.id] = mode
            byCookies[mode.cookies] = mode.id
            updatePeer(addresses) { $0.mainModes.append(mode.id) }
            halfOpen += 1
            halfOpenBySource[arrival.remote.address, default: 0] += 1
            counters.count(.mainModesAnswered)
            transmit(reply, from: mode.local, to: mode.remote)
            schedule(mode)
            yieldOwnMainMode(to: header.initiatorCookie, addresses)
        } catch {
            count(error)
            if let notify = error.notify { hintError(notify, arrival) }
        }
    }

    /// The bounds on half-open exchanges ([MS-IKEE] §3.9).
    private mutating func admit(_ arrival: Arrival, hasCookie: Bool) -> Bool {
        let limits = configuration.limits
        guard halfOpenBySource[arrival.remote.address, default: 0] < limits.halfOpenPerSource else {
            drop(.sourceLimit)
            return false
        }
        guard halfOpen < limits.halfOpenMaximum, mainModeRecords.count < limits.mainModes else {
            drop(.halfOpenLimit)
            return false
        }
        if halfOpen >= limits.halfOpenCookieThreshold { demandsCookies = true }
        guard demandsCookies, !hasCookie else { return true }
        guard cookieReplies.take(now) else {
            drop(.halfOpenLimit)
            return false
        }
        let cookie = responderCookie.candidates(
            initiatorCookie: arrival.message.header.initiatorCookie, local: arrival.local,
            remote: arrival.remote, now: now)
        if let cookie = cookie.first {
            counters.count(.cookieDemandsSent)
            sendUnprotected(
                NotificationPayload(
                    protocolID: ProtocolID.isakmp, type: .dosCookie, data: [UInt8](u64: cookie)), in: arrival)
        }
        return false
    }

    mutating func releaseHalfOpen(_ source: IPAddress) {
        halfOpen = max(0, halfOpen - 1)
        let left = halfOpenBySource[source, default: 0] - 1
        halfOpenBySource[source] = left > 0 ? left : nil
        if halfOpen < configuration.limits.halfOpenRelease { demandsCookies = false }
    }

    // MARK: Simultaneous start

    /// Both hosts sent a message 1: the exchange with the lower initiator cookie goes first, which
    /// both can tell. The other's message is left unanswered for one interval only, so that a lost
    /// message or a peer of another mind costs time and never the negotiation.
    private func prefersOwnMainMode(to peerCookie: UInt64, _ addresses: AddressPair) -> Bool {
        (peers[addresses]?.mainModes ?? []).contains {
            guard let own = mainModeRecords[$0], own.role == .initiator, own.isNegotiating else { return false }
            return own.cookies.initiator < peerCookie
                && now < own.started.advanced(by: configuration.retransmission.firstInterval)
        }
    }

    private mutating func yieldOwnMainMode(to peerCookie: UInt64, _ addresses: AddressPair) {
        for id in peers[addresses]?.mainModes ?? [] {
            guard let own = mainModeRecords[id], own.role == .initiator, own.isUnanswered,
                own.yieldedUntil == nil, peerCookie < own.cookies.initiator
            else { continue }
            counters.count(.collisions)
            mainModeRecords[id]?.yieldedUntil = now.advanced(
                by: configuration.retransmission.firstInterval.times(2))
        }
    }

    /// The peer's main mode is complete: ours, unless nearly done, is not needed any more.
    mutating func abandonOwnMainModes(besides kept: MainModeID, _ addresses: AddressPair) {
        for id in peers[addresses]?.mainModes ?? [] where id != kept {
            guard let own = mainModeRecords[id], own.role == .initiator,
                case .negotiating(let state) = own.phase
            else { continue }
            if case .identitySent = state { continue }
            removeMainMode(id)
        }
    }
}

struct KeyingFailureReason: Error {
    var reason: KeyingFailure
    init(_ reason: KeyingFailure) { self.reason = reason }
}
