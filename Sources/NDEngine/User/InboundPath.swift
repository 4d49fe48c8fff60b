import CESP
import CNDABI
import NDCore
import Synchronization

/// From ESP on a socket to plaintext packets written into nd0. One worker's.
final class InboundPath {
    static let mostPackets = 128

    private let worker: Int
    private let table: SATable
    private let counters: WorkerCounters
    private let events: any EngineEvents
    private let coalescer: Coalescer

    private let ops: UnsafeMutablePointer<nd_esp_op>
    private let numbers: UnsafeMutablePointer<UInt64>
    private var count = 0
    private var batchSA: InboundSA?

    private var cachedGeneration: UInt64 = 0
    private var cachedSPI: UInt32 = 0
    private var cachedSA: InboundSA?

    init(worker: Int, table: SATable, counters: WorkerCounters, events: any EngineEvents, coalescer: Coalescer) {
        self.worker = worker
        self.table = table
        self.counters = counters
        self.events = events
        self.coalescer = coalescer
        ops = .allocate(capacity: Self.mostPackets)
        ops.initialize(repeating: nd_esp_op(), count: Self.mostPackets)
        numbers = .allocate(capacity: Self.mostPackets)
        numbers.initialize(repeating: 0, count: Self.mostPackets)
    }

    deinit {
        ops.deallocate()
        numbers.deallocate()
    }

    /// What one receive on UDP 4500 brought: one datagram, or several of `segment` bytes.
    func handleUDP(
        _ data: UnsafeMutableRawPointer, size: Int, segment: Int, from: nd_addr16, port: UInt16, to: nd_addr16,
        localPort: UInt16
    ) {
        let step = segment > 0 ? segment : size
        var at = 0
        while at < size {
            let length = min(step, size - at)
            let p = data + at
            at += length
            if length == 1, UnsafeRawPointer(p).u8(0) == 0xff {
                counters.keepalive()
                continue
            }
            guard length >= 4 else {
                counters.drop(ND_DROP_ESP_MALFORMED)
                continue
            }
            if UnsafeRawPointer(p).be32(0) == 0 {
                counters.ikeDatagram()
                events.ikeDatagram(
                    Array(UnsafeRawBufferPointer(start: p, count: length)),
                    local: Endpoint(to.address, localPort), remote: Endpoint(from.address, port))
                continue
            }
            handleESP(p, length: length, from: from, to: to)
        }
        flush()
        coalescer.flush()
    }

    func handleNative(_ data: UnsafeMutableRawPointer, size: Int, from: nd_addr16, to: nd_addr16) {
        handleESP(data, length: size, from: from, to: to)
    }

    func finishRound() {
        flush()
        coalescer.flush()
    }

    /// Lets go of a removed SA, so that its keys are wiped though no packet comes.
    func forgetRemoved() {
        guard table.generation.load(ordering: .acquiring) != cachedGeneration else { return }
        cachedGeneration = 0
        cachedSA = nil
    }

    private func lookup(_ spi: UInt32) -> InboundSA? {
        let generation = table.generation.load(ordering: .acquiring)
        if generation == cachedGeneration, spi == cachedSPI { return cachedSA }
        cachedSA = table.inbound(spi)
        (cachedGeneration, cachedSPI) = (generation, spi)
        return cachedSA
    }

    private func handleESP(_ p: UnsafeMutableRawPointer, length: Int, from: nd_addr16, to: nd_addr16) {
        guard length >= 8 else { return counters.drop(ND_DROP_ESP_MALFORMED) }
        let raw = UnsafeRawPointer(p)
        let spi = raw.be32(0)
        guard let sa = lookup(spi) else { return counters.drop(ND_DROP_UNKNOWN_SPI) }
        guard from.equals(sa.from), to.equals(sa.to) else { return counters.drop(ND_DROP_WRONG_ADDRESS) }
        let suite = sa.sa.suite
        let cipher = length - 8 - suite.ivBytes - suite.icvBytes
        guard cipher >= max(suite.blockBytes, 4), cipher % suite.blockBytes == 0 else {
            return counters.drop(ND_DROP_ESP_MALFORMED)
        }
        if count > 0, batchSA !== sa || count == Self.mostPackets { flush() }
        batchSA = sa
        ops[count].iv = (p + 8).assumingMemoryBound(to: UInt8.self)
        ops[count].data = (p + 8 + suite.ivBytes).assumingMemoryBound(to: UInt8.self)
        ops[count].icv = (p + length - suite.icvBytes).assumingMemoryBound(to: UInt8.self)
        ops[count].length = UInt32(cipher)
        numbers[count] = UInt64(raw.be32(4))
        count += 1
    }

