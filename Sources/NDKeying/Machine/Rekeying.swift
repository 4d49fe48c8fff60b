import NDCore
import NDWire

/// Make before break: a successor is negotiated while the old pair carries the traffic; sending moves
/// at once, the old inbound SA stays until traffic has moved. IKEv1 has no rekey exchange: a second
/// quick mode for the same peer is one, and whoever began it deletes the old pair.
///
/// Two quick modes that cross are ordered by the ranks of a simultaneous start. Where both come to be
/// all the same (a foreign peer, lost messages) both pairs are good. Which of them stays is told by their
/// SPIs, which both sides know: they send by that one, and the other's initiator deletes it when the
/// peer has ceased to send by it; only pairs without a successor are renewed. So their number does not grow, and never do
/// both go: an exchange that began after the other's pair was there is not concurrent with it, and two
/// exchanges can't each have begun after the other's end.
extension KeyingMachine {
    /// The operator or the engine wants new SAs with a peer. False when there is none to renew.
    @discardableResult
    mutating func beginRekey(_ peer: PeerKey) -> Bool {
        let clients = Set((peers[AddressPair(peer)]?.pairs ?? []).compactMap { pairs[$0]?.client })
        let own = ([nil] + clients.map { $0 }).compactMap { newestPair(peer, $0) }.filter { pairs[$0]?.isRenewedByPeer == false }
        for spi in own { rekeyPair(spi) }
        return !own.isEmpty
    }

    /// The pair that stands for this peer: of the confirmed ones the last that has no successor.
    func newestPair(_ peer: PeerKey, _ client: AuthenticatedIdentity?) -> UInt32? {
        (peers[AddressPair(peer)]?.pairs ?? []).last {
            pairs[$0]?.peer == peer && pairs[$0]?.client == client && pairs[$0]?.confirmed == true && pairs[$0]?.successor == nil
        }
    }

    mutating func rekeyPair(_ spi: UInt32) {
        guard var pair = pairs[spi], pair.confirmed, !pair.isRenewedByPeer else { return }
        guard newestPair(pair.peer, pair.client) == spi else {
            pair.rekeyAt = nil
            pairs[spi] = pair
            return schedulePair(spi)
        }
        pair.rekeyAt = now.advanced(by: configuration.rekey.retry)
        pairs[spi] = pair
        schedulePair(spi)
        guard negotiations[pair.peer] == nil else { return }
        counters.count(.rekeysStarted)
        event(.debug, "rekey.started", "new SAs with \(pair.peer.remote) before the old ones end", AddressPair(pair.peer))
        beginNegotiation(pair.peer, rekeyOf: spi)
    }

    /// A pair is good: those before it are its predecessors, but for a concurrent one that stays.
    mutating func succeed(_ spi: UInt32) -> (replaced: UInt32?, isUsed: Bool) {
        guard let pair = pairs[spi] else { return (nil, false) }
        var isUsed = true
        let began = quickModeRecords[pair.quickMode]?.started ?? pair.created
        var newest: UInt32?
        for other in peers[AddressPair(pair.peer)]?.pairs ?? [] where other != spi {
            guard let old = pairs[other], old.isAkin(to: pair), old.confirmed, old.successor == nil else { continue }
            newest = other
            if old.created < began {
                // The peer deletes what it replaced; what it forgets ends with its time.
                end(other, for: spi, ours: pair.role == .initiator)
            } else if old.rank < pair.rank {
                end(spi, for: other, ours: pair.role == .initiator)
                isUsed = false
            } else {
                end(other, for: spi, ours: old.role == .initiator)
            }
        }
        if newest != nil { counters.count(.rekeysCompleted) }
        return (newest, isUsed)
    }

    private mutating func end(_ spi: UInt32, for successor: UInt32, ours: Bool) {
        pairs[spi]?.successor = successor
        pairs[spi]?.rekeyAt = nil
        if ours { pairs[spi]?.retireAt = now.advanced(by: configuration.rekey.overlap) }
        schedulePair(spi)
    }

    /// Its successor went before it: the successor's takes its place, or it stands for its peer again.
    mutating func restorePredecessors(of gone: UInt32, followedBy next: UInt32?, _ addresses: AddressPair) {
        for spi in peers[addresses]?.pairs ?? [] where pairs[spi]?.successor == gone {
            guard var pair = pairs[spi] else { continue }
            if let next, pairs[next] != nil {
                pairs[spi]?.successor = next
                continue
            }
            pair.successor = nil
            pair.retireAt = nil
            pair.rekeyAt = max(now, rekeyTime(pair))
            pairs[spi] = pair
            schedulePair(spi)
            actions.append(.activateOutbound(peer: pair.peer, spi: pair.result.outboundSPI))
        }
    }

