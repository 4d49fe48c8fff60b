import NDCore
import NDCrypto
import NDWire

/// The result of main mode: protects every later exchange with the peer.
struct ISAKMPAssociation: Sendable {
    let cookies: CookiePair
    let role: ExchangeRole
    let suite: MainModeSuite
    let lifetime: Lifetime
    let keys: ISAKMPKeys
    let encryptionKey: SecretBytes
    let traits: PeerTraits
    let nat: NATDiscovery
    let identity: AuthenticatedIdentity
    private let cipher: AESCBC
    /// Last block of message 6: seeds the IV of every phase-2 exchange.
    private let lastBlock: [UInt8]

    init(_ agreed: AgreedKeys, identity: AuthenticatedIdentity, role: ExchangeRole, lastBlock: [UInt8]) {
        cookies = agreed.proposal.cookies
        self.role = role
        suite = agreed.proposal.suite
        lifetime = agreed.proposal.lifetime
        keys = agreed.keys
        encryptionKey = agreed.encryptionKey
        traits = agreed.proposal.traits
        nat = agreed.nat
        self.identity = identity
        cipher = agreed.cipher
        self.lastBlock = lastBlock
    }

    /// ESP in UDP, when a NAT was found or claimed and both speak NAT traversal.
    var udpEncapsulation: NATTraversal? { nat.encapsulate ? traits.natTraversal : nil }

    /// Who this is of several behind one address; nil where the address says it.
    func client(at remote: IPAddress) -> AuthenticatedIdentity? {
        nat.remoteBehindNAT && identity.name != .address(remote) ? identity : nil
    }

    func firstIV(messageID: UInt32) throws(Refusal) -> [UInt8] {
        try crypto { () throws(CryptoError) in
            try keys.phaseTwoIV(lastMainModeBlock: lastBlock, messageID: [UInt8](u32: messageID))
        }
    }

    struct Opened {
        var chain: PayloadChain
        var hash: [UInt8]
        /// Everything behind the HASH payload, up to the padding: what HASH covers.
        var covered: [UInt8]
        /// The IV of the exchange's next message.
        var nextIV: [UInt8]
    }

    /// Decrypts and finds the HASH, which must come first; nothing is verified yet.
    func open(_ message: ISAKMPMessage, iv: [UInt8], limits: WireLimits) throws(Refusal) -> Opened {
        guard case .encrypted(let ciphertext) = message.content else { throw Refusal(.badFlags) }
        let plaintext = try crypto { () throws(CryptoError) in try cipher.decrypt(ciphertext, iv: iv) }
        let chain: PayloadChain
        do {
            chain = try PayloadChain.decode(first: message.header.nextPayload, plaintext, limits: limits)
        } catch {
            throw Refusal(malformed: error)
        }
        guard case .hash(let hash)? = chain.payloads.first?.body else { throw Refusal(.missingPayload) }
        let covered = plaintext.dropFirst(4 + hash.count).dropLast(chain.trailing.count)
        return Opened(
            chain: chain, hash: hash, covered: Array(covered),
            nextIV: Array(ciphertext.suffix(AESCBC.blockBytes)))
    }

    /// `prf(SKEYID_a, seed | covered)`; the seed begins with the message id.
    func verify(_ opened: Opened, seed: [UInt8]) throws(Refusal) {
        let expected = try authenticator(seed + opened.covered)
        guard constantTimeEqual(opened.hash, expected) else { throw Refusal(.hashMismatch) }
    }

    func authenticator(_ input: [UInt8]) throws(Refusal) -> [UInt8] {
        try crypto { () throws(CryptoError) in try keys.hash.authenticator(keys.skeyidA, [.bytes(input)]) }
    }

    /// HASH over seed and payloads, then encryption; `iv` advances.
    func seal(
        _ payloads: [Payload], seed: [UInt8], exchange: ExchangeType, messageID: UInt32, iv: inout [UInt8]
    ) throws(Refusal) -> [UInt8] {
        let hash = try authenticator(seed + PayloadChain(payloads).encode())
        return try seal([.hash(hash)] + payloads, exchange: exchange, messageID: messageID, iv: &iv)
    }

    func seal(
        _ payloads: [Payload], exchange: ExchangeType, messageID: UInt32, iv: inout [UInt8]
    ) throws(Refusal) -> [UInt8] {
        let plaintext = zeroPadded(PayloadChain(payloads).encode())
        let start = iv
        let sealed = try crypto { () throws(CryptoError) in try cipher.encrypt(plaintext, iv: start) }
        iv = Array(sealed.suffix(AESCBC.blockBytes))
        return ISAKMPMessage(
            header: ISAKMPHeader(
                initiatorCookie: cookies.initiator, responderCookie: cookies.responder,
                nextPayload: payloads.first?.type ?? .none, exchangeType: exchange, flags: .encryption,
                messageID: messageID),
            content: .encrypted(sealed)
        ).encode()
    }
}