    private func flow(_ data: UnsafeMutableRawPointer, _ length: Int, _ proto: UInt8, _ sa: InboundSA) -> FlowKey {
        ClientFlows.flow(
            from: sa.sa.peer.remote, to: sa.sa.peer.local, proto: proto,
            payload: UnsafeRawBufferPointer(start: data, count: length), isOutbound: false)
    }

    private func flush() {
        guard count > 0, let sa = batchSA else { return }
        let total = count
        count = 0
        batchSA = nil
        guard let context = sa.contexts.context(worker) else { return counters.drop(ND_DROP_NO_SA, total) }
        let extended = sa.sa.extendedSequenceNumbers
        // Before decryption: what the window refuses anyway costs no cryptography.
        var fresh = 0
        sa.window.withLock { window in
            for index in 0..<total {
                let low = UInt32(truncatingIfNeeded: numbers[index])
                let number = extended ? window.infer(low: low) : UInt64(low)
                guard window.isFresh(number) else { continue }
                if fresh != index { ops[fresh] = ops[index] }
                numbers[fresh] = number
                fresh += 1
            }
        }
        if fresh < total { counters.drop(ND_DROP_REPLAY, total - fresh) }
        for index in 0..<fresh {
            OutboundPath.setAAD(&ops[index], spi: sa.sa.spi, number: numbers[index], extended: extended)
        }
        nd_aead_open(context, ops, UInt32(fresh))
        var replayed = 0
        sa.window.withLock { window in
            for index in 0..<fresh where ops[index].ok {
                if !window.accept(numbers[index]) {
                    ops[index].ok = false
                    replayed += 1
                }
            }
        }
        var good = 0
        var bytes = 0
        var malformed = 0
        var strangers = 0
        for index in 0..<fresh where ops[index].ok {
            if good == 0, !sa.seen.load(ordering: .relaxed), !sa.seen.exchange(true, ordering: .relaxed) {
                events.firstInboundPacket(spi: sa.sa.spi, peer: sa.sa.peer)
            }
            good += 1
            let cipher = Int(ops[index].length)
            guard let data = UnsafeMutableRawPointer(ops[index].data) else { continue }
            let pad = Int(UnsafeRawPointer(data).u8(cipher - 2))
            let next = UnsafeRawPointer(data).u8(cipher - 1)
            let length = cipher - 2 - pad
            guard length > 0 else {
                if length < 0 { malformed += 1 }
                continue
            }
            // 59 is a dummy for traffic-flow confidentiality (RFC 4303 §2.6).
            if next == 59 { continue }
            if sa.sa.sharesAddress, !table.flows.claim(flow(data, length, next, sa), port: sa.remotePort, now: .now()) {
                strangers += 1
                continue
            }
            bytes += length
            coalescer.deliver(data, length: length, proto: next, sa: sa)
        }
        let refused = fresh - good - replayed
        if refused > 0 { counters.drop(ND_DROP_AUTHENTICATION, refused) }
        if replayed > 0 { counters.drop(ND_DROP_REPLAY, replayed) }
        if malformed > 0 { counters.drop(ND_DROP_ESP_MALFORMED, malformed) }
        if strangers > 0 { counters.drop(ND_DROP_WRONG_ADDRESS, strangers) }
        good -= malformed
        sa.packets.add(UInt64(good), ordering: .relaxed)
        sa.bytes.add(UInt64(bytes), ordering: .relaxed)
        counters.inbound(packets: good, bytes: bytes)
        // The pieces point into the receive buffer, which the next read overwrites.
        if fresh == Self.mostPackets { coalescer.flush() }
    }
}
