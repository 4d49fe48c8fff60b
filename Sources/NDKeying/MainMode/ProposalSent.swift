import NDCore
import NDCrypto
import NDWire

/// Initiator: message 1 is out, message 2 is awaited.
struct ProposalSent: MainModeReceiver {
    let initiatorCookie: UInt64
    let offered: [MainModeSuite]
    let vendorIDs: [VendorID]
    let sa: SecurityAssociationPayload
    let preSharedKey: SecretBytes

    init(
        initiatorCookie: UInt64, configuration: KeyingConfiguration, local: IPAddress, initialContact: Bool,
        preSharedKey: SecretBytes
    ) {
        self.initiatorCookie = initiatorCookie
        self.preSharedKey = preSharedKey
        offered = configuration.mainModeSuites
        sa = MainModeProposal.offer(configuration)
        vendorIDs =
            NATTraversal.offered(configuration, local) + [.negotiationDiscovery]
            + (configuration.deadPeerDetection.enabled ? [.deadPeerDetection] : [])
            + (initialContact ? [.initialContact] : [])
    }

    /// Sent again unchanged but for the responder cookie when the peer demands one ([MS-IKEE] §3.9).
    func message(responderCookie: UInt64 = 0) -> [UInt8] {
        ISAKMPMessage(
            header: ISAKMPHeader(
                initiatorCookie: initiatorCookie, responderCookie: responderCookie, exchangeType: .mainMode),
            payloads: [.securityAssociation(sa)] + vendorIDs.map { .vendorID($0.bytes) }
        ).encode()
    }

    func receive(_ message: ISAKMPMessage, _ context: MainModeContext) throws(Refusal) -> MainModeStep {
        let chain = try clearChain(message)
        try MessageShape(once: [.securityAssociation]).check(chain)
        guard message.header.responderCookie != 0 else { throw Refusal(.badCookie) }
        guard let answer = chain.securityAssociation else { throw Refusal(.missingPayload) }
        let (suite, lifetime) = try MainModeProposal.accept(answer, offered: offered)
        let agreed = AgreedProposal(
            cookies: CookiePair(initiator: initiatorCookie, responder: message.header.responderCookie),
            suite: suite, lifetime: lifetime,
            initiatorSABody: Payload.securityAssociation(sa).encodeBody(),
            traits: PeerTraits(chain.vendorIDs, own: vendorIDs), preSharedKey: preSharedKey)
        let key = try crypto { () throws(CryptoError) in try DHKeyPair(suite.group) }
        let state = KeyExchangeSent(agreed: agreed, key: key, nonce: context.random.bytes(32))
        let reply = try state.message(context)
        return MainModeStep(next: .state(.keyExchangeSent(state)), reply: reply)
    }
}