    func rekeyTime(_ pair: Pair) -> Instant {
        let lifetime = pair.expires.since(pair.created)
        let lead = configuration.rekey.lead(lifetime, pair.role, fraction: randomFraction())
        return Instant(nanoseconds: pair.expires.nanoseconds - min(lead.nanoseconds, lifetime.nanoseconds))
    }

    func randomFraction() -> Double {
        Double(random.bytes(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }) / 4_294_967_296
    }

    mutating func schedulePair(_ spi: UInt32) {
        guard let pair = pairs[spi] else { return }
        if let at = [pair.expires, pair.rekeyAt, pair.retireAt].compactMap({ $0 }).min() { timers.set(.pair(spi), at) }
    }

    /// Traffic has moved to the successor, or had time to.
    mutating func retirePair(_ spi: UInt32) {
        sendDelete(spi)
        removePair(spi, .rekeyed)
    }

    // MARK: What engines report

    mutating func limitReached(_ spi: UInt32, hard: Bool) {
        let inbound = pairs[spi] != nil ? spi : pairs.first { $0.value.result.outboundSPI == spi }?.key
        guard let inbound else { return }
        guard hard else { return rekeyPair(inbound) }
        sendDelete(inbound)
        removePair(inbound, .expired)
    }

    mutating func sample(_ sample: TrafficSample) {
        // Message 3 was lost, but the peer uses the pair.
        if pairs[sample.inboundSPI]?.confirmed == false, sample.inboundPackets > 0 { confirm(sample.inboundSPI) }
        guard var pair = pairs[sample.inboundSPI], pair.confirmed else { return }
        let before = pair.sample
        pair.sample = sample
        pairs[sample.inboundSPI] = pair
        if let kilobytes = pair.result.kilobytes {
            // Both directions have the limit (RFC 2407 §4.5).
            let bytes = max(sample.inboundBytes, sample.outboundBytes)
            let limit = kilobytes.multipliedReportingOverflow(by: 1024)
            if !limit.overflow, bytes >= limit.partialValue { return limitReached(sample.inboundSPI, hard: true) }
            if !limit.overflow, Double(bytes) >= Double(limit.partialValue) * configuration.rekey.kilobytes {
                rekeyPair(sample.inboundSPI)
            }
        }
        guard pair.retireAt != nil, let successor = pair.successor, let before else { return }
        if before.inboundPackets != sample.inboundPackets {
            // Still sent by: the peer has not moved, and what it sends must not go nowhere.
            pairs[sample.inboundSPI]?.retireAt = now.advanced(by: configuration.rekey.overlap)
            schedulePair(sample.inboundSPI)
        } else if pairs[successor]?.sample?.inboundPackets ?? 0 > 0 {
            retirePair(sample.inboundSPI)
        }
    }

    // MARK: Restart

    mutating func adoptPair(_ found: AdoptedPair) {
        guard pairs[found.inboundSPI] == nil, pairs.count < configuration.limits.pairs else { return }
        let created = Instant(nanoseconds: now.nanoseconds - min(found.age.nanoseconds, now.nanoseconds))
        let left = found.remaining ?? configuration.quickModeLifetime
        let result = QuickModeResult(
            adopted: QuickModeProposal.Parameters(
                suite: found.suite, extendedSequenceNumbers: found.extendedSequenceNumbers, group: nil),
            lifetime: left, inboundSPI: found.inboundSPI, outboundSPI: found.outboundSPI)
        let id = QuickModeID(mainMode: MainModeID(value: 0), messageID: 0)
        let established = Established(
            peer: found.peer, role: .initiator, mainModeSuite: configuration.mainModeSuites.first
                ?? MainModeSuite(keyBits: 256, hash: .sha256, group: .ecp256),
            quickModeSuite: found.suite, pfsGroup: nil, encapsulation: found.encapsulation,
            extendedSequenceNumbers: found.extendedSequenceNumbers, inboundSPI: found.inboundSPI,
            outboundSPI: found.outboundSPI, peerNegotiationDiscovery: false, peerBoundary: false,
            guaranteeEncryption: false,
            identity: AuthenticatedIdentity(name: .address(found.peer.remote), method: .preSharedKey),
            elapsed: Span(nanoseconds: 0), lifetime: left, lifetimeKilobytes: nil)
        var pair = Pair(
            peer: found.peer, role: .initiator, mainMode: id.mainMode, quickMode: id, result: result,
            encapsulation: found.encapsulation, established: established, created: created, confirmed: true,
            expires: now.advanced(by: left))
        // Soon, but not all peers at once; nothing is known of its pairing for sure.
        pair.rekeyAt = now.advanced(by: configuration.rekey.adoption.times(randomFraction()))
        pairs[found.inboundSPI] = pair
        updatePeer(AddressPair(found.peer)) { $0.pairs.append(found.inboundSPI) }
        schedulePair(found.inboundSPI)
    }
}
