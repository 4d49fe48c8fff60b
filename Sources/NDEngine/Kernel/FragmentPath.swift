import CESP
import CNDABI
import CNetlink
import Foundation
import Glibc
import NDCore
import Synchronization

/// Fragments of protected datagrams, and whole packets that ESP would make larger than the path. ESP in transport mode covers a whole datagram (RFC 4303
/// §3.1.1), and an XFRM interface can't carry one that is larger than the path. So BPF redirects the
/// fragments into a TUN device, here they become whole again, and a raw socket sends the datagram on
/// under an ESP policy of its own: the kernel protects it and then fragments the ESP packet. The
/// interface's SAs can't serve a policy outside it, so such a peer has a second pair
/// (`PeerKey.fragments`), asked for when its first fragments come.
final class FragmentPath: @unchecked Sendable {
    /// Datagrams that wait for an SA; a negotiation takes milliseconds.
    private static let mostWaiting = 256
    private static let mostWaitingBytes = 4 << 20
    private static let patience = Span.seconds(3)

    private struct Datagram {
        var peer: PeerKey
        var proto: UInt8
        var ttl: UInt8
        var tos: UInt8
        var payload: [UInt8]
        var since: Instant
    }

    private struct State {
        var ready: [PeerKey: Int] = [:]
        var waiting: [Datagram] = []
        var waitingBytes = 0
        var asked: [PeerKey: Instant] = [:]
        var sockets: [UInt16: Int32] = [:]
        var drops = [UInt64](repeating: 0, count: Int(ND_DROP_COUNT.rawValue))
    }

    let ifindex: UInt32
    private let tun: Int32
    private let wake: Int32
    private let reqid: UInt32
    private let events: any EngineEvents
    private let running = Atomic<Bool>(true)
    private let finished = DispatchSemaphore(value: 0)
    private let state = Mutex(State())
    private var reassembly: Reassembly
    private let buffer = UnsafeMutableRawPointer.allocate(byteCount: 65_536 + 256, alignment: 64)

    init(device: String, limits: ReassemblyLimits, reqid: UInt32, events: any EngineEvents) throws {
        self.reqid = reqid
        self.events = events
        reassembly = Reassembly(limits)
        var offloads: UInt32 = 0
        tun = nd_tun_open(device, &offloads)
        wake = nd_event_open()
        ifindex = tun >= 0 ? if_nametoindex(device) : 0
        guard tun >= 0, wake >= 0 else {
            if tun >= 0 { close(tun) }
            buffer.deallocate()
            throw NDError(
                "engine.tun", "can't open \(device), which takes fragments: \(String(cString: strerror(tun < 0 ? -tun : -wake)))",
                hint: -tun == ENOENT || -tun == ENODEV ? "the kernel has no TUN: modprobe tun" : nil)
        }
        // Segments and checksums come finished.
        let plain = nd_tun_offloads(tun, 0)
        guard plain == 0 else {
            close(tun)
            close(wake)
            buffer.deallocate()
            throw NDError("engine.tun", "can't switch the offloads of \(device) off: \(String(cString: strerror(-plain)))")
        }
        if access("/proc/sys/net/ipv6/conf/\(device)", F_OK) == 0 {
            try? Sysctl.set("ipv6/conf/\(device)/addr_gen_mode", "1")
            try? Sysctl.set("ipv6/conf/\(device)/disable_ipv6", "1")
        }
        let up = nd_link_up(device, 65_535, 1000)
        guard up == 0 else {
            close(tun)
            close(wake)
            buffer.deallocate()
            throw NDError("engine.link", "can't bring \(device) up: \(String(cString: strerror(-up)))")
        }
    }

    deinit {
        close(tun)
        close(wake)
        buffer.deallocate()
        for fd in state.withLock({ $0.sockets.values.map { $0 } }) { close(fd) }
    }

    func start() {
        let thread = Thread { [self] in
            run()
            finished.signal()
        }
        thread.name = "nd-fragments"
        thread.start()
    }

