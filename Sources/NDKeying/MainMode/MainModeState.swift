import NDCore
import NDCrypto
import NDWire

/// Main mode's states (RFC 2409 §5.4), each in its own file; a state holds what is known by then and
/// no more. Messages carry no number, so the state decides what one must be.
enum MainModeState: Sendable {
    case proposalSent(ProposalSent)
    case keyExchangeSent(KeyExchangeSent)
    case identitySent(IdentitySent)
    case proposalAnswered(ProposalAnswered)
    case keyExchangeAnswered(KeyExchangeAnswered)

    var name: String {
        switch self {
        case .proposalSent: "proposal-sent"
        case .keyExchangeSent: "key-exchange-sent"
        case .identitySent: "identity-sent"
        case .proposalAnswered: "proposal-answered"
        case .keyExchangeAnswered: "key-exchange-answered"
        }
    }

    private var receiver: any MainModeReceiver {
        switch self {
        case .proposalSent(let state): state
        case .keyExchangeSent(let state): state
        case .identitySent(let state): state
        case .proposalAnswered(let state): state
        case .keyExchangeAnswered(let state): state
        }
    }

    func receive(_ message: ISAKMPMessage, _ context: MainModeContext) throws(Refusal) -> MainModeStep {
        try receiver.receive(message, context)
    }
}

/// A state that accepts exactly one kind of message.
protocol MainModeReceiver: Sendable {
    func receive(_ message: ISAKMPMessage, _ context: MainModeContext) throws(Refusal) -> MainModeStep
}

/// The outside as a state may see it.
struct MainModeContext: Sendable {
    var configuration: KeyingConfiguration
    var random: any RandomSource
    /// Of the datagram under consideration.
    var local: Endpoint
    var remote: Endpoint
    /// False lets message 5 carry INITIAL-CONTACT.
    var otherAssociations: Bool
}

struct MainModeStep: Sendable {
    enum Next: Sendable {
        case state(MainModeState)
        case established(ISAKMPAssociation)
    }

    var next: Next
    /// Without non-ESP marker.
    var reply: [UInt8]?
    /// A NAT was found: the initiator moves to port 4500 (RFC 3947 §4).
    var float = false
    var initialContact = false
}

/// What both sides know from the SA payloads on.
struct AgreedProposal: Sendable {
    var cookies: CookiePair
    var suite: MainModeSuite
    var lifetime: Lifetime
    /// SAi_b of RFC 2409 §5.
    var initiatorSABody: [UInt8]
    var traits: PeerTraits
    var preSharedKey: SecretBytes
}

/// What both sides know once the KE and nonce payloads crossed.
struct AgreedKeys: Sendable {
    var proposal: AgreedProposal
    var initiatorPublic: [UInt8]
    var responderPublic: [UInt8]
    var keys: ISAKMPKeys
    var encryptionKey: SecretBytes
    var cipher: AESCBC
    var nat: NATDiscovery

    init(
        _ proposal: AgreedProposal, initiatorPublic: [UInt8], responderPublic: [UInt8],
        initiatorNonce: [UInt8], responderNonce: [UInt8], sharedSecret: SecretBytes, nat: NATDiscovery
    ) throws(Refusal) {
        self.proposal = proposal
        self.nat = nat
        self.initiatorPublic = initiatorPublic
        self.responderPublic = responderPublic
        let (keys, key, cipher) = try crypto { () throws(CryptoError) in
            let keys = try ISAKMPKeys(
                hash: proposal.suite.hash, preSharedKey: proposal.preSharedKey,
                initiatorNonce: initiatorNonce, responderNonce: responderNonce,
                sharedSecret: sharedSecret, cookies: proposal.cookies.bytes)
            let key = try keys.encryptionKey(bytes: proposal.suite.keyBits / 8)
            return (keys, key, try AESCBC(key: key))
        }
        self.keys = keys
        encryptionKey = key
        self.cipher = cipher
    }

    /// HASH_I or HASH_R over the sender's ID body.
    func identityHash(initiator: Bool, idBody: [UInt8]) throws(Refusal) -> [UInt8] {
        let i = [UInt8](u64: proposal.cookies.initiator)
        let r = [UInt8](u64: proposal.cookies.responder)
        return try crypto { () throws(CryptoError) in
            try keys.identityHash(
                ownPublic: initiator ? initiatorPublic : responderPublic,
                peerPublic: initiator ? responderPublic : initiatorPublic,
                ownCookie: initiator ? i : r, peerCookie: initiator ? r : i,
                initiatorSABody: proposal.initiatorSABody, ownIDBody: idBody)
        }
    }

