import NDCore
import NDWire

/// Responder: message 4 is out, message 5 is awaited.
struct KeyExchangeAnswered: MainModeReceiver {
    let agreed: AgreedKeys

    func receive(_ message: ISAKMPMessage, _ context: MainModeContext) throws(Refusal) -> MainModeStep {
        let (chain, inboundBlock) = try agreed.open(
            message, iv: agreed.firstIV(), limits: context.configuration.limits.wire)
        let identity = try agreed.authenticate(chain, peerIsInitiator: true, remote: context.remote.address)
        let id = IdentificationPayload(context.local.address)
        let hash = try agreed.identityHash(initiator: false, idBody: id.encode())
        let (sealed, lastBlock) = try agreed.seal([.identification(id), .hash(hash)], iv: inboundBlock)
        return MainModeStep(
            next: .established(
                ISAKMPAssociation(agreed, identity: identity, role: .responder, lastBlock: lastBlock)),
            reply: sealed,
            initialContact: chain.notifications.contains { $0.type == .initialContact })
    }
}
