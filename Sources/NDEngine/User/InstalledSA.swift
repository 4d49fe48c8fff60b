import CESP
import CNDABI
import NDCore
import Synchronization

extension nd_addr16 {
    init(_ address: IPAddress) {
        self.init()
        let bytes = address.mappedBytes
        withUnsafeMutableBytes(of: &self.bytes) { $0.copyBytes(from: bytes) }
    }

    var address: IPAddress {
        withUnsafeBytes(of: bytes) {
            IPAddress(
                high: UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        }
    }

    func equals(_ other: nd_addr16) -> Bool {
        withUnsafeBytes(of: bytes) { a in
            withUnsafeBytes(of: other.bytes) { b in
                a.loadUnaligned(as: UInt64.self) == b.loadUnaligned(as: UInt64.self)
                    && a.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                        == b.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
            }
        }
    }
}

/// Which AEAD implementation the engine uses where it can.
public enum AEADChoice: String, Sendable { case auto, openssl, ipsecMB = "ipsec-mb" }

/// Keyed cipher contexts of one SA, one for each worker: contexts have state, so none is shared.
final class CipherContexts: @unchecked Sendable {
    private let contexts: UnsafeMutableBufferPointer<OpaquePointer?>

    init(_ sa: SecurityAssociation, seal: Bool, library: nd_aead_library, workers: Int) throws {
        contexts = .allocate(capacity: workers)
        contexts.initialize(repeating: nil)
        // All is set from here on: what is thrown runs deinit.
        guard sa.keymat.count == sa.suite.keymatBytes else {
            throw NDError("engine.keymat", "\(sa.suite) needs \(sa.suite.keymatBytes) bytes of keying material")
        }
        let kind = sa.suite.isAEAD ? ND_AEAD_GCM : ND_AEAD_CBC_SHA256
        for index in 0..<workers {
            contexts[index] = sa.keymat.withUnsafeBytes {
                nd_aead_new(
                    kind, library, seal, $0.bindMemory(to: UInt8.self).baseAddress, UInt32(sa.suite.keyBits))
            }
            guard contexts[index] != nil else {
                throw NDError("engine.cipher", "the cryptographic library refuses \(sa.suite)")
            }
        }
    }

    deinit {
        for context in contexts { nd_aead_free(context) }
        contexts.deallocate()
    }

    func context(_ worker: Int) -> OpaquePointer? { contexts.indices.contains(worker) ? contexts[worker] : nil }
}

final class OutboundSA: Sendable {
    let sa: SecurityAssociation
    let contexts: CipherContexts
    let from: nd_addr16
    let to: nd_addr16
    let isIPv6: Bool
    let remotePort: UInt16
    let isNative: Bool
    let installedAt = Instant.now()
    /// The last number handed out.
    let sequence = Atomic<UInt64>(0)
    let packets = Atomic<UInt64>(0)
    let bytes = Atomic<UInt64>(0)
    /// That the end is near, and that it is there, is told once each.
    let warned = Atomic<Bool>(false)
    let ended = Atomic<Bool>(false)
    let active = Atomic<Bool>(false)
    /// RFC 4303 §3.3.3: the counter must not cycle.
    let lastSequence: UInt64

    init(_ sa: SecurityAssociation, library: nd_aead_library, workers: Int) throws {
        self.sa = sa
        contexts = try CipherContexts(sa, seal: true, library: library, workers: workers)
        from = nd_addr16(sa.peer.local)
        to = nd_addr16(sa.peer.remote)
        isIPv6 = !sa.peer.remote.isIPv4
        lastSequence = sa.extendedSequenceNumbers ? 1 << 63 : UInt64(UInt32.max)
        switch sa.encapsulation {
        case .native:
            isNative = true
            remotePort = 0
        case .udp(_, let port):
            isNative = false
            remotePort = port
        }
    }

    /// The first of `count` numbers; nil when they are used up.
    func reserve(_ count: Int) -> UInt64? {
        let (_, new) = sequence.add(UInt64(count), ordering: .relaxed)
        guard new <= lastSequence else {
            sequence.store(lastSequence, ordering: .relaxed)
            return nil
        }
        return new &- UInt64(count) &+ 1
    }
}

final class InboundSA: Sendable {
    let sa: SecurityAssociation
    let contexts: CipherContexts
    let from: nd_addr16
    let to: nd_addr16
    let remotePort: UInt16
    let window: Mutex<ReplayWindow>
    let installedAt = Instant.now()
    let packets = Atomic<UInt64>(0)
    let bytes = Atomic<UInt64>(0)
    let seen = Atomic<Bool>(false)

    init(_ sa: SecurityAssociation, library: nd_aead_library, workers: Int) throws {
        self.sa = sa
        contexts = try CipherContexts(sa, seal: false, library: library, workers: workers)
        from = nd_addr16(sa.peer.remote)
        to = nd_addr16(sa.peer.local)
        if case .udp(_, let port) = sa.encapsulation { remotePort = port } else { remotePort = 0 }
        window = Mutex(ReplayWindow(size: sa.replayWindow))
    }
}

/// All installed SAs. Workers look once per batch and keep what they found until the generation
/// changes.
final class SATable: Sendable {
    private struct Address: Hashable {
        var local: IPAddress
        var remote: IPAddress
    }

