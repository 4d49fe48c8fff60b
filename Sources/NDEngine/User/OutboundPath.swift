import CESP
import CNDABI
import NDCore
import Synchronization

/// From plaintext packets of nd0 to ESP on a socket. One worker's; nothing in it is shared.
///
/// Segments of one super-packet, and of the next one of the same size, gather in one buffer, are
/// sealed as one batch and leave with one call (UDP_SEGMENT).
final class OutboundPath {
    /// UDP_MAX_SEGMENTS of kernels before 6.9.
    static let mostSegments = 64
    /// Largest UDP payload over IPv4; less 20 for IPv6's larger header is not needed, its length
    /// field does not count the header.
    static let mostBytes = 65_507

    private let worker: Int
    private let table: SATable
    private let counters: WorkerCounters
    private let sockets: WorkerSockets
    private let reassembly: SharedReassembly
    private let onExhausted: (OutboundSA) -> Void

    private let buffer: UnsafeMutableRawPointer
    private let ops: UnsafeMutablePointer<nd_esp_op>
    private var used = 0
    private var count = 0
    private var plainBytes = 0
    private var segmentSize = 0
    private var lastWasShort = false
    private var batchSA: OutboundSA?

    private var cachedGeneration: UInt64 = 0
    private var cachedLocal = IPAddress(high: 0, low: 0)
    private var cachedRemote = IPAddress(high: 0, low: 0)
    private var cachedSA: OutboundSA?

    init(
        worker: Int, table: SATable, counters: WorkerCounters, sockets: WorkerSockets,
        reassembly: SharedReassembly, onExhausted: @escaping (OutboundSA) -> Void
    ) {
        self.worker = worker
        self.table = table
        self.counters = counters
        self.sockets = sockets
        self.reassembly = reassembly
        self.onExhausted = onExhausted
        buffer = .allocate(byteCount: 2 * 65_536 + 4096, alignment: 64)
        ops = .allocate(capacity: Self.mostSegments)
        ops.initialize(repeating: nd_esp_op(), count: Self.mostSegments)
    }

    deinit {
        buffer.deallocate()
        ops.deallocate()
    }

    /// One read of the TUN: a vnet header and a packet of up to 64 KB. The packet is written to
    /// (its checksum is finished in place).
    func handle(_ read: UnsafeMutableRawPointer, size: Int) {
        guard size > VirtioHeader.byteCount + 20 else {
            counters.drop(ND_DROP_MALFORMED)
            return
        }
        let vnet = VirtioHeader(reading: read)
        let packet = read + VirtioHeader.byteCount
        let length = size - VirtioHeader.byteCount
        let p = UnsafeRawPointer(packet)
        switch p.u8(0) >> 4 {
        case 4:
            let header = Int(p.u8(0) & 0xf) * 4
            guard header >= 20, length > header,
                let local = IPAddress(bytes: UnsafeRawBufferPointer(start: p + 12, count: 4)),
                let remote = IPAddress(bytes: UnsafeRawBufferPointer(start: p + 16, count: 4))
            else { return counters.drop(ND_DROP_MALFORMED) }
            let place = p.be16(6)
            if place & 0x3fff != 0 {
                let key = Reassembly.Key(
                    source: local, destination: remote, identification: UInt32(p.be16(4)), proto: p.u8(9))
                let total = min(Int(p.be16(2)), length)
                guard total > header else { return counters.drop(ND_DROP_MALFORMED) }
                fragment(
                    key, offset: Int(place & 0x1fff) * 8, more: place & 0x2000 != 0,
                    payload: UnsafeRawBufferPointer(start: p + header, count: total - header))
                return
            }
            protect(
                packet, length: length, l4: header, proto: p.u8(9), local: local, remote: remote, vnet: vnet,
                addresses: 12, addressBytes: 8)
        case 6:
            guard length > 40,
                let local = IPAddress(bytes: UnsafeRawBufferPointer(start: p + 8, count: 16)),
                let remote = IPAddress(bytes: UnsafeRawBufferPointer(start: p + 24, count: 16))
            else { return counters.drop(ND_DROP_MALFORMED) }
            if p.u8(6) == 44 {
                guard length > 48 else { return counters.drop(ND_DROP_MALFORMED) }
                let place = p.be16(42)
                let key = Reassembly.Key(
                    source: local, destination: remote, identification: p.be32(44), proto: p.u8(40))
                fragment(
                    key, offset: Int(place & 0xfff8), more: place & 1 != 0,
                    payload: UnsafeRawBufferPointer(start: p + 48, count: length - 48))
                return
            }
            protect(
                packet, length: length, l4: 40, proto: p.u8(6), local: local, remote: remote, vnet: vnet,
                addresses: 8, addressBytes: 32)
        default:
            counters.drop(ND_DROP_MALFORMED)
        }
    }

