import NDCore
import NDCrypto
import NDWire

/// Responder cookies are computed, not stored: bound to both ends, the initiator's cookie, a secret
/// and a time slice ([MS-IKEE] §3.9). So a repeated message 1 finds its exchange, and a demanded
/// cookie is checked without state.
struct ResponderCookie: Sendable {
    static let slice: UInt64 = 150 * 1_000_000_000
    private let secret: SecretBytes

    init(random: any RandomSource) { secret = SecretBytes(random.bytes(32)) }

    /// Of the current and the previous slice, in this order.
    func candidates(
        initiatorCookie: UInt64, local: Endpoint, remote: Endpoint, now: Instant
    ) -> [UInt64] {
        let current = now.nanoseconds / Self.slice
        return (current == 0 ? [current] : [current, current - 1]).compactMap {
            cookie(initiatorCookie, local, remote, slice: $0)
        }
    }

    private func cookie(_ initiator: UInt64, _ local: Endpoint, _ remote: Endpoint, slice: UInt64) -> UInt64? {
        var text = [UInt8](u64: initiator)
        text += remote.address.mappedBytes
        text.append(u16: remote.port)
        text += local.address.mappedBytes
        text.append(u64: slice)
        guard let mac = try? HashAlgorithm.sha256.authenticator(secret, [.bytes(text)]) else { return nil }
        let value = mac.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return value == 0 ? 1 : value  // 0 means "no cookie yet" in the header
    }
}
