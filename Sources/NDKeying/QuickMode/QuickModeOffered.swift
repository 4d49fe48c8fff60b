import NDCore
import NDCrypto
import NDWire

/// Initiator: message 1 is out, message 2 is awaited.
struct QuickModeOffered: Sendable {
    let inboundSPI: UInt32
    let nonce: [UInt8]
    let key: DHKeyPair?
    let selectors: QuickModeSelectors
    /// Last block of message 1.
    let iv: [UInt8]

    static func start(
        _ context: QuickModeContext, inboundSPI: UInt32, selectors: QuickModeSelectors
    ) throws(Refusal) -> (QuickModeOffered, message: [UInt8]) {
        let association = context.association
        let nonce = context.random.bytes(32)
        let key = try crypto { () throws(CryptoError) in
            try context.configuration.pfsGroup.map { group throws(CryptoError) in try DHKeyPair(group) }
        }
        var payloads: [Payload] = [
            .securityAssociation(
                QuickModeProposal.offer(
                    context.configuration, to: association.traits, spi: inboundSPI,
                    udp: association.udpEncapsulation)),
            .nonce(nonce),
        ]
        if let key { payloads.append(.keyExchange(key.publicValue)) }
        payloads += selectors.payloads
        payloads += selectors.originalAddresses(association.udpEncapsulation)
        if let info = context.ownInfo.payload(
            to: association.traits, inboundSPI: inboundSPI, messageID: context.messageID)
        {
            payloads.append(info)
        }
        var iv = try association.firstIV(messageID: context.messageID)
        let message = try association.seal(
            payloads, seed: context.midBytes, exchange: .quickMode, messageID: context.messageID, iv: &iv)
        return (
            QuickModeOffered(inboundSPI: inboundSPI, nonce: nonce, key: key, selectors: selectors, iv: iv),
            message
        )
    }

    /// Judges message 2 and makes message 3.
    func receive(
        _ message: ISAKMPMessage, _ context: QuickModeContext
    ) throws(Refusal) -> (QuickModeResult, message: [UInt8]) {
        let association = context.association
        let opened = try association.open(message, iv: iv, limits: context.configuration.limits.wire)
        try association.verify(opened, seed: context.midBytes + nonce)
        let chain = opened.chain
        try MessageShape.quickModeProposal.check(chain)
        guard let answer = chain.securityAssociation else { throw Refusal(.missingPayload) }
        let peerNonce = try chain.checkedNonce()
        let choice = try QuickModeProposal.accept(
            answer, context.configuration, pfsGroup: key?.group, udp: association.udpEncapsulation)
        try selectors.check(chain, nat: association.nat)
        let result = try QuickModeResult(
            choice, configuration: context.configuration, association: association, inboundSPI: inboundSPI,
            initiatorNonce: nonce, responderNonce: peerNonce,
            sharedSecret: sharedSecret(key, chain.keyExchange), peerInfo: ExchangeInfo(chain),
            ownInfo: context.ownInfo)
        // HASH(3) = prf(SKEYID_a, 0 | M-ID | Ni_b | Nr_b)
        let hash = try association.authenticator([0] + context.midBytes + nonce + peerNonce)
        var iv = opened.nextIV
        let reply = try association.seal(
            [.hash(hash)], exchange: .quickMode, messageID: context.messageID, iv: &iv)
        return (result, reply)
    }
}

/// g(qm)^xy when the group attribute asked for it; a KE payload must be there exactly then.
func sharedSecret(_ own: DHKeyPair?, _ peerPublic: [UInt8]?) throws(Refusal) -> SecretBytes? {
    switch (own, peerPublic) {
    case (nil, nil): return nil
    case (let own?, let peer?):
        return try crypto { () throws(CryptoError) in try own.sharedSecret(with: peer) }
    case (nil, _?): throw Refusal(.unexpectedPayload, notify: .invalidKeyInformation)
    case (_?, nil): throw Refusal(.missingPayload, notify: .invalidKeyInformation)
    }
}
