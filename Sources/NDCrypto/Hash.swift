import COpenSSL
import NDCore

/// The hashes of IKEv1 phase 1 (Oakley attribute 2) and what is built on them.
public enum HashAlgorithm: String, Sendable, CaseIterable, CustomStringConvertible {
    case sha1, sha256, sha384, sha512

    public var digestBytes: Int {
        switch self {
        case .sha1: 20
        case .sha256: 32
        case .sha384: 48
        case .sha512: 64
        }
    }

    public var description: String { rawValue }

    var evp: OpaquePointer? {
        switch self {
        case .sha1: EVP_sha1()
        case .sha256: EVP_sha256()
        case .sha384: EVP_sha384()
        case .sha512: EVP_sha512()
        }
    }

    /// OpenSSL's name of the digest, for the HMAC parameter.
    var name: String {
        switch self {
        case .sha1: "SHA1"
        case .sha256: "SHA256"
        case .sha384: "SHA384"
        case .sha512: "SHA512"
        }
    }

    /// The digest of the concatenated parts.
    public func digest(_ parts: [UInt8]...) throws(CryptoError) -> [UInt8] {
        guard let context = EVP_MD_CTX_new() else { throw .take(.library) }
        defer { EVP_MD_CTX_free(context) }
        guard EVP_DigestInit_ex(context, evp, nil) == 1 else { throw .take(.library) }
        for part in parts {
            guard EVP_DigestUpdate(context, part, part.count) == 1 else { throw .take(.library) }
        }
        var out = [UInt8](repeating: 0, count: digestBytes)
        var length: UInt32 = 0
        guard EVP_DigestFinal_ex(context, &out, &length) == 1, Int(length) == out.count else {
            throw .take(.library)
        }
        return out
    }
}

/// True when both are equal, in time that depends on the lengths only.
public func constantTimeEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    a.count == b.count && CRYPTO_memcmp(a, b, a.count) == 0
}
