import COpenSSL
import NDCore

/// Diffie-Hellman groups by their IKE numbers (RFC 3526, RFC 5903).
public enum DHGroup: UInt16, Sendable, CaseIterable, CustomStringConvertible {
    case modp2048 = 14
    case ecp256 = 19
    case ecp384 = 20

    public var description: String {
        switch self {
        case .modp2048: "modp2048"
        case .ecp256: "ecp256"
        case .ecp384: "ecp384"
        }
    }

    /// Length of the KE payload's body: the modulus, or x|y (RFC 5903 §7).
    public var publicValueBytes: Int {
        switch self {
        case .modp2048: 256
        case .ecp256: 64
        case .ecp384: 96
        }
    }

    /// Length of g^xy: the modulus, or x alone (RFC 5903 §7 and erratum to RFC 4753).
    public var sharedSecretBytes: Int {
        switch self {
        case .modp2048: 256
        case .ecp256: 32
        case .ecp384: 48
        }
    }

    var isCurve: Bool { self != .modp2048 }
    var algorithm: String { isCurve ? "EC" : "DH" }

    /// OpenSSL's name of the group.
    var name: String {
        switch self {
        case .modp2048: "modp_2048"
        case .ecp256: "P-256"
        case .ecp384: "P-384"
        }
    }
}

/// One side's ephemeral key. The private half stays inside OpenSSL, which clears it when freed.
public final class DHKeyPair: @unchecked Sendable {
    public let group: DHGroup
    /// The KE payload's body.
    public let publicValue: [UInt8]
    private let key: OpaquePointer  // EVP_PKEY, immutable once made

    /// A fresh key from OpenSSL's random generator.
    public convenience init(_ group: DHGroup) throws(CryptoError) {
        guard let context = EVP_PKEY_CTX_new_from_name(nil, group.algorithm, nil) else {
            throw .take(.library)
        }
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        guard EVP_PKEY_keygen_init(context) == 1,
            EVP_PKEY_CTX_set_group_name(context, group.name) == 1,
            EVP_PKEY_generate(context, &key) == 1, let key
        else { throw .take(.library) }
        try self.init(group, owning: key)
    }

    /// From a known private key; published test vectors need it.
    public convenience init(
        _ group: DHGroup, privateKey: SecretBytes, publicValue: [UInt8]
    ) throws(CryptoError) {
        let key = try PublicValue.load(group, publicValue, privateKey: privateKey)
        try self.init(group, owning: key)
    }

    private init(_ group: DHGroup, owning key: OpaquePointer) throws(CryptoError) {
        do {
            publicValue = try PublicValue.encode(group, key)
        } catch {
            EVP_PKEY_free(key)
            throw error
        }
        self.group = group
        self.key = key
    }

    deinit { EVP_PKEY_free(key) }

    /// g^xy, left-padded to the group's size. The peer's value is validated first.
    public func sharedSecret(with peerValue: [UInt8]) throws(CryptoError) -> SecretBytes {
        try PublicValue.validate(group, peerValue)
        let peer = try PublicValue.load(group, peerValue, privateKey: nil)
        defer { EVP_PKEY_free(peer) }
        guard let context = EVP_PKEY_CTX_new_from_pkey(nil, key, nil) else { throw .take(.library) }
        defer { EVP_PKEY_CTX_free(context) }
        guard EVP_PKEY_derive_init(context) == 1 else { throw .take(.library) }
        if !group.isCurve {
            guard EVP_PKEY_CTX_set_dh_pad(context, 1) == 1 else { throw .take(.library) }
        }
        guard EVP_PKEY_derive_set_peer(context, peer) == 1 else { throw .take(.publicValueInvalid) }
        var length = group.sharedSecretBytes
        var secret = [UInt8](repeating: 0, count: length)
        defer { secret.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
        guard EVP_PKEY_derive(context, &secret, &length) == 1, length == secret.count else {
            throw .take(.publicValueInvalid)
        }
        return SecretBytes(secret)
    }
}

/// The wire form of public values and the checks on received ones.
enum PublicValue {
    /// RFC 2631 §2.1.5 and RFC 6989 §2: what a peer may not send.
    static func validate(_ group: DHGroup, _ value: [UInt8]) throws(CryptoError) {
        guard value.count == group.publicValueBytes else { throw .publicValueLength }
        guard !group.isCurve else { return }  // loading checks that the point is on the curve
        guard let prime = BN_get_rfc3526_prime_2048(nil), let y = BN_bin2bn(value, Int32(value.count), nil)
        else { throw .take(.library) }
        defer {
            BN_free(prime)
            BN_free(y)
        }
        // 1 < y < p-1
        guard BN_sub_word(prime, 1) == 1 else { throw .take(.library) }
        guard BN_is_zero(y) == 0, BN_is_one(y) == 0, BN_cmp(y, prime) < 0 else {
            throw .publicValueInvalid
        }
    }

