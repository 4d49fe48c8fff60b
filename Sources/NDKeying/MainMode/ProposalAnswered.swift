import NDCore
import NDCrypto
import NDWire

/// Responder: message 2 is out, message 3 is awaited.
struct ProposalAnswered: MainModeReceiver {
    let agreed: AgreedProposal

    /// Judges message 1 and makes message 2.
    static func answer(
        _ message: ISAKMPMessage, responderCookie: UInt64, preSharedKey: SecretBytes,
        _ context: MainModeContext
    ) throws(Refusal) -> (ProposalAnswered, reply: [UInt8]) {
        let chain = try clearChain(message)
        try MessageShape(once: [.securityAssociation]).check(chain)
        guard let offer = chain.securityAssociation else { throw Refusal(.missingPayload) }
        let choice = try MainModeProposal.choose(offer, context.configuration)
        // Numbers the peer did not announce would be wasted on it.
        let peer = chain.vendorIDs
        let own = NATTraversal.offered(context.configuration, context.local.address)
        let natTraversal = own.filter(peer.contains)
        let agreed = AgreedProposal(
            cookies: CookiePair(initiator: message.header.initiatorCookie, responder: responderCookie),
            suite: choice.suite, lifetime: choice.lifetime,
            initiatorSABody: Payload.securityAssociation(offer).encodeBody(),
            traits: PeerTraits(peer, own: own), preSharedKey: preSharedKey)
        let reply = ISAKMPMessage(
            header: ISAKMPHeader(
                initiatorCookie: agreed.cookies.initiator, responderCookie: responderCookie,
                exchangeType: .mainMode),
            payloads: [.securityAssociation(choice.answer)]
                + (natTraversal + [.negotiationDiscovery]
                    + (context.configuration.deadPeerDetection.enabled ? [.deadPeerDetection] : []))
                .map { .vendorID($0.bytes) })
        return (ProposalAnswered(agreed: agreed), reply.encode())
    }

    func receive(_ message: ISAKMPMessage, _ context: MainModeContext) throws(Refusal) -> MainModeStep {
        let peer = try PeerKeyExchange(message, agreed, context)
        let key = try crypto { () throws(CryptoError) in try DHKeyPair(agreed.suite.group) }
        let nonce = context.random.bytes(32)
        let keys = try AgreedKeys(
            agreed, initiatorPublic: peer.publicValue, responderPublic: key.publicValue,
            initiatorNonce: peer.nonce, responderNonce: nonce,
            sharedSecret: crypto { () throws(CryptoError) in try key.sharedSecret(with: peer.publicValue) },
            nat: peer.nat)
        return MainModeStep(
            next: .state(.keyExchangeAnswered(KeyExchangeAnswered(agreed: keys))),
            reply: try keyExchangeMessage(agreed, key, nonce, context))
    }
}
