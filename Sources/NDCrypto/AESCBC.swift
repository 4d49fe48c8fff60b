import COpenSSL
import NDCore

/// AES in CBC mode without padding of its own: ISAKMP pads with zeros before it encrypts
/// (RFC 2409 appendix B), and every message's IV comes from the one before.
public struct AESCBC: Sendable {
    public static let blockBytes = 16
    private let key: SecretBytes

    /// 16, 24 or 32 bytes of key.
    public init(key: SecretBytes) throws(CryptoError) {
        guard [16, 24, 32].contains(key.count) else { throw .keyLength }
        self.key = key
    }

    public func encrypt(_ plaintext: [UInt8], iv: [UInt8]) throws(CryptoError) -> [UInt8] {
        try run(plaintext, iv: iv, encrypt: 1)
    }

    public func decrypt(_ ciphertext: [UInt8], iv: [UInt8]) throws(CryptoError) -> [UInt8] {
        try run(ciphertext, iv: iv, encrypt: 0)
    }

    private func run(_ input: [UInt8], iv: [UInt8], encrypt: Int32) throws(CryptoError) -> [UInt8] {
        guard !input.isEmpty, input.count % Self.blockBytes == 0, iv.count == Self.blockBytes,
            let length = Int32(exactly: input.count)
        else { throw .blockLength }
        let cipher =
            switch key.count {
            case 16: EVP_aes_128_cbc()
            case 24: EVP_aes_192_cbc()
            default: EVP_aes_256_cbc()
            }
        guard let context = EVP_CIPHER_CTX_new() else { throw .take(.library) }
        defer { EVP_CIPHER_CTX_free(context) }
        let ready = key.withUnsafeBytes {
            EVP_CipherInit_ex2(
                context, cipher, $0.bindMemory(to: UInt8.self).baseAddress, iv, encrypt, nil) == 1
        }
        guard ready, EVP_CIPHER_CTX_set_padding(context, 0) == 1 else { throw .take(.library) }
        var output = [UInt8](repeating: 0, count: input.count)
        var produced: Int32 = 0
        guard EVP_CipherUpdate(context, &output, &produced, input, length) == 1, produced == length else {
            throw .take(.library)
        }
        return output
    }
}
