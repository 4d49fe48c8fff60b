import NDCrypto
import NDWire

/// A message that changes nothing: why, what to tell the peer (as a hint, rate-limited), and what
/// an initiator should conclude when nothing better comes in the current interval.
struct Refusal: Error {
    enum Cause {
        case dropped(DropReason)
        case malformed(WireError)
    }

    var cause: Cause
    var notify: NotifyType?
    var failure: KeyingFailure?

    init(_ reason: DropReason, notify: NotifyType? = nil, failure: KeyingFailure? = nil) {
        cause = .dropped(reason)
        self.notify = notify
        self.failure = failure
    }

    init(malformed error: WireError, notify: NotifyType? = nil, failure: KeyingFailure? = nil) {
        cause = .malformed(error)
        self.notify = notify
        self.failure = failure
    }

    init(_ error: CryptoError) {
        switch error {
        case .publicValueLength, .publicValueInvalid:
            self.init(.badKeyExchange, notify: .invalidKeyInformation, failure: .malformed)
        case .blockLength: self.init(.badCiphertext)
        case .library, .keyLength: self.init(.cryptography, failure: .cryptography)
        }
    }
}

/// Runs a cryptographic step inside a state.
func crypto<R>(_ body: () throws(CryptoError) -> R) throws(Refusal) -> R {
    do { return try body() } catch { throw Refusal(error) }
}
