import NDCore
import NDCrypto
import NDWire

@testable import NDKeying

/// splitmix64 behind the RandomSource protocol; single-threaded use only.
final class SeededRandom: RandomSource, @unchecked Sendable {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next() >> 32) } }
    func below(_ n: Int) -> Int { n <= 0 ? 0 : Int(next() % UInt64(n)) }
}

struct OneKey: CredentialSource {
    var key: String? = "nd-test-psk-0123456789"
    func preSharedKey(local: IPAddress, remote: IPAddress) -> SecretBytes? {
        key.map { SecretBytes(Array($0.utf8)) }
    }
}

func address(_ text: String) -> IPAddress {
    guard let address = IPAddress(text) else { fatalError("bad address \(text)") }
    return address
}

/// What the engine of a host would hold after the actions so far.
struct Engine {
    var pairs: [UInt32: SecurityAssociationPair] = [:]
    /// Outbound SPIs that may be used, the one in use last.
    var activated: [UInt32] = []
    var outbound: UInt32? { activated.last }

    mutating func apply(_ action: KeyingAction) {
        switch action {
        case .install(let pair): pairs[pair.inbound.spi] = pair
        case .activateOutbound(_, let spi): activated.append(spi)
        case .remove(_, let inbound, let out, _):
            pairs[inbound] = nil
            activated.removeAll { $0 == out }
        default: break
        }
    }
}

final class SimulatedHost {
    let address: IPAddress
    var machine: KeyingMachine
    var log: [KeyingAction] = []
    var engine = Engine()
    var sent: [(at: Instant, bytes: [UInt8], from: Endpoint, to: Endpoint)] = []

    init(_ text: String, seed: UInt64, _ adjust: (inout KeyingConfiguration) -> Void = { _ in }) {
        address = NDKeyingTests.address(text)
        var configuration = testConfiguration()
        adjust(&configuration)
        machine = KeyingMachine(configuration: configuration, random: SeededRandom(seed))
    }

    var established: [Established] { log.compactMap { if case .established(let e) = $0 { e } else { nil } } }
    var failures: [KeyingFailure] { log.compactMap { if case .failed(_, let r) = $0 { r } else { nil } } }
    var removals: [RemovalReason] {
        log.compactMap { if case .remove(_, _, _, let r) = $0 { r } else { nil } }
    }
    var installs: Int { log.count { if case .install = $0 { true } else { false } } }
    func peer(_ other: SimulatedHost) -> PeerKey { PeerKey(local: address, remote: other.address) }
}

extension RekeyPolicy {
    /// SAs end with their time.
    static var never: RekeyPolicy {
        var policy = RekeyPolicy()
        policy.margin = 0
        policy.leastMargin = Span(nanoseconds: 0)
        return policy
    }
}

func testConfiguration(key: String? = "nd-test-psk-0123456789") -> KeyingConfiguration {
    var configuration = KeyingConfiguration(credentials: OneKey(key: key))
    configuration.mainModeSuites = [MainModeSuite(keyBits: 128, hash: .sha256, group: .ecp256)]
    return configuration
}

/// A network of hosts under virtual time. `fate` sees every datagram in the order of sending.
final class SimulatedNetwork {
    enum Fate { case deliver, lose, duplicate, delay(Span), unreachable }
    struct Packet {
        var number: Int
        var at: Instant
        var bytes: [UInt8]
        var from: Endpoint
        var to: Endpoint
    }

    var now = Instant(nanoseconds: 1_000_000_000_000)
    let latency = Span.milliseconds(10)
    let hosts: [SimulatedHost]
    var fate: (Packet) -> Fate = { _ in .deliver }
    /// What a NAT on the path makes of a datagram.
    var translate: (Packet) -> Packet = { $0 }
    private(set) var sentCount = 0
    private(set) var flying: [Packet] = []

    init(_ hosts: SimulatedHost...) { self.hosts = hosts }

    func apply(_ host: SimulatedHost, _ actions: [KeyingAction]) {
        for action in actions {
            host.log.append(action)
            host.engine.apply(action)
            guard case .send(let bytes, let from, let to) = action else { continue }
            host.sent.append((now, bytes, from, to))
            var packet = Packet(number: sentCount, at: now.advanced(by: latency), bytes: bytes, from: from, to: to)
            sentCount += 1
            packet = translate(packet)
            switch fate(packet) {
            case .lose: break
            case .deliver: flying.append(packet)
            case .duplicate:
                flying.append(packet)
                packet.at = packet.at.advanced(by: .milliseconds(3))
                flying.append(packet)
            case .delay(let span):
                packet.at = packet.at.advanced(by: span)
                flying.append(packet)
            case .unreachable:
                apply(host, host.machine.unreachable(remote: to, local: from, now: now))
            }
        }
    }

    func negotiate(_ host: SimulatedHost, _ other: SimulatedHost) {
        apply(host, host.machine.negotiate(host.peer(other), now: now))
    }

    func deliver(_ packet: Packet) {
        for host in hosts where host.address == packet.to.address {
            apply(host, host.machine.receive(packet.bytes, local: packet.to, remote: packet.from, now: now))
        }
    }

    /// Removes and returns a flying packet, for tests that choose the order themselves.
    func take(_ index: Int) -> Packet { flying.remove(at: index) }

    /// Time passes and timers fire, but nothing arrives.
    func pause(_ span: Span) {
        now = now.advanced(by: span)
        for host in hosts { apply(host, host.machine.timerFired(now: now)) }
    }

    private var nextEvent: Instant? {
        (flying.map(\.at) + hosts.compactMap(\.machine.nextDeadline)).min()
    }

    func run(for span: Span) {
        let end = now.advanced(by: span)
        var steps = 0
        while let at = nextEvent, at <= end {
            steps += 1
            precondition(steps < 200_000, "the simulation does not come to rest")
            now = max(now, at)
            if let index = flying.indices.filter({ flying[$0].at <= now }).min(by: { flying[$0].at < flying[$1].at }) {
                deliver(flying.remove(at: index))
            } else {
                for host in hosts where (host.machine.nextDeadline ?? Instant(nanoseconds: .max)) <= now {
                    apply(host, host.machine.timerFired(now: now))
                }
            }
        }
        now = end
    }

    /// A data packet over the SA that the sender uses; false when it would not arrive.
    @discardableResult
    func sendData(_ from: SimulatedHost, _ to: SimulatedHost) -> Bool {
        guard let spi = from.engine.outbound, let receiver = to.engine.pairs[spi],
            let sender = from.engine.pairs.values.first(where: { $0.outbound.spi == spi }),
            sender.outbound.keymat.withUnsafeBytes({ Array($0) })
                == receiver.inbound.keymat.withUnsafeBytes({ Array($0) }),
            sender.outbound.suite == receiver.inbound.suite,
            sender.outbound.extendedSequenceNumbers == receiver.inbound.extendedSequenceNumbers
        else { return false }
        apply(to, to.machine.firstInboundPacket(spi: spi, now: now))
        return true
    }

    func bothWays(_ a: SimulatedHost, _ b: SimulatedHost) -> Bool { sendData(a, b) && sendData(b, a) }
}