    private func fragment(_ key: Reassembly.Key, offset: Int, more: Bool, payload: UnsafeRawBufferPointer) {
        switch reassembly.insert(key, offset: offset, more: more, payload: Array(payload)) {
        case .waiting:
            return
        case .refused:
            counters.drop(ND_DROP_FRAGMENT)
        case .full:
            counters.drop(ND_DROP_REASSEMBLY_FULL)
        case .whole(let bytes):
            let found = bytes.withUnsafeBytes { lookup(key.source, key.destination, proto: key.proto, payload: $0) }
            guard let sa = found else {
                counters.drop(ND_DROP_NO_SA)
                return
            }
            bytes.withUnsafeBytes { raw in
                guard let base = raw.baseAddress, let at = place(sa, payload: raw.count) else { return }
                at.copyMemory(from: base, byteCount: raw.count)
                finish(sa, at, payload: raw.count, proto: key.proto)
            }
            flush()
        }
    }

    /// Lets go of a removed SA, so that its keys are wiped though no packet comes.
    func forgetRemoved() {
        guard table.generation.load(ordering: .acquiring) != cachedGeneration else { return }
        cachedGeneration = 0
        cachedSA = nil
        if count == 0 { batchSA = nil }
    }

    private func lookup(_ local: IPAddress, _ remote: IPAddress) -> OutboundSA? {
        let generation = table.generation.load(ordering: .acquiring)
        if generation == cachedGeneration, local == cachedLocal, remote == cachedRemote { return cachedSA }
        cachedSA = table.outbound(local: local, remote: remote)
        (cachedGeneration, cachedLocal, cachedRemote) = (generation, local, remote)
        return cachedSA
    }

    /// Where several hosts have the address: the SA of the one that the flow belongs to, with a single one
    /// behind it its.
    private func lookup(
        _ local: IPAddress, _ remote: IPAddress, proto: UInt8, payload: UnsafeRawBufferPointer
    ) -> OutboundSA? {
        guard let sa = lookup(local, remote) else { return nil }
        guard sa.sa.sharesAddress else { return sa }
        let flow = ClientFlows.flow(from: local, to: remote, proto: proto, payload: payload, isOutbound: true)
        return table.outbound(local: local, remote: remote, port: table.flows.owner(flow, now: .now()))
    }

    private func protect(
        _ packet: UnsafeMutableRawPointer, length: Int, l4: Int, proto: UInt8, local: IPAddress,
        remote: IPAddress, vnet: VirtioHeader, addresses: Int, addressBytes: Int
    ) {
        let p = UnsafeRawPointer(packet)
        let payload = UnsafeRawBufferPointer(start: p + l4, count: length - l4)
        guard let sa = lookup(local, remote, proto: proto, payload: payload) else {
            counters.drop(ND_DROP_NO_SA)
            return
        }
        switch VirtioHeader.Segmentation(rawValue: vnet.segmentation) {
        case .tcpv4?, .tcpv6?:
            guard proto == IPProtocol.tcp, vnet.segmentSize > 0, length >= l4 + 20 else {
                return counters.drop(ND_DROP_MALFORMED)
            }
            let header = Int(p.u8(l4 + 12) >> 4) * 4
            guard header >= 20, length > l4 + header else { return counters.drop(ND_DROP_MALFORMED) }
            let pseudo = nd_sum(p + addresses, addressBytes, UInt32(UInt16(IPProtocol.tcp).bigEndian))
            segmentTCP(
                sa, p + l4, header: header, data: length - l4 - header, size: Int(vnet.segmentSize), pseudo: pseudo)
        case .udp?:
            guard proto == IPProtocol.udp, vnet.segmentSize > 0, length > l4 + 8 else {
                return counters.drop(ND_DROP_MALFORMED)
            }
            let pseudo = nd_sum(p + addresses, addressBytes, UInt32(UInt16(IPProtocol.udp).bigEndian))
            segmentUDP(sa, p + l4, data: length - l4 - 8, size: Int(vnet.segmentSize), pseudo: pseudo)
        case .none?:
            let payload = length - l4
            guard let at = place(sa, payload: payload) else { return }
            if vnet.flags & VirtioHeader.needsChecksum != 0 {
                let start = Int(vnet.checksumStart)
                let field = start + Int(vnet.checksumOffset)
                guard start >= l4, field + 2 <= length else { return counters.drop(ND_DROP_MALFORMED) }
                // The field holds the pseudo header's sum already.
                var sum = ~nd_fold(nd_sum(p + start, length - start, 0))
                if sum == 0, proto == IPProtocol.udp { sum = 0xffff }
                packet.storeBytes(of: sum, toByteOffset: field, as: UInt16.self)
            }
            at.copyMemory(from: p + l4, byteCount: payload)
            finish(sa, at, payload: payload, proto: proto)
        case nil:
            counters.drop(ND_DROP_MALFORMED)
        }
    }

