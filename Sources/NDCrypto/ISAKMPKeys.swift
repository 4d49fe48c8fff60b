import COpenSSL
import NDCore

/// The keys of one ISAKMP SA and everything derived from them (RFC 2409 §5, §5.5, appendix B).
public struct ISAKMPKeys: Sendable {
    public let hash: HashAlgorithm
    public let skeyid: SecretBytes
    public let skeyidD: SecretBytes
    public let skeyidA: SecretBytes
    public let skeyidE: SecretBytes

    /// SKEYID = prf(psk, Ni_b | Nr_b); `cookies` is CKY-I | CKY-R.
    public init(
        hash: HashAlgorithm, preSharedKey: SecretBytes, initiatorNonce: [UInt8],
        responderNonce: [UInt8], sharedSecret: SecretBytes, cookies: [UInt8]
    ) throws(CryptoError) {
        try self.init(
            hash: hash,
            skeyid: hash.prf(preSharedKey, [.bytes(initiatorNonce), .bytes(responderNonce)]),
            sharedSecret: sharedSecret, cookies: cookies)
    }

    /// SKEYID = prf(Ni_b | Nr_b, g^xy): signatures and GSS-API.
    public init(
        hash: HashAlgorithm, signatureInitiatorNonce: [UInt8], responderNonce: [UInt8],
        sharedSecret: SecretBytes, cookies: [UInt8]
    ) throws(CryptoError) {
        try self.init(
            hash: hash,
            skeyid: hash.prf(SecretBytes(signatureInitiatorNonce + responderNonce), [.secret(sharedSecret)]),
            sharedSecret: sharedSecret, cookies: cookies)
    }

    private init(
        hash: HashAlgorithm, skeyid: SecretBytes, sharedSecret: SecretBytes, cookies: [UInt8]
    ) throws(CryptoError) {
        self.hash = hash
        self.skeyid = skeyid
        let tail: [MACInput] = [.secret(sharedSecret), .bytes(cookies)]
        skeyidD = try hash.prf(skeyid, tail + [.bytes([0])])
        skeyidA = try hash.prf(skeyid, [.secret(skeyidD)] + tail + [.bytes([1])])
        skeyidE = try hash.prf(skeyid, [.secret(skeyidA)] + tail + [.bytes([2])])
    }

    /// Ka, stretched when SKEYID_e is too short (RFC 2409 appendix B).
    public func encryptionKey(bytes count: Int) throws(CryptoError) -> SecretBytes {
        try Self.expand(hash: hash, skeyidE: skeyidE, bytes: count)
    }

    public static func expand(
        hash: HashAlgorithm, skeyidE: SecretBytes, bytes count: Int
    ) throws(CryptoError) -> SecretBytes {
        guard count > skeyidE.count else { return skeyidE.slice(0..<count) }
        var block = try hash.prf(skeyidE, [.bytes([0])])
        var all = [block]
        while all.count * hash.digestBytes < count {
            block = try hash.prf(skeyidE, [.secret(block)])
            all.append(block)
        }
        return SecretBytes.concatenating(all, count: count)
    }

    /// HASH_I or HASH_R: own and peer are the KE bodies, own cookie first (RFC 2409 §5).
    public func identityHash(
        ownPublic: [UInt8], peerPublic: [UInt8], ownCookie: [UInt8], peerCookie: [UInt8],
        initiatorSABody: [UInt8], ownIDBody: [UInt8]
    ) throws(CryptoError) -> [UInt8] {
        try hash.authenticator(
            skeyid,
            [
                .bytes(ownPublic), .bytes(peerPublic), .bytes(ownCookie), .bytes(peerCookie),
                .bytes(initiatorSABody), .bytes(ownIDBody),
            ])
    }

    /// KEYMAT of one direction (RFC 2409 §5.5); `spi` is the receiver's, `sharedSecret` that of
    /// the quick mode's own exchange when there was one.
    public func keymat(
        protocolID: UInt8, spi: [UInt8], initiatorNonce: [UInt8], responderNonce: [UInt8],
        sharedSecret: SecretBytes?, bytes count: Int
    ) throws(CryptoError) -> SecretBytes {
        let seed: [MACInput] =
            (sharedSecret.map { [.secret($0)] } ?? [])
            + [.bytes([protocolID]), .bytes(spi), .bytes(initiatorNonce), .bytes(responderNonce)]
        var all: [SecretBytes] = []
        while all.count * hash.digestBytes < count {
            all.append(try hash.prf(skeyidD, (all.last.map { [.secret($0)] } ?? []) + seed))
        }
        return SecretBytes.concatenating(all, count: count)
    }

    /// IV of the first encrypted phase-1 message: hash(g^xi | g^xr).
    public func mainModeIV(initiatorPublic: [UInt8], responderPublic: [UInt8]) throws(CryptoError) -> [UInt8] {
        Array(try hash.digest(initiatorPublic, responderPublic).prefix(AESCBC.blockBytes))
    }

    /// IV of a phase-2 exchange's first message: hash(last phase-1 block | message id).
    public func phaseTwoIV(lastMainModeBlock: [UInt8], messageID: [UInt8]) throws(CryptoError) -> [UInt8] {
        Array(try hash.digest(lastMainModeBlock, messageID).prefix(AESCBC.blockBytes))
    }
}

extension SecretBytes {
    /// The first `count` bytes of the parts in order, without a plain copy left behind.
    static func concatenating(_ parts: [SecretBytes], count: Int) -> SecretBytes {
        var all: [UInt8] = []
        all.reserveCapacity(parts.reduce(0) { $0 + $1.count })
        for part in parts { part.withUnsafeBytes { all.append(contentsOf: $0) } }
        let result = SecretBytes(all.prefix(count))
        all.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
        return result
    }
}
