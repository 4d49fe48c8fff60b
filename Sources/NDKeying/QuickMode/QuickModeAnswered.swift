import NDCore
import NDCrypto
import NDWire

/// Responder: message 2 is out, message 3 (or the peer's first packet) is awaited.
struct QuickModeAnswered: Sendable {
    let inboundSPI: UInt32
    let initiatorNonce: [UInt8]
    let responderNonce: [UInt8]
    /// Last block of message 2.
    let iv: [UInt8]

    /// Judges an opened and verified message 1 and makes message 2.
    static func answer(
        _ opened: ISAKMPAssociation.Opened, _ context: QuickModeContext, inboundSPI: UInt32,
        selectors: QuickModeSelectors
    ) throws(Refusal) -> (QuickModeAnswered, QuickModeResult, reply: [UInt8]) {
        let association = context.association
        let chain = opened.chain
        try MessageShape.quickModeProposal.check(chain)
        guard let offer = chain.securityAssociation else { throw Refusal(.missingPayload) }
        let peerNonce = try chain.checkedNonce()
        try selectors.check(chain, nat: association.nat)
        let choice = try QuickModeProposal.choose(
            offer, context.configuration, udp: association.udpEncapsulation)
        let key = try crypto { () throws(CryptoError) in
            try choice.parameters.group.map { group throws(CryptoError) in try DHKeyPair(group) }
        }
        let nonce = context.random.bytes(32)
        let result = try QuickModeResult(
            choice, configuration: context.configuration, association: association, inboundSPI: inboundSPI,
            initiatorNonce: peerNonce, responderNonce: nonce,
            sharedSecret: sharedSecret(key, chain.keyExchange), peerInfo: ExchangeInfo(chain),
            ownInfo: context.ownInfo)
        var proposal = choice.proposal
        proposal.spi = [UInt8](u32: inboundSPI)
        var payloads: [Payload] = [
            .securityAssociation(SecurityAssociationPayload(proposals: [proposal])), .nonce(nonce),
        ]
        if let key { payloads.append(.keyExchange(key.publicValue)) }
        // Absent IDs are answered with absent ones.
        if !chain.identifications.isEmpty { payloads += chain.all(.identification) }
        payloads += selectors.originalAddresses(association.udpEncapsulation)
        // Only the boundary bit is specified towards the initiator ([MS-IKEE] §3.7.5.3).
        if let info = context.ownInfo.intersection(.boundary).payload(
            to: association.traits, inboundSPI: inboundSPI, messageID: context.messageID)
        {
            payloads.append(info)
        }
        var iv = opened.nextIV
        let reply = try association.seal(
            payloads, seed: context.midBytes + peerNonce, exchange: .quickMode, messageID: context.messageID,
            iv: &iv)
        return (
            QuickModeAnswered(
                inboundSPI: inboundSPI, initiatorNonce: peerNonce, responderNonce: nonce, iv: iv),
            result, reply
        )
    }

    /// Message 3 proves that the initiator lives and has the pair.
    func receive(_ message: ISAKMPMessage, _ context: QuickModeContext) throws(Refusal) {
        let opened = try context.association.open(
            message, iv: iv, limits: context.configuration.limits.wire)
        try MessageShape(once: [.hash]).check(opened.chain)
        let expected = try context.association.authenticator(
            [0] + context.midBytes + initiatorNonce + responderNonce)
        guard constantTimeEqual(opened.hash, expected) else { throw Refusal(.hashMismatch) }
    }
}