    /// RFC 9293 segments of one super-packet: own sequence number, FIN and PSH on the last only, CWR
    /// on the first only (RFC 3168 §6.1.2).
    private func segmentTCP(
        _ sa: OutboundSA, _ tcp: UnsafeRawPointer, header: Int, data: Int, size: Int, pseudo: UInt32
    ) {
        let sequence = tcp.be32(4)
        let flags = tcp.u8(13)
        var offset = 0
        while offset < data {
            let part = min(size, data - offset)
            guard let at = place(sa, payload: header + part) else { return }
            at.copyMemory(from: tcp, byteCount: header)
            at.put32(sequence &+ UInt32(truncatingIfNeeded: offset), 4)
            var own = flags
            if offset + part < data { own &= ~0x09 }
            if offset > 0 { own &= ~0x80 }
            at.put8(own, 13)
            at.put16(0, 16)
            var sum = nd_copy_sum(at + header, tcp + header + offset, part, 0)
            sum = nd_sum(at, header, sum &+ pseudo &+ UInt32(UInt16(truncatingIfNeeded: header + part).bigEndian))
            at.storeBytes(of: ~nd_fold(sum), toByteOffset: 16, as: UInt16.self)
            finish(sa, at, payload: header + part, proto: IPProtocol.tcp)
            offset += part
        }
    }

    private func segmentUDP(_ sa: OutboundSA, _ udp: UnsafeRawPointer, data: Int, size: Int, pseudo: UInt32) {
        var offset = 0
        while offset < data {
            let part = min(size, data - offset)
            guard let at = place(sa, payload: 8 + part) else { return }
            at.copyMemory(from: udp, byteCount: 8)
            at.put16(UInt16(truncatingIfNeeded: 8 + part), 4)
            at.put16(0, 6)
            var sum = nd_copy_sum(at + 8, udp + 8 + offset, part, 0)
            sum = nd_sum(at, 8, sum &+ pseudo &+ UInt32(UInt16(truncatingIfNeeded: 8 + part).bigEndian))
            let folded = ~nd_fold(sum)
            at.storeBytes(of: folded == 0 ? 0xffff : folded, toByteOffset: 6, as: UInt16.self)
            finish(sa, at, payload: 8 + part, proto: IPProtocol.udp)
            offset += part
        }
    }

    /// Where a payload of this size goes; flushes what can't travel in the same batch.
    private func place(_ sa: OutboundSA, payload: Int) -> UnsafeMutableRawPointer? {
        let suite = sa.sa.suite
        let block = suite.blockBytes
        let padded = (payload + 2 + block - 1) / block * block
        let size = 8 + suite.ivBytes + padded + suite.icvBytes
        guard size <= Self.mostBytes else {
            counters.drop(ND_DROP_TOO_BIG)
            return nil
        }
        if count > 0,
            batchSA !== sa || size > segmentSize || lastWasShort || used + size > Self.mostBytes
                || count == Self.mostSegments
        {
            flush()
        }
        if count == 0 {
            batchSA = sa
            segmentSize = size
            lastWasShort = false
        }
        if size < segmentSize { lastWasShort = true }
        return buffer + used + 8 + suite.ivBytes
    }

