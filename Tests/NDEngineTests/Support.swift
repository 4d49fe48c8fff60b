import CESP
import CNDABI
import Foundation
import Glibc
import NDCore
import Synchronization

@testable import NDEngine

/// SplitMix64: the same numbers for the same seed on every machine.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}

/// ND_FUZZ_SEED repeats a run that failed.
func fuzzSeed(_ test: String) -> UInt64 {
    let seed = ProcessInfo.processInfo.environment["ND_FUZZ_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 1 ... .max)
    print("\(test): ND_FUZZ_SEED=\(seed)")
    return seed
}

func hex(_ text: String) -> [UInt8] {
    var out: [UInt8] = []
    var high: UInt8?
    for c in text.utf8 where c != 0x20 {
        let digit = c >= 0x61 ? c - 0x61 + 10 : c - 0x30
        if let h = high { out.append(h << 4 | digit); high = nil } else { high = digit }
    }
    return out
}

func be(_ bytes: some Collection<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
func big16(_ value: Int) -> [UInt8] { [UInt8(truncatingIfNeeded: value >> 8), UInt8(truncatingIfNeeded: value)] }
func big32(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt32($0))) } }

/// RFC 1071, the plain way: big-endian words one after another.
func referenceSum(_ bytes: [UInt8]) -> UInt16 {
    var sum = 0
    var at = 0
    while at < bytes.count {
        sum += Int(bytes[at]) << 8 | (at + 1 < bytes.count ? Int(bytes[at + 1]) : 0)
        at += 2
    }
    while sum > 0xffff { sum = (sum & 0xffff) + (sum >> 16) }
    return UInt16(sum)
}

func pseudoHeader(_ from: IPAddress, _ to: IPAddress, proto: UInt8, length: Int) -> [UInt8] {
    from.bytes + to.bytes + [0, 0] + big16(length) + [0, proto]
}

/// What must be in the checksum field for this transport payload; the field itself is taken as 0.
func referenceChecksum(_ payload: [UInt8], field: Int, from: IPAddress, to: IPAddress, proto: UInt8) -> UInt16 {
    var zeroed = payload
    zeroed[field] = 0
    zeroed[field + 1] = 0
    let sum = ~referenceSum(pseudoHeader(from, to, proto: proto, length: payload.count) + zeroed)
    return proto == 17 && sum == 0 ? 0xffff : sum
}

// MARK: packets

struct TCPSegment {
    var source: UInt16 = 40_000
    var destination: UInt16 = 443
    var sequence: UInt32 = 1_000_000
    var acknowledgement: UInt32 = 77
    var reserved: UInt8 = 0
    var flags: UInt8 = 0x10
    var window: UInt16 = 512
    var options: [UInt8] = []
    var data: [UInt8] = []

    /// The checksum field is left 0.
    var bytes: [UInt8] {
        big16(Int(source)) + big16(Int(destination)) + big32(sequence) + big32(acknowledgement)
            + [UInt8((20 + options.count) / 4) << 4 | reserved, flags] + big16(Int(window)) + [0, 0, 0, 0] + options + data
    }
}

func udpBytes(source: UInt16 = 5000, destination: UInt16 = 53, _ data: [UInt8]) -> [UInt8] {
    big16(Int(source)) + big16(Int(destination)) + big16(8 + data.count) + [0, 0] + data
}

func ipPacket(_ from: IPAddress, _ to: IPAddress, proto: UInt8, _ payload: [UInt8]) -> [UInt8] {
    if from.isIPv4 {
        return [0x45, 0] + big16(20 + payload.count) + [0, 0, 0x40, 0, 64, proto, 0, 0] + from.bytes + to.bytes + payload
    }
    return [0x60, 0, 0, 0] + big16(payload.count) + [proto, 64] + from.bytes + to.bytes + payload
}

/// A TUN read as the kernel makes it: the checksum field holds the pseudo header's sum.
func tunRead(
    _ from: IPAddress, _ to: IPAddress, proto: UInt8, _ payload: [UInt8],
    segmentation: VirtioHeader.Segmentation = .none, size: Int = 0, partial: Bool = true
) -> [UInt8] {
    var payload = payload
    let field = proto == 6 ? 16 : 6
    let ip = from.isIPv4 ? 20 : 40
    if partial {
        let sum = referenceSum(pseudoHeader(from, to, proto: proto, length: payload.count))
        payload.replaceSubrange(field..<(field + 2), with: big16(Int(sum)))
    }
    var header = [UInt8](repeating: 0, count: 10)
    var vnet = VirtioHeader()
    vnet.flags = partial ? 1 : 0
    vnet.segmentation = segmentation.rawValue
    vnet.segmentSize = UInt16(size)
    vnet.checksumStart = partial ? UInt16(ip) : 0
    vnet.checksumOffset = partial ? UInt16(field) : 0
    header.withUnsafeMutableBytes { vnet.write(to: $0.baseAddress!) }
    return header + ipPacket(from, to, proto: proto, payload)
}