    func stop() {
        running.store(false, ordering: .relaxed)
        nd_event_signal(wake)
        _ = finished.wait(timeout: .now() + 2)
    }

    func add(to sum: inout EngineStatistics) {
        let drops = state.withLock { $0.drops }
        for index in drops.indices where sum.drops.indices.contains(index) { sum.drops[index] &+= drops[index] }
    }

    /// An SA for whole datagrams to this peer is in use.
    func ready(_ peer: PeerKey) {
        let due = state.withLock { state -> [Datagram] in
            state.ready[peer, default: 0] += 1
            state.asked[peer] = nil
            let due = state.waiting.filter { $0.peer == peer }
            state.waiting.removeAll { $0.peer == peer }
            state.waitingBytes -= due.reduce(0) { $0 + $1.payload.count }
            return due
        }
        for datagram in due { send(datagram) }
    }

    func gone(_ peer: PeerKey) {
        state.withLock { state in
            let left = (state.ready[peer] ?? 0) - 1
            state.ready[peer] = left > 0 ? left : nil
        }
    }

    private func drop(_ reason: nd_drop_reason, _ count: Int = 1) {
        state.withLock { $0.drops[Int(reason.rawValue)] &+= UInt64(count) }
    }

    // MARK: the thread

    private func run() {
        var wait = nd_wait()
        withUnsafeMutableBytes(of: &wait.fds) { raw in
            let fds = raw.bindMemory(to: Int32.self)
            fds[0] = wake
            fds[1] = tun
        }
        wait.count = 2
        var last = Instant.now()
        while running.load(ordering: .relaxed) {
            let ready = nd_wait_readable(&wait, 1000)
            if ready & 1 != 0, ready > 0 { nd_event_clear(wake) }
            if ready > 0, ready & 2 != 0 {
                for _ in 0..<256 {
                    let size = read(tun, buffer, 65_536 + 256)
                    guard size > 0 else { break }
                    handle(UnsafeRawBufferPointer(start: buffer, count: size))
                }
            }
            let now = Instant.now()
            guard now.since(last) > .seconds(1) else { continue }
            last = now
            let late = reassembly.expire(now: now)
            if late > 0 { drop(ND_DROP_REASSEMBLY_TIMEOUT, late) }
            let given = state.withLock { state -> Int in
                let before = state.waiting.count
                state.waiting.removeAll { now.since($0.since) > Self.patience }
                state.waitingBytes = state.waiting.reduce(0) { $0 + $1.payload.count }
                state.asked = state.asked.filter { now.since($0.value) < .seconds(30) }
                return before - state.waiting.count
            }
            if given > 0 { drop(ND_DROP_NO_SA, given) }
        }
    }

