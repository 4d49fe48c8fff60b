import NDCore
import NDWire

/// Initiator: message 5 is out, message 6 is awaited.
struct IdentitySent: MainModeReceiver {
    let agreed: AgreedKeys
    /// Last block of message 5.
    let iv: [UInt8]

    func receive(_ message: ISAKMPMessage, _ context: MainModeContext) throws(Refusal) -> MainModeStep {
        let (chain, lastBlock) = try agreed.open(message, iv: iv, limits: context.configuration.limits.wire)
        let identity = try agreed.authenticate(
            chain, peerIsInitiator: false, remote: context.remote.address)
        return MainModeStep(
            next: .established(
                ISAKMPAssociation(agreed, identity: identity, role: .initiator, lastBlock: lastBlock)))
    }
}
