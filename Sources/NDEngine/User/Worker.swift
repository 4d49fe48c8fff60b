import CESP
import CNDABI
import Foundation
import Glibc
import NDCore
import Synchronization

/// One thread: its TUN queue, its sockets, both directions.
final class Worker: @unchecked Sendable {
    static let bufferBytes = 65_536 + 256
    /// Packets of protocol 50 are gathered: one of any size has room behind many.
    private static let gatherBytes = 4 * 65_536
    /// Reads of one descriptor before the others get their turn.
    private static let burst = 16

    let counters = WorkerCounters()
    let sockets: WorkerSockets
    private let index: Int
    private let tun: Int32
    private let port: UInt16
    private let wake: Int32
    private let running = Atomic<Bool>(true)
    private let finished = DispatchSemaphore(value: 0)
    private let outbound: OutboundPath
    private let inbound: InboundPath
    private let reassembly: SharedReassembly
    private let events: any EngineEvents
    private var deviceGone = false
    private let deviceIsBack = Atomic<Bool>(false)
    private let buffer: UnsafeMutableRawPointer

    init(
        index: Int, tun: Int32, port: UInt16, mark: UInt32, socketBuffer: Int, table: SATable,
        reassembly: SharedReassembly, events: any EngineEvents
    ) throws {
        self.index = index
        self.tun = tun
        self.port = port
        self.reassembly = reassembly
        self.events = events
        sockets = try WorkerSockets(port: port, mark: mark, buffer: socketBuffer, readsNative: index == 0)
        wake = nd_event_open()
        buffer = .allocate(byteCount: Self.gatherBytes, alignment: 64)
        outbound = OutboundPath(
            worker: index, table: table, counters: counters, sockets: sockets, reassembly: reassembly,
            onExhausted: { events.sequenceExhausted(spi: $0.sa.spi, peer: $0.sa.peer) })
        inbound = InboundPath(
            worker: index, table: table, counters: counters, events: events,
            coalescer: Coalescer(tun: tun, counters: counters))
    }

    deinit {
        close(wake)
        buffer.deallocate()
    }

    func start() {
        let thread = Thread { [self] in
            run()
            finished.signal()
        }
        thread.name = "nd-esp-\(index)"
        thread.qualityOfService = .userInteractive
        thread.start()
    }

    /// False when the thread still runs, so that its descriptors can't be closed: another open might
    /// get their numbers, and the worker would write plaintext there.
    func stop() -> Bool {
        running.store(false, ordering: .relaxed)
        nd_event_signal(wake)
        return finished.wait(timeout: .now() + 2) == .success
    }

    /// The descriptor has a device again.
    func deviceReturned() {
        deviceIsBack.store(true, ordering: .releasing)
        nd_event_signal(wake)
    }

    private func run() {
        var wait = nd_wait()
        withUnsafeMutableBytes(of: &wait.fds) { raw in
            let fds = raw.bindMemory(to: Int32.self)
            fds[0] = wake
            fds[1] = tun
            fds[2] = sockets.udp4
            fds[3] = sockets.udp6
            fds[4] = sockets.esp4
            fds[5] = sockets.esp6
        }
        wait.count = index == 0 ? 6 : 4
        var lastExpiry = Instant.now()
        while running.load(ordering: .relaxed) {
            if deviceIsBack.exchange(false, ordering: .acquiring) {
                deviceGone = false
                withUnsafeMutableBytes(of: &wait.fds) { $0.bindMemory(to: Int32.self)[1] = tun }
            }
            // A deleted device is always readable and never has anything.
            if deviceGone { withUnsafeMutableBytes(of: &wait.fds) { $0.bindMemory(to: Int32.self)[1] = -1 } }
            let ready = nd_wait_readable(&wait, 1000)
            if ready > 0 { serve(ready) }
            outbound.forgetRemoved()
            inbound.forgetRemoved()
            if index == 0, ready <= 0 || Instant.now().since(lastExpiry) > .seconds(1) {
                lastExpiry = .now()
                let late = reassembly.expire()
                if late > 0 { counters.drop(ND_DROP_REASSEMBLY_TIMEOUT, late) }
            }
        }
    }

    /// Serves what is readable in turns until nothing is, so that a busy pair of queues costs few
    /// polls; bounded, so that the others and a stop are seen.
    private func serve(_ ready: Int32) {
        if ready & 1 != 0 { nd_event_clear(wake) }
        var more = ready
        for _ in 0..<64 where more & ~1 != 0 {
            if more & 0b10 != 0, !readTUN() { more &= ~0b10 }
            if more & 0b100 != 0, !readUDP(sockets.udp4, ipv6: false) { more &= ~0b100 }
            if more & 0b1000 != 0, !readUDP(sockets.udp6, ipv6: true) { more &= ~0b1000 }
            if more & 0b1_0000 != 0, !readESP(sockets.esp4, ipv6: false) { more &= ~0b1_0000 }
            if more & 0b10_0000 != 0, !readESP(sockets.esp6, ipv6: true) { more &= ~0b10_0000 }
        }
    }

    /// False when the queue is empty.
    private func readTUN() -> Bool {
        defer { outbound.flush() }
        for _ in 0..<Self.burst {
            let size = read(tun, buffer, Self.bufferBytes)
            guard size > 0 else {
                if size < 0, errno == EBADFD, !deviceGone {
                    deviceGone = true
                    events.engineLog("the device of worker \(index) is gone: somebody deleted it")
                }
                return false
            }
            outbound.handle(buffer, size: size)
        }
        return true
    }

    private func readUDP(_ fd: Int32, ipv6: Bool) -> Bool {
        for _ in 0..<Self.burst {
            var segment: UInt16 = 0
            var senderPort: UInt16 = 0
            var from = nd_addr16()
            var to = nd_addr16()
            let size = nd_udp_receive(fd, ipv6, buffer, Self.bufferBytes, &segment, &from, &senderPort, &to)
            if size < 0 { return false }
            inbound.handleUDP(
                buffer, size: Int(size), segment: Int(segment), from: from, port: senderPort, to: to,
                localPort: port)
        }
        return true
    }

    /// Many small reads: packed one behind the other into the buffer, so that they are opened and
    /// coalesced as one batch.
    private func readESP(_ fd: Int32, ipv6: Bool) -> Bool {
        var used = 0
        defer { inbound.finishRound() }
        for _ in 0..<(Self.burst * 4) {
            var from = nd_addr16()
            var to = nd_addr16()
            var offset = 0
            if Self.gatherBytes - used < Self.bufferBytes {
                inbound.finishRound()
                used = 0
            }
            let size = nd_esp_receive(fd, ipv6, buffer + used, Self.bufferBytes, &from, &to, &offset)
            if size < 0 { return false }
            if size > 0 {
                inbound.handleNative(buffer + used + offset, size: Int(size), from: from, to: to)
                used += (offset + Int(size) + 63) / 64 * 64
            }
        }
        return true
    }
}