// MARK: security associations

let allSuites: [ESPSuite] = [
    .aesGCM16(keyBits: 128), .aesGCM16(keyBits: 192), .aesGCM16(keyBits: 256), .aesCBCHMACSHA256(keyBits: 128),
    .aesCBCHMACSHA256(keyBits: 192), .aesCBCHMACSHA256(keyBits: 256),
]

let alice4 = IPAddress("127.0.0.1")!
let bob4 = IPAddress("127.0.0.2")!
let loopback6 = IPAddress("::1")!

func testSA(
    _ direction: SecurityAssociation.Direction, suite: ESPSuite = .aesGCM16(keyBits: 128), spi: UInt32 = 0x1234_5678,
    local: IPAddress = alice4, remote: IPAddress = bob4, esn: Bool = false, native: Bool = false, window: Int = 4096
) -> SecurityAssociation {
    SecurityAssociation(
        direction: direction, spi: spi, peer: PeerKey(local: local, remote: remote), suite: suite,
        keymat: SecretBytes((0..<suite.keymatBytes).map { UInt8(truncatingIfNeeded: 7 &* $0 &+ 3) }),
        encapsulation: native ? .native : .udp(localPort: Net.enginePort, remotePort: Net.peerPort),
        extendedSequenceNumbers: esn, replayWindow: window)
}

var bestLibrary: nd_aead_library { nd_ipsec_mb_usable() ? ND_AEAD_IPSEC_MB : ND_AEAD_OPENSSL }

/// One opened ESP packet.
struct Opened: Equatable {
    var spi: UInt32
    var sequence: UInt32
    var iv: [UInt8]
    var proto: UInt8
    var payload: [UInt8]
    var paddingIsCounted: Bool
}

/// Opens a packet by OpenSSL, one at a time, apart from InboundPath.
final class Opener {
    private let suite: ESPSuite
    private let context: OpaquePointer

    init(_ suite: ESPSuite) {
        self.suite = suite
        let keymat = (0..<suite.keymatBytes).map { UInt8(truncatingIfNeeded: 7 &* $0 &+ 3) }
        context = nd_aead_new(
            suite.isAEAD ? ND_AEAD_GCM : ND_AEAD_CBC_SHA256, ND_AEAD_OPENSSL, false, keymat, UInt32(suite.keyBits))!
    }

    deinit { nd_aead_free(context) }

    func open(_ packet: [UInt8], high: UInt32? = nil) -> Opened? {
        var bytes = packet
        let cipher = bytes.count - 8 - suite.ivBytes - 16
        guard cipher >= suite.blockBytes, cipher % suite.blockBytes == 0 else { return nil }
        var op = nd_esp_op()
        let number = UInt64(high ?? 0) << 32 | be(bytes[4..<8])
        OutboundPath.setAAD(&op, spi: UInt32(be(bytes[0..<4])), number: number, extended: high != nil)
        bytes.withUnsafeMutableBytes { raw in
            let p = raw.baseAddress!.assumingMemoryBound(to: UInt8.self)
            op.iv = p + 8
            op.data = p + 8 + suite.ivBytes
            op.icv = p + 8 + suite.ivBytes + cipher
            op.length = UInt32(cipher)
            nd_aead_open(context, &op, 1)
        }
        guard op.ok else { return nil }
        let plain = Array(bytes[(8 + suite.ivBytes)..<(8 + suite.ivBytes + cipher)])
        let pad = Int(plain[cipher - 2])
        guard pad <= cipher - 2 else { return nil }
        let padding = Array(plain[(cipher - 2 - pad)..<(cipher - 2)])
        return Opened(
            spi: UInt32(be(packet[0..<4])), sequence: UInt32(be(packet[4..<8])),
            iv: Array(packet[8..<(8 + suite.ivBytes)]), proto: plain[cipher - 1],
            payload: Array(plain[0..<(cipher - 2 - pad)]),
            paddingIsCounted: padding == (0..<pad).map { UInt8($0 + 1) })
    }
}

/// Seals one payload the way a peer would: by OpenSSL, apart from OutboundPath.
final class Sealer {
    private let sa: SecurityAssociation
    private let context: OpaquePointer

