import NDCore
import NDWire

extension KeyingMachine {
    /// Both SAs go to the engine; sending waits for `confirm`.
    mutating func install(
        _ result: QuickModeResult, _ quick: QuickMode, _ association: ISAKMPAssociation, _ arrival: Arrival,
        started: Instant
    ) {
        reservedSPIs.remove(quick.inboundSPI)
        let encapsulation: ESPEncapsulation =
            association.udpEncapsulation == nil
            ? .native : .udp(localPort: arrival.local.port, remotePort: arrival.remote.port)
        let established = Established(
            peer: quick.peer, role: quick.role, mainModeSuite: association.suite,
            quickModeSuite: result.parameters.suite, pfsGroup: result.parameters.group,
            encapsulation: encapsulation, extendedSequenceNumbers: result.parameters.extendedSequenceNumbers,
            inboundSPI: result.inboundSPI, outboundSPI: result.outboundSPI,
            peerNegotiationDiscovery: association.traits.negotiationDiscovery,
            peerBoundary: result.peerBoundary, guaranteeEncryption: result.guaranteeEncryption,
            identity: association.identity, elapsed: now.since(started), lifetime: result.lifetime,
            lifetimeKilobytes: result.kilobytes)
        let client = association.client(at: quick.peer.remote)
        let pair = Pair(
            peer: quick.peer, role: quick.role, mainMode: quick.id.mainMode, quickMode: quick.id,
            result: result, encapsulation: encapsulation, established: established, created: now, client: client,
            confirmed: false, expires: now.advanced(by: configuration.limits.halfOpenTimeout))
        pairs[result.inboundSPI] = pair
        unconfirmedPairs += 1
        updatePeer(AddressPair(quick.peer)) { $0.pairs.append(result.inboundSPI) }
        timers.set(.pair(result.inboundSPI), pair.expires)
        func direction(
            _ direction: SecurityAssociation.Direction, _ spi: UInt32, _ keymat: SecretBytes
        ) -> SecurityAssociation {
            SecurityAssociation(
                direction: direction, spi: spi, peer: quick.peer, suite: result.parameters.suite,
                keymat: keymat, encapsulation: encapsulation,
                extendedSequenceNumbers: result.parameters.extendedSequenceNumbers,
                replayWindow: configuration.replayWindow, lifetime: result.lifetime,
                lifetimeKilobytes: result.kilobytes, sharesAddress: client != nil)
        }
        if let log = configuration.keyLog {
            log(
                .esp(
                    source: quick.peer.remote, destination: quick.peer.local, spi: result.inboundSPI,
                    suite: result.parameters.suite, keymat: result.inboundKeymat))
            log(
                .esp(
                    source: quick.peer.local, destination: quick.peer.remote, spi: result.outboundSPI,
                    suite: result.parameters.suite, keymat: result.outboundKeymat))
        }
        actions.append(
            .install(
                SecurityAssociationPair(
                    inbound: direction(.inbound, result.inboundSPI, result.inboundKeymat),
                    outbound: direction(.outbound, result.outboundSPI, result.outboundKeymat))))
    }

    /// What was agreed on for a pair that was made, whether it is in use yet or not.
    public func agreed(inboundSPI: UInt32) -> Established? { pairs[inboundSPI]?.established }

    /// The peer is known to have its inbound SA: sending begins.
    mutating func confirm(_ spi: UInt32) {
        guard var pair = pairs[spi] else { return }
        if !pair.confirmed { unconfirmedPairs -= 1 }
        pair.confirmed = true
        pair.expires = pair.created.advanced(by: pair.result.lifetime)
        pair.rekeyAt = pair.isRenewedByPeer ? nil : rekeyTime(pair)
        pairs[spi] = pair
        schedulePair(spi)
        let (replaced, isUsed) = succeed(spi)
        if var quick = quickModeRecords[pair.quickMode] {
            // The responder still answers a repeated message 1 or takes a late message 3.
            quick.transmission = nil
            quickModeRecords[quick.id] = quick
            timers.set(.quickMode(quick.id), now.advanced(by: configuration.limits.exchangeRetention))
        }
        counters.count(.quickModesEstablished)
        if isUsed { actions.append(.activateOutbound(peer: pair.peer, spi: pair.result.outboundSPI)) }
        var established = pair.established
        established.rekeyOf = replaced
        if pair.role == .responder {
            established.elapsed = Span(
                nanoseconds: established.elapsed.nanoseconds &+ now.since(pair.created).nanoseconds)
        }
        actions.append(.established(established))
        satisfyNegotiations(pair)
    }

    mutating func pairTimer(_ spi: UInt32) {
        guard let pair = pairs[spi] else { return }
        if now < pair.expires {
            if let at = pair.retireAt, at <= now { return retirePair(spi) }
            if let at = pair.rekeyAt, at <= now { return rekeyPair(spi) }
            return schedulePair(spi)
        }
        sendDelete(spi)
        removePair(spi, pair.confirmed ? .expired : .unconfirmed)
    }

    /// A peer whose deletes got lost must not lock itself out: its oldest pair makes room.
    mutating func limitPairs(_ addresses: AddressPair, _ client: AuthenticatedIdentity?) {
        let own = (peers[addresses]?.pairs ?? []).filter { pairs[$0]?.client == client }
        for spi in own.dropLast(configuration.limits.pairsPerPeer) {
            sendDelete(spi)
            removePair(spi, .superseded)
        }
    }

    mutating func removePair(_ spi: UInt32, _ reason: RemovalReason) {
        guard let pair = pairs.removeValue(forKey: spi) else { return }
        if !pair.confirmed { unconfirmedPairs -= 1 }
        timers.cancel(.pair(spi))
        updatePeer(AddressPair(pair.peer)) { $0.pairs.removeAll { $0 == spi } }
        removeQuickMode(pair.quickMode)
        restorePredecessors(of: spi, followedBy: pair.successor, AddressPair(pair.peer))
        counters.count(.pairsRemoved)
        actions.append(
            .remove(
                peer: pair.peer, inboundSPI: spi, outboundSPI: pair.result.outboundSPI, reason: reason))
    }

    /// Names the SPI that we receive on (RFC 2408 §3.15). Without an ISAKMP SA the peer is left to
    /// its own clock.
    mutating func sendDelete(_ spi: UInt32) {
        guard let pair = pairs[spi] else { return }
        let own = mainModeRecords[pair.mainMode].flatMap { $0.isUsable ? $0 : nil }
        guard let mode = own ?? usableMainMode(AddressPair(pair.peer), pair.client), let association = mode.association
        else { return }
        counters.count(.deletesSent)
        sendInformational(
            mode, association,
            [.delete(DeletePayload(protocolID: ProtocolID.esp, spiSize: 4, spis: [[UInt8](u32: spi)]))])
    }
}