    /// Padding 1, 2, 3… (RFC 4303 §2.4), trailer, and the batch entry.
    private func finish(_ sa: OutboundSA, _ at: UnsafeMutableRawPointer, payload: Int, proto: UInt8) {
        let suite = sa.sa.suite
        let block = suite.blockBytes
        let padded = (payload + 2 + block - 1) / block * block
        let pad = padded - payload - 2
        for index in 0..<pad { at.put8(UInt8(truncatingIfNeeded: index + 1), payload + index) }
        at.put8(UInt8(truncatingIfNeeded: pad), padded - 2)
        at.put8(proto, padded - 1)
        ops[count].data = at.assumingMemoryBound(to: UInt8.self)
        ops[count].iv = (at - suite.ivBytes).assumingMemoryBound(to: UInt8.self)
        ops[count].icv = (at + padded).assumingMemoryBound(to: UInt8.self)
        ops[count].length = UInt32(padded)
        used += 8 + suite.ivBytes + padded + suite.icvBytes
        count += 1
        plainBytes += payload
    }

    /// Numbers, seals and sends what has gathered.
    func flush() {
        guard count > 0, let sa = batchSA else { return }
        defer {
            count = 0
            used = 0
            plainBytes = 0
            batchSA = nil
        }
        guard let first = sa.reserve(count) else {
            counters.drop(ND_DROP_SEQUENCE_EXHAUSTED, count)
            if !sa.ended.exchange(true, ordering: .relaxed) { onExhausted(sa) }
            return
        }
        // Asking for a new SA well before the end.
        if first > sa.lastSequence / 10 * 9, !sa.warned.exchange(true, ordering: .relaxed) { onExhausted(sa) }
        guard let context = sa.contexts.context(worker) else {
            counters.drop(ND_DROP_NO_SA, count)
            return
        }
        let extended = sa.sa.extendedSequenceNumbers
        for index in 0..<count {
            let number = first &+ UInt64(index)
            let iv = UnsafeMutableRawPointer(ops[index].iv) ?? buffer + 8
            let esp = iv - 8
            esp.put32(sa.sa.spi, 0)
            esp.put32(UInt32(truncatingIfNeeded: number), 4)
            // GCM's IV must not repeat under a key: the sequence number can't (RFC 4106 §3.1).
            if sa.sa.suite.isAEAD {
                iv.storeBytes(of: number.bigEndian, as: UInt64.self)
            }
            Self.setAAD(&ops[index], spi: sa.sa.spi, number: number, extended: extended)
        }
        nd_aead_seal(context, ops, UInt32(count))
        var sealed = true
        for index in 0..<count where !ops[index].ok { sealed = false }
        guard sealed else {
            counters.drop(ND_DROP_SEND_FAILED, count)
            return
        }
        let lost = sockets.send(sa, buffer, size: used, segment: segmentSize, count: count)
        if lost > 0 { counters.drop(ND_DROP_SEND_FAILED, lost) }
        // All but the last of a batch are of one size.
        let bytes = lost == 0 ? plainBytes : plainBytes * (count - lost) / count
        sa.packets.add(UInt64(count - lost), ordering: .relaxed)
        sa.bytes.add(UInt64(bytes), ordering: .relaxed)
        counters.outbound(packets: count - lost, bytes: bytes)
    }

    /// SPI | sequence number, 32 or 64 bits (RFC 4106 §5, RFC 4303 §2.2.1).
    static func setAAD(_ op: inout nd_esp_op, spi: UInt32, number: UInt64, extended: Bool) {
        withUnsafeMutableBytes(of: &op.aad) { aad in
            aad.storeBytes(of: spi.bigEndian, as: UInt32.self)
            if extended {
                aad.storeBytes(of: UInt32(truncatingIfNeeded: number >> 32).bigEndian, toByteOffset: 4, as: UInt32.self)
                aad.storeBytes(of: UInt32(truncatingIfNeeded: number).bigEndian, toByteOffset: 8, as: UInt32.self)
            } else {
                aad.storeBytes(of: UInt32(truncatingIfNeeded: number).bigEndian, toByteOffset: 4, as: UInt32.self)
            }
        }
        op.aad_length = extended ? 12 : 8
    }
}

/// The one reassembly of an engine: fragments of a datagram may come through several queues.
final class SharedReassembly: Sendable {
    private let state: Mutex<Reassembly>

    init(_ limits: ReassemblyLimits) { state = Mutex(Reassembly(limits)) }

    func insert(_ key: Reassembly.Key, offset: Int, more: Bool, payload: [UInt8]) -> Reassembly.Outcome {
        let now = Instant.now()
        return state.withLock { $0.insert(key, offset: offset, more: more, payload: payload, now: now) }
    }

    func expire() -> Int {
        let now = Instant.now()
        return state.withLock { $0.expire(now: now) }
    }
}