    func firstIV() throws(Refusal) -> [UInt8] {
        try crypto { () throws(CryptoError) in
            try keys.mainModeIV(initiatorPublic: initiatorPublic, responderPublic: responderPublic)
        }
    }

    /// Messages 5 and 6: header, then ciphertext.
    func seal(_ payloads: [Payload], iv: [UInt8]) throws(Refusal) -> (message: [UInt8], lastBlock: [UInt8]) {
        let sealed = try crypto { () throws(CryptoError) in
            try cipher.encrypt(zeroPadded(PayloadChain(payloads).encode()), iv: iv)
        }
        let message = ISAKMPMessage(
            header: ISAKMPHeader(
                initiatorCookie: proposal.cookies.initiator, responderCookie: proposal.cookies.responder,
                nextPayload: payloads.first?.type ?? .none, exchangeType: .mainMode, flags: .encryption),
            content: .encrypted(sealed))
        return (message.encode(), Array(sealed.suffix(AESCBC.blockBytes)))
    }

    func open(
        _ message: ISAKMPMessage, iv: [UInt8], limits: WireLimits
    ) throws(Refusal) -> (chain: PayloadChain, lastBlock: [UInt8]) {
        guard case .encrypted(let ciphertext) = message.content else { throw Refusal(.badFlags) }
        let plaintext = try crypto { () throws(CryptoError) in try cipher.decrypt(ciphertext, iv: iv) }
        do {
            return (
                try PayloadChain.decode(first: message.header.nextPayload, plaintext, limits: limits),
                Array(ciphertext.suffix(AESCBC.blockBytes))
            )
        } catch {
            // With pre-shared keys a wrong key shows as garbage (RFC 2409 §5.4).
            throw Refusal(malformed: error, notify: .payloadMalformed, failure: .authenticationFailed)
        }
    }

    /// Checks the ID and HASH of messages 5 and 6.
    func authenticate(
        _ chain: PayloadChain, peerIsInitiator: Bool, remote: IPAddress
    ) throws(Refusal) -> AuthenticatedIdentity {
        try MessageShape(once: [.identification, .hash]).check(chain)
        guard let id = chain.identifications.first, let hash = chain.hash else { throw Refusal(.missingPayload) }
        let expected = try identityHash(initiator: peerIsInitiator, idBody: id.encode())
        guard constantTimeEqual(hash, expected) else {
            throw Refusal(.hashMismatch, notify: .authenticationFailed, failure: .authenticationFailed)
        }
        let name: AuthenticatedIdentity.Name
        switch id.type {
        case IdentificationPayload.ipv4Address, IdentificationPayload.ipv6Address:
            // The key was chosen by the outer address; an ID that contradicts it is a lie unless a
            // NAT rewrote the address.
            guard let address = id.address, address == remote || nat.remoteBehindNAT else {
                throw Refusal(.badIdentity, notify: .invalidIDInformation, failure: .authenticationFailed)
            }
            name = .address(address)
        case IdentificationPayload.fqdn: name = .fqdn(String(decoding: id.data, as: UTF8.self))
        case IdentificationPayload.userFQDN: name = .userFQDN(String(decoding: id.data, as: UTF8.self))
        default: name = .other(type: id.type, data: id.data)
        }
        return AuthenticatedIdentity(name: name, method: .preSharedKey)
    }
}

/// RFC 2409 appendix B: zeros up to the block, no length byte.
func zeroPadded(_ plaintext: [UInt8]) -> [UInt8] {
    let over = plaintext.count % AESCBC.blockBytes
    return over == 0 ? plaintext : plaintext + [UInt8](repeating: 0, count: AESCBC.blockBytes - over)
}

/// The payloads of an unencrypted main-mode message.
func clearChain(_ message: ISAKMPMessage) throws(Refusal) -> PayloadChain {
    guard case .clear(let chain) = message.content else { throw Refusal(.badFlags) }
    guard chain.trailing.isEmpty else { throw Refusal(.trailingBytes) }
    return chain
}