    static func load(
        _ group: DHGroup, _ value: [UInt8], privateKey: SecretBytes?
    ) throws(CryptoError) -> OpaquePointer {
        guard value.count == group.publicValueBytes else { throw .publicValueLength }
        guard let builder = OSSL_PARAM_BLD_new() else { throw .take(.library) }
        defer { OSSL_PARAM_BLD_free(builder) }
        let y = BN_bin2bn(value, Int32(value.count), nil)
        let x = privateKey.flatMap { secret in
            secret.withUnsafeBytes {
                BN_bin2bn($0.bindMemory(to: UInt8.self).baseAddress, Int32($0.count), nil)
            }
        }
        defer {
            BN_free(y)
            BN_clear_free(x)
        }
        let point = [0x04] + value  // SEC 1 uncompressed
        // The builder keeps pointers until the parameters are made: they must live that long.
        let built = group.name.withCString { name in
            point.withUnsafeBufferPointer { point -> UnsafeMutablePointer<OSSL_PARAM>? in
                guard OSSL_PARAM_BLD_push_utf8_string(builder, ndc_param_group_name(), name, 0) == 1,
                    (group.isCurve
                        ? OSSL_PARAM_BLD_push_octet_string(
                            builder, ndc_param_public_key(), point.baseAddress, point.count)
                        : OSSL_PARAM_BLD_push_BN(builder, ndc_param_public_key(), y)) == 1,
                    x.map({ OSSL_PARAM_BLD_push_BN(builder, ndc_param_private_key(), $0) }) ?? 1 == 1
                else { return nil }
                return OSSL_PARAM_BLD_to_param(builder)
            }
        }
        guard let parameters = built else { throw .take(.library) }
        defer { OSSL_PARAM_free(parameters) }
        guard let context = EVP_PKEY_CTX_new_from_name(nil, group.algorithm, nil) else {
            throw .take(.library)
        }
        defer { EVP_PKEY_CTX_free(context) }
        var key: OpaquePointer?
        guard EVP_PKEY_fromdata_init(context) == 1 else { throw .take(.library) }
        let selection = x == nil ? ndc_selection_public_key() : ndc_selection_key_pair()
        guard EVP_PKEY_fromdata(context, &key, selection, parameters) == 1, let key else {
            throw .take(.publicValueInvalid)
        }
        return key
    }

    static func encode(_ group: DHGroup, _ key: OpaquePointer) throws(CryptoError) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: group.publicValueBytes)
        if group.isCurve {
            var point = [UInt8](repeating: 0, count: out.count + 1)
            var length = 0
            guard
                EVP_PKEY_get_octet_string_param(
                    key, ndc_param_public_key(), &point, point.count, &length) == 1,
                length == point.count, point.first == 0x04
            else { throw .take(.library) }
            return Array(point.dropFirst())
        }
        var y: OpaquePointer?
        guard EVP_PKEY_get_bn_param(key, ndc_param_public_key(), &y) == 1, let y else {
            throw .take(.library)
        }
        defer { BN_free(y) }
        guard BN_bn2binpad(y, &out, Int32(out.count)) == Int32(out.count) else { throw .take(.library) }
        return out
    }
}