    init(_ sa: SecurityAssociation) {
        self.sa = sa
        context = sa.keymat.withUnsafeBytes {
            nd_aead_new(
                sa.suite.isAEAD ? ND_AEAD_GCM : ND_AEAD_CBC_SHA256, ND_AEAD_OPENSSL, true,
                $0.bindMemory(to: UInt8.self).baseAddress, UInt32(sa.suite.keyBits))
        }!
    }

    deinit { nd_aead_free(context) }

    func seal(_ payload: [UInt8], proto: UInt8, number: UInt64, padLength: UInt8? = nil) -> [UInt8] {
        let suite = sa.suite
        let block = suite.blockBytes
        let padded = (payload.count + 2 + block - 1) / block * block
        let pad = padded - payload.count - 2
        var bytes = big32(sa.spi) + big32(UInt32(truncatingIfNeeded: number))
        bytes += suite.isAEAD ? big32(UInt32(number >> 32)) + big32(UInt32(truncatingIfNeeded: number)) : [UInt8](repeating: 0, count: 16)
        bytes += payload + (0..<pad).map { UInt8($0 + 1) } + [padLength ?? UInt8(pad), proto]
        bytes += [UInt8](repeating: 0, count: 16)
        var op = nd_esp_op()
        OutboundPath.setAAD(&op, spi: sa.spi, number: number, extended: sa.extendedSequenceNumbers)
        bytes.withUnsafeMutableBytes { raw in
            let p = raw.baseAddress!.assumingMemoryBound(to: UInt8.self)
            op.iv = p + 8
            op.data = p + 8 + suite.ivBytes
            op.icv = p + 8 + suite.ivBytes + padded
            op.length = UInt32(padded)
            nd_aead_seal(context, &op, 1)
        }
        precondition(op.ok)
        return bytes
    }
}

// MARK: the two paths with their ends in the test's hands

final class RecordedEvents: EngineEvents {
    struct State {
        var first: [UInt32] = []
        var ike: [[UInt8]] = []
        var exhausted = 0
        var soft: [UInt32] = []
        var expired: [UInt32] = []
        var acquired: [PeerKey] = []
        var fragments: [PeerKey] = []
        var log: [String] = []
    }
    let state = Mutex(State())

    func firstInboundPacket(spi: UInt32, peer: PeerKey) { state.withLock { $0.first.append(spi) } }
    func ikeDatagram(_ bytes: [UInt8], local: Endpoint, remote: Endpoint) { state.withLock { $0.ike.append(bytes) } }
    func sequenceExhausted(spi: UInt32, peer: PeerKey) { state.withLock { $0.exhausted += 1 } }
    func softExpired(spi: UInt32, peer: PeerKey) { state.withLock { $0.soft.append(spi) } }
    func expired(spi: UInt32, peer: PeerKey) { state.withLock { $0.expired.append(spi) } }
    func acquire(_ peer: PeerKey) { state.withLock { $0.acquired.append(peer) } }
    func fragmentsWait(_ peer: PeerKey) { state.withLock { $0.fragments.append(peer) } }
    func engineLog(_ text: String) { state.withLock { $0.log.append(text) } }
}

extension WorkerCounters {
    var sums: EngineStatistics {
        var sum = EngineStatistics()
        add(to: &sum)
        return sum
    }

    func dropped(_ reason: nd_drop_reason) -> Int { Int(sums.drops[Int(reason.rawValue)]) }
}

/// An InboundPath whose TUN is a socket pair that keeps the borders of writes.
final class Inbound {
    let table = SATable()
    let counters = WorkerCounters()
    let events = RecordedEvents()
    let path: InboundPath
    let sa: InboundSA
    /// Where a coalescer of the test itself may write.
    var tunEnd: Int32 { ends[0] }
    private let ends: [Int32]

    init(_ association: SecurityAssociation, library: nd_aead_library = bestLibrary) throws {
        var pair: [Int32] = [0, 0]
        precondition(socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0, &pair) == 0)
        var size: Int32 = 8 << 20
        for fd in pair {
            setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, 4)
            _ = fcntl(fd, F_SETFL, O_NONBLOCK)
        }
        ends = pair
        path = InboundPath(
            worker: 0, table: table, counters: counters, events: events,
            coalescer: Coalescer(tun: pair[0], counters: counters))
        sa = try InboundSA(association, library: library, workers: 1)
        var back = association
        back.direction = .outbound
        try table.install(inbound: sa, outbound: OutboundSA(back, library: library, workers: 1))
    }

    deinit { for fd in ends { close(fd) } }

    /// Feeds one datagram, or a UDP_GRO bundle; the buffer is spoiled afterwards as a next read would.
    func receive(_ bytes: [UInt8], segment: Int = 0, from: nd_addr16? = nil) {
        let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: max(bytes.count, 1), alignment: 64)
        defer { raw.deallocate() }
        raw.copyBytes(from: bytes)
        path.handleUDP(
            raw.baseAddress!, size: bytes.count, segment: segment, from: from ?? sa.from, port: Net.peerPort, to: sa.to,
            localPort: Net.enginePort)
        raw.initializeMemory(as: UInt8.self, repeating: 0xee)
    }

    /// Everything written to the TUN since the last call.
    func written() -> [[UInt8]] {
        var all: [[UInt8]] = []
        var buffer = [UInt8](repeating: 0, count: 70_000)
        while true {
            let n = recv(ends[1], &buffer, buffer.count, 0)
            if n < 0 { return all }
            all.append(Array(buffer[0..<n]))
        }
    }
}