    private struct State {
        var inbound: [UInt32: InboundSA] = [:]
        var outbound: [UInt32: [OutboundSA]] = [:]
        var active: [Address: OutboundSA] = [:]
        /// Of addresses that several hosts may have: which SA leads to which of them.
        var clients: [Address: [UInt16: OutboundSA]] = [:]
    }

    private let state = Mutex(State())
    let generation = Atomic<UInt64>(1)
    let flows = ClientFlows()

    func install(inbound: InboundSA, outbound: OutboundSA) throws {
        try state.withLock {
            guard $0.inbound[inbound.sa.spi] == nil else {
                throw NDError("engine.spi", "an inbound SA with SPI \(inbound.sa.spi) is installed already")
            }
            // An outbound SPI is the peer's choice: two peers may choose the same. One may not: the same
            // keys installed again would start their sequence numbers, and so GCM's IVs, anew.
            guard $0.outbound[outbound.sa.spi]?.contains(where: { $0.sa.peer == outbound.sa.peer }) != true else {
                throw NDError("engine.spi", "an outbound SA with SPI \(outbound.sa.spi) is installed already")
            }
            $0.inbound[inbound.sa.spi] = inbound
            $0.outbound[outbound.sa.spi, default: []].append(outbound)
        }
        generation.add(1, ordering: .releasing)
    }

    func activate(_ peer: PeerKey, spi: UInt32) throws {
        try state.withLock {
            guard let found = $0.outbound[spi]?.first(where: { $0.sa.peer == peer }) else {
                throw NDError("engine.spi", "no outbound SA with SPI \(spi) for \(peer)")
            }
            found.active.store(true, ordering: .relaxed)
            let address = Address(local: peer.local, remote: peer.remote)
            $0.active[address] = found
            if found.sa.sharesAddress { $0.clients[address, default: [:]][found.remotePort] = found }
        }
        generation.add(1, ordering: .releasing)
    }

    func remove(_ peer: PeerKey, inbound: UInt32, outbound: UInt32) {
        state.withLock {
            if $0.inbound[inbound]?.sa.peer == peer { $0.inbound[inbound] = nil }
            $0.outbound[outbound]?.removeAll { $0.sa.peer == peer }
            if $0.outbound[outbound]?.isEmpty == true { $0.outbound[outbound] = nil }
            let address = Address(local: peer.local, remote: peer.remote)
            if let used = $0.active[address], used.sa.spi == outbound, used.sa.peer == peer {
                // A pair of a collision may still stand: use the youngest that was in use.
                $0.active[address] = $0.outbound.values.joined()
                    .filter { $0.sa.peer == peer && $0.active.load(ordering: .relaxed) }
                    .max { $0.installedAt < $1.installedAt }
            }
            if let (port, used) = $0.clients[address]?.first(where: { $0.value.sa.spi == outbound }), used.sa.peer == peer {
                $0.clients[address]?[port] = $0.outbound.values.joined()
                    .filter { $0.sa.peer == peer && $0.remotePort == port && $0.active.load(ordering: .relaxed) }
                    .max { $0.installedAt < $1.installedAt }
                if $0.clients[address]?.isEmpty == true { $0.clients[address] = nil }
            }
        }
        generation.add(1, ordering: .releasing)
    }

    func inbound(_ spi: UInt32) -> InboundSA? { state.withLock { $0.inbound[spi] } }

    func outbound(local: IPAddress, remote: IPAddress) -> OutboundSA? {
        state.withLock { $0.active[Address(local: local, remote: remote)] }
    }

    /// To one of the hosts behind an address; nil port: to the only one.
    func outbound(local: IPAddress, remote: IPAddress, port: UInt16?) -> OutboundSA? {
        state.withLock {
            guard let clients = $0.clients[Address(local: local, remote: remote)] else { return nil }
            if let port { return clients[port] }
            return clients.count == 1 ? clients.first?.value : nil
        }
    }

    func statuses() -> [SAStatus] {
        let (inbound, outbound, active) = state.withLock {
            (Array($0.inbound.values), Array($0.outbound.values.joined()), Array($0.active.values))
        }
        let ins = inbound.map {
            SAStatus(
                direction: .inbound, spi: $0.sa.spi, peer: $0.sa.peer, suite: $0.sa.suite,
                encapsulation: $0.sa.encapsulation, extendedSequenceNumbers: $0.sa.extendedSequenceNumbers,
                packets: $0.packets.load(ordering: .relaxed), bytes: $0.bytes.load(ordering: .relaxed),
                sequence: $0.window.withLock { $0.top }, installedAt: $0.installedAt, active: true)
        }
        let outs = outbound.map { sa in
            SAStatus(
                direction: .outbound, spi: sa.sa.spi, peer: sa.sa.peer, suite: sa.sa.suite,
                encapsulation: sa.sa.encapsulation, extendedSequenceNumbers: sa.sa.extendedSequenceNumbers,
                packets: sa.packets.load(ordering: .relaxed), bytes: sa.bytes.load(ordering: .relaxed),
                sequence: sa.sequence.load(ordering: .relaxed), installedAt: sa.installedAt,
                active: active.contains { $0 === sa })
        }
        return (ins + outs).sorted {
            ($0.peer.remote, $0.direction.rawValue, $0.spi) < ($1.peer.remote, $1.direction.rawValue, $1.spi)
        }
    }
}
