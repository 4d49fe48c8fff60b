import NDCore
import NDCrypto
import NDWire

/// Initiator: message 3 is out, message 4 is awaited.
struct KeyExchangeSent: MainModeReceiver {
    let agreed: AgreedProposal
    let key: DHKeyPair
    let nonce: [UInt8]

    func message(_ context: MainModeContext) throws(Refusal) -> [UInt8] {
        try keyExchangeMessage(agreed, key, nonce, context)
    }

    func receive(_ message: ISAKMPMessage, _ context: MainModeContext) throws(Refusal) -> MainModeStep {
        let peer = try PeerKeyExchange(message, agreed, context)
        let keys = try AgreedKeys(
            agreed, initiatorPublic: key.publicValue, responderPublic: peer.publicValue,
            initiatorNonce: nonce, responderNonce: peer.nonce,
            sharedSecret: crypto { () throws(CryptoError) in try key.sharedSecret(with: peer.publicValue) },
            nat: peer.nat)
        let id = IdentificationPayload(context.local.address)
        let hash = try keys.identityHash(initiator: true, idBody: id.encode())
        var payloads: [Payload] = [.identification(id), .hash(hash)]
        if !context.otherAssociations {
            payloads.append(
                .notification(
                    NotificationPayload(
                        protocolID: ProtocolID.isakmp, type: .initialContact, spi: agreed.cookies.bytes)))
        }
        let (sealed, lastBlock) = try keys.seal(payloads, iv: keys.firstIV())
        return MainModeStep(
            next: .state(.identitySent(IdentitySent(agreed: keys, iv: lastBlock))), reply: sealed,
            float: keys.nat.encapsulate)
    }
}

/// Messages 3 and 4 have the same form (RFC 2409 §5.4, RFC 3947 §3.2).
func keyExchangeMessage(
    _ agreed: AgreedProposal, _ key: DHKeyPair, _ nonce: [UInt8], _ context: MainModeContext
) throws(Refusal) -> [UInt8] {
    var payloads: [Payload] = [.keyExchange(key.publicValue), .nonce(nonce)]
    if let traversal = agreed.traits.natTraversal {
        payloads += try NATDiscovery.payloads(
            traversal, hash: agreed.suite.hash, cookies: agreed.cookies, local: context.local,
            remote: context.remote, force: context.configuration.forceUDPEncapsulation,
            random: context.random)
    }
    return ISAKMPMessage(
        header: ISAKMPHeader(
            initiatorCookie: agreed.cookies.initiator, responderCookie: agreed.cookies.responder,
            exchangeType: .mainMode),
        payloads: payloads
    ).encode()
}

/// The peer's half of messages 3 and 4.
struct PeerKeyExchange {
    var publicValue: [UInt8]
    var nonce: [UInt8]
    var nat: NATDiscovery

    init(
        _ message: ISAKMPMessage, _ agreed: AgreedProposal, _ context: MainModeContext
    ) throws(Refusal) {
        let chain = try clearChain(message)
        try MessageShape(once: [.keyExchange, .nonce], many: [.natDiscovery, .natDiscoveryDraft]).check(chain)
        guard let publicValue = chain.keyExchange else { throw Refusal(.missingPayload) }
        self.publicValue = publicValue
        nonce = try chain.checkedNonce()
        nat = NATDiscovery()
        if agreed.traits.natTraversal != nil {
            nat = try NATDiscovery(
                received: chain.natDiscoveries, hash: agreed.suite.hash, cookies: agreed.cookies,
                local: context.local, remote: context.remote,
                forced: context.configuration.forceUDPEncapsulation)
        }
    }
}