enum Net {
    static let enginePort: UInt16 = 29_450
    static let peerPort: UInt16 = 29_451

    /// unshare(CLONE_NEWNET), which Glibc's module map leaves out.
    private static func newNetworkNamespace() -> Int32 {
        guard let symbol = dlsym(nil, "unshare") else { return -1 }
        return unsafeBitCast(symbol, to: (@convention(c) (Int32) -> Int32).self)(0x4000_0000)
    }

    /// Runs the body on a thread of its own in a network namespace of its own, with `lo` up.
    static func alone<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { done in
            let thread = Thread {
                done.resume(
                    with: Result {
                        guard newNetworkNamespace() == 0 else {
                            throw NDError("test.root", "these tests need root: \(String(cString: strerror(errno)))")
                        }
                        guard nd_link_up("lo", 65_535, 1000) == 0 else { throw NDError("test.lo", "can't bring lo up") }
                        return try body()
                    })
            }
            thread.stackSize = 8 << 20
            thread.start()
        }
    }
}

/// An OutboundPath that sends over loopback to a socket of the test. Only inside `Net.alone`.
final class Outbound {
    let table = SATable()
    let counters = WorkerCounters()
    let path: OutboundPath
    let sa: OutboundSA
    private let sockets: WorkerSockets
    private let receiver: Int32
    private let isIPv6: Bool
    private let isNative: Bool

    init(_ association: SecurityAssociation, library: nd_aead_library = bestLibrary, receives: Bool = true) throws {
        isIPv6 = !association.peer.remote.isIPv4
        isNative = association.encapsulation == .native
        sockets = try WorkerSockets(port: Net.enginePort, mark: 0, buffer: 32 << 20, readsNative: true)
        receiver = isNative ? nd_esp_open(isIPv6, 0, 32 << 20) : nd_udp_open(isIPv6, Net.peerPort, 0, receives ? 32 << 20 : 2048)
        if !isNative {
            var off: Int32 = 0
            setsockopt(receiver, Int32(IPPROTO_UDP), 104, &off, 4)  // UDP_GRO
        }
        let sa = try OutboundSA(association, library: library, workers: 1)
        self.sa = sa
        var back = association
        back.direction = .inbound
        try table.install(inbound: InboundSA(back, library: library, workers: 1), outbound: sa)
        try table.activate(association.peer, spi: association.spi)
        let exhausted = Counter()
        notes = exhausted
        path = OutboundPath(
            worker: 0, table: table, counters: counters, sockets: sockets,
            reassembly: SharedReassembly(ReassemblyLimits()), onExhausted: { _ in exhausted.value.add(1, ordering: .relaxed) })
    }

    final class Counter: Sendable { let value = Atomic<Int>(0) }
    let notes: Counter

    deinit { close(receiver) }

    func handle(_ read: [UInt8]) {
        let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: max(read.count, 1), alignment: 64)
        defer { raw.deallocate() }
        raw.copyBytes(from: read)
        path.handle(raw.baseAddress!, size: read.count)
    }

    /// The ESP packets that left.
    func sent() -> [[UInt8]] {
        path.flush()
        var all: [[UInt8]] = []
        var buffer = [UInt8](repeating: 0, count: 70_000)
        while true {
            let n = recv(receiver, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if n < 0 { return all }
            let header = isNative && !isIPv6 ? Int(buffer[0] & 15) * 4 : 0
            all.append(Array(buffer[header..<n]))
        }
    }
}

/// Plain threads, for what must run truly in parallel.
final class Threads: Sendable {
    private let left: DispatchGroup

    init(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
        let group = DispatchGroup()
        left = group
        for index in 0..<count {
            group.enter()
            Thread {
                body(index)
                group.leave()
            }.start()
        }
    }

    func join() { left.wait() }
}