    private func handle(_ read: UnsafeRawBufferPointer) {
        let packet = UnsafeRawBufferPointer(rebasing: read.dropFirst(VirtioHeader.byteCount))
        func be16(_ at: Int) -> UInt16 { UInt16(packet[at]) << 8 | UInt16(packet[at + 1]) }
        guard packet.count > 28 else { return drop(ND_DROP_MALFORMED) }
        let key: Reassembly.Key
        let range: Range<Int>
        let place: (offset: Int, more: Bool)
        var (ttl, tos): (UInt8, UInt8) = (0, 0)
        func whole(_ from: IPAddress, _ to: IPAddress, _ proto: UInt8, _ payload: [UInt8]) {
            deliver(
                Datagram(
                    peer: PeerKey(local: from, remote: to).fragments, proto: proto, ttl: ttl, tos: tos, payload: payload,
                    since: .now()))
        }
        if packet[0] >> 4 == 4 {
            let header = Int(packet[0] & 15) * 4
            let total = min(Int(be16(2)), packet.count)
            guard header >= 20, total > header, let from = IPAddress(bytes: packet[12..<16]),
                let to = IPAddress(bytes: packet[16..<20])
            else { return drop(ND_DROP_MALFORMED) }
            key = Reassembly.Key(source: from, destination: to, identification: UInt32(be16(4)), proto: packet[9])
            place = (Int(be16(6) & 0x1fff) * 8, be16(6) & 0x2000 != 0)
            range = header..<total
            (ttl, tos) = (packet[8], packet[1])
            guard be16(6) & 0x3fff != 0 else { return whole(from, to, packet[9], Array(packet[header..<total])) }
        } else {
            // What stands between the IPv6 header and the fragment or transport header can't be said to
            // the socket; nobody sends it.
            let isFragment = packet[6] == 44
            let start = isFragment ? 48 : 40
            let end = min(40 + Int(be16(4)), packet.count)
            guard packet[0] >> 4 == 6, end > start, let from = IPAddress(bytes: packet[8..<24]),
                let to = IPAddress(bytes: packet[24..<40]), isFragment || ![0, 43, 60].contains(packet[6])
            else { return drop(ND_DROP_FRAGMENT) }
            (ttl, tos) = (packet[7], packet[0] << 4 | packet[1] >> 4)
            guard isFragment else { return whole(from, to, packet[6], Array(packet[start..<end])) }
            let id = UInt32(be16(44)) << 16 | UInt32(be16(46))
            key = Reassembly.Key(source: from, destination: to, identification: id, proto: packet[40])
            place = (Int(be16(42) & 0xfff8), be16(42) & 1 != 0)
            range = start..<end
        }
        switch reassembly.insert(
            key, offset: place.offset, more: place.more, payload: Array(packet[range]), now: .now())
        {
        case .waiting: return
        case .refused: drop(ND_DROP_FRAGMENT)
        case .full: drop(ND_DROP_REASSEMBLY_FULL)
        case .whole(let payload): whole(key.source, key.destination, key.proto, payload)
        }
    }

    private func deliver(_ datagram: Datagram) {
        enum Next { case send, wait, full, ask }
        let next = state.withLock { state -> Next in
            if state.ready[datagram.peer] != nil { return .send }
            guard state.waiting.count < Self.mostWaiting,
                state.waitingBytes + datagram.payload.count <= Self.mostWaitingBytes
            else { return .full }
            state.waiting.append(datagram)
            state.waitingBytes += datagram.payload.count
            if let asked = state.asked[datagram.peer], datagram.since.since(asked) < Self.patience { return .wait }
            state.asked[datagram.peer] = datagram.since
            return .ask
        }
        switch next {
        case .send: send(datagram)
        case .wait: break
        case .full: drop(ND_DROP_REASSEMBLY_FULL)
        case .ask: events.fragmentsWait(datagram.peer)
        }
    }

    private func send(_ datagram: Datagram) {
        guard let fd = socket(datagram) else { return drop(ND_DROP_SEND_FAILED) }
        var to = nd_raw_to()
        to.ttl = datagram.ttl
        to.tos = datagram.tos
        withUnsafeMutableBytes(of: &to.from) { $0.copyBytes(from: datagram.peer.local.bytes) }
        withUnsafeMutableBytes(of: &to.to) { $0.copyBytes(from: datagram.peer.remote.bytes) }
        let sent = nd_esp_policy_send(
            fd, !datagram.peer.remote.isIPv4, datagram.payload, datagram.payload.count, &to)
        if sent < 0 { drop(-sent == EMSGSIZE ? ND_DROP_TOO_BIG : ND_DROP_SEND_FAILED) }
    }

    /// One for each family and protocol: at most 512.
    private func socket(_ datagram: Datagram) -> Int32? {
        let ipv6 = !datagram.peer.remote.isIPv4
        let key = UInt16(datagram.proto) | (ipv6 ? 0x100 : 0)
        return state.withLock { state in
            if let fd = state.sockets[key] { return fd }
            let fd = nd_esp_policy_socket(ipv6, datagram.proto, reqid)
            guard fd >= 0 else {
                events.engineLog("can't open a socket for whole datagrams of \(IPProtocol.name(datagram.proto)): \(String(cString: strerror(-fd)))")
                return nil
            }
            state.sockets[key] = fd
            return fd
        }
    }
}
