import COpenSSL

/// Why a cryptographic operation gave no result. The raw value is stable and serves as a label.
public enum CryptoError: String, Error, Sendable, CaseIterable {
    /// OpenSSL refused an operation on well-formed input (no memory, provider missing).
    case library
    case keyLength
    /// Not a multiple of the cipher's block, or an IV of another size.
    case blockLength
    case publicValueLength
    /// 0, 1, p-1 or beyond for MODP; off the curve or infinity for ECP.
    case publicValueInvalid

    /// A failed call leaves entries in the thread's error queue; they must not be taken for those
    /// of a later call.
    static func take(_ error: CryptoError) -> CryptoError {
        ERR_clear_error()
        return error
    }
}
