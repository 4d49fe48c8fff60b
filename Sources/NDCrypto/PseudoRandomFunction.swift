import COpenSSL
import NDCore

#if canImport(Glibc)
import Glibc
#endif

/// One piece of a MAC's input; secrets are fed without a copy.
public enum MACInput: Sendable {
    case bytes([UInt8])
    case secret(SecretBytes)
}

// Fetched once: a fetch walks the providers and takes locks. Immutable and reference counted.
private nonisolated(unsafe) let hmacMethod: OpaquePointer? = EVP_MAC_fetch(nil, "HMAC", nil)

extension HashAlgorithm {
    /// HMAC of the concatenated input (RFC 2104): the `prf` of RFC 2409 §3.2.
    public func prf(_ key: SecretBytes, _ input: [MACInput]) throws(CryptoError) -> SecretBytes {
        guard let method = hmacMethod, let context = EVP_MAC_CTX_new(method) else {
            throw .take(.library)
        }
        defer { EVP_MAC_CTX_free(context) }
        guard initialise(context, key) else { throw .take(.library) }
        for part in input {
            let ok: Bool =
                switch part {
                case .bytes(let bytes):
                    EVP_MAC_update(context, bytes, bytes.count) == 1
                case .secret(let secret):
                    secret.withUnsafeBytes {
                        EVP_MAC_update(context, $0.bindMemory(to: UInt8.self).baseAddress, $0.count) == 1
                    }
                }
            guard ok else { throw .take(.library) }
        }
        var out = [UInt8](repeating: 0, count: digestBytes)
        defer { out.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
        var length = 0
        guard EVP_MAC_final(context, &out, &length, out.count) == 1, length == out.count else {
            throw .take(.library)
        }
        return SecretBytes(out)
    }

    /// `prf` where the result travels in the clear or under encryption: HASH payloads.
    public func authenticator(_ key: SecretBytes, _ input: [MACInput]) throws(CryptoError) -> [UInt8] {
        try prf(key, input).withUnsafeBytes { Array($0) }
    }

    private func initialise(_ context: OpaquePointer, _ key: SecretBytes) -> Bool {
        key.withUnsafeBytes { bytes in
            var digest = Array(name.utf8CString)
            return digest.withUnsafeMutableBufferPointer { text in
                let parameters = [
                    OSSL_PARAM_construct_utf8_string(ndc_param_mac_digest(), text.baseAddress, 0),
                    OSSL_PARAM_construct_end(),
                ]
                return EVP_MAC_init(
                    context, bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, parameters) == 1
            }
        }
    }
}
