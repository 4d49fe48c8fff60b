import NDCore
import NDKeying

/// Negotiates with itself before the first peer comes: what is broken in the cryptography shows at
/// start and not as a peer that stays clear, and the first connection does not pay for first use
/// (hundreds of milliseconds where the binary is read over a network file system).
enum KeyingSelfTest {
    private struct Secret: CredentialSource {
        let key: SecretBytes
        func preSharedKey(local: IPAddress, remote: IPAddress) -> SecretBytes? { key }
    }

    /// How long the negotiation took.
    @discardableResult
    static func run(_ template: KeyingConfiguration) throws -> Span {
        // TEST-NET-1 (RFC 5737); nothing leaves this function.
        let a = IPAddress(high: 0, low: 0xffff_c000_0201)
        let b = IPAddress(high: 0, low: 0xffff_c000_0202)
        var configuration = template
        configuration.keyLog = nil
        configuration.policy = EveryPeer()
        configuration.credentials = Secret(key: SecretBytes(SystemRandom().bytes(32)))
        var machines = [
            a: KeyingMachine(configuration: configuration, random: SystemRandom()),
            b: KeyingMachine(configuration: configuration, random: SystemRandom()),
        ]
        let began = Instant.now()
        var established: Set<IPAddress> = []
        var queue = machines[a]?.negotiate(PeerKey(local: a, remote: b), now: began) ?? []
        var failure: KeyingFailure?
        // Nine messages; anything near this bound is a loop.
        for _ in 0..<256 where !queue.isEmpty {
            switch queue.removeFirst() {
            case .send(let datagram, let from, let to):
                queue += machines[to.address]?.receive(datagram, local: to, remote: from, now: .now()) ?? []
            case .established(let result): established.insert(result.peer.local)
            case .failed(_, let reason): failure = reason
            default: break
            }
        }
        guard established == [a, b] else {
            throw NDError(
                "run.self-test", "a negotiation of the daemon with itself fails\(failure.map { ": \($0)" } ?? "")",
                hint: "main mode \(template.mainModeSuites.map { "\($0)" }.joined(separator: ", ")): does the installed OpenSSL know these algorithms?")
        }
        return Instant.now().since(began)
    }
}
