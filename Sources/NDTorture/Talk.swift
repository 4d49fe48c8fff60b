import CNDLab
import Foundation
import Glibc
import NDCore
import NDLab

/// All connections of a world and the wire between its hosts, served by one thread: it sends and receives for every
/// program and reads what the hosts put on the wire. The two in one order, so that of a message that arrived it is
/// known whether it was ever there in clear.
final class Talk: @unchecked Sendable {
    private let lab: Lab
    private let wire: Int32
    private let pace: Double
    private let sharesPages: Bool
    private let lock = NSLock()
    private var dice: Dice
    private var running = true
    private let finished = DispatchSemaphore(value: 0)

    private var flows: [UInt32: Flow] = [:]
    private var live: [UInt32] = []
    private var byKey: [FlowKey: UInt32] = [:]
    private var listeners: [Int32] = []
    private var byClientPort: [UInt16: UInt32] = [:]
    private var nextID: UInt32 = 1
    /// Which host an interface of the wire belongs to; -1: none.
    private var hostOfInterface: [UInt32: Int] = [:]
    private var arrived: [(flow: UInt32, direction: Int, number: UInt32, time: UInt64)] = []

    private var packets: [SentPacket] = []
    private var counts = [Int](repeating: 0, count: SentPacket.Kind.allCases.count)
    private var cookies: [UInt8] = []
    private var lost = 0
    /// Whole super-packets: a message that is not found there would count as protected.
    private var buffer = [UInt8](repeating: 0, count: 70_000)
    private var markers = [nd_marker](repeating: nd_marker(), count: 70_000 / Int(ND_MARKER_BYTES))
    private var receiveBuffer = [UInt8](repeating: 0, count: 65_536)

    static let serverPort: UInt16 = 7000

    init(_ lab: Lab, seed: UInt64, options: TortureOptions) throws {
        self.lab = lab
        pace = options.pace
        sharesPages = options.engine == "kernel"
        dice = Dice(seed ^ 0x7a1c)
        wire = try Lab.inside("/run/netns/\(lab.wire)") { nd_wire_open(128 << 20) }
        guard wire >= 0 else { throw NDError("torture.wire", "can't capture: \(String(cString: strerror(-wire)))") }
        for host in lab.hosts {
            for address in [host.ipv4, host.ipv6] {
                listeners.append(
                    try lab.inside(host) {
                        let fd = try Self.bound(Endpoint(address, Self.serverPort), SOCK_STREAM.rawValue)
                        guard Glibc.listen(fd, 128) == 0 else { throw NDError("torture.listen", "listen: \(errno)") }
                        return fd
                    })
            }
        }
        let thread = Thread { [self] in
            while lock.withLock({ running }) {
                lock.withLock { turn() }
                usleep(8_000)
            }
            finished.signal()
        }
        thread.name = "nd-talk"
        thread.start()
    }

    /// Ends everything. Programs end as with a power failure: nothing is sent.
    func close() {
        guard lock.withLock({ () -> Bool in defer { running = false }; return running }) else { return }
        finished.wait()
        for id in live { flows[id].map(Self.vanish) }
        for fd in listeners { Glibc.close(fd) }
        Glibc.close(wire)
    }

    // MARK: - Connections

    private static func bound(_ endpoint: Endpoint, _ type: __socket_type.RawValue) throws -> Int32 {
        let fd = socket(
            endpoint.address.isIPv4 ? AF_INET : AF_INET6,
            Int32(type) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard fd >= 0 else { throw NDError("torture.socket", "socket: \(String(cString: strerror(errno)))") }
        var one: Int32 = 1
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, 4)
        if type == SOCK_STREAM.rawValue { setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4) }
        guard Traffic.bindSocket(fd, endpoint) else {
            let reason = String(cString: strerror(errno))
            Glibc.close(fd)
            throw NDError("torture.bind", "bind to \(endpoint): \(reason)")
        }
        return fd
    }

    /// Begins one; nil: the hosts can't now, an address is missing for instance.
    @discardableResult
    func open(client: Int, family: Lab.Family, tcp: Bool) -> UInt32? {
        let (id, eager) = lock.withLock { () -> (UInt32, Bool) in
            defer { nextID += 1 }
            return (nextID, dice.oneIn(3))
        }
        let hosts = [lab.hosts[client], lab.hosts[1 - client]]
        let ports = [UInt16(8000 + id % 28_000), tcp ? Self.serverPort : UInt16(37_000 + id % 28_000)]
        let ends = zip(hosts, ports).map { Endpoint($0.address(family), $1) }
        let key = FlowKey(local: ends[0], remote: ends[1], proto: tcp ? IPProtocol.tcp : IPProtocol.udp)
        var sockets: [Int32] = [-1, -1]
        do {
            if tcp {
                sockets[0] = try lab.inside(hosts[0]) { try Self.bound(ends[0], SOCK_STREAM.rawValue) }
            } else {
                for end in 0...1 {
                    sockets[end] = try lab.inside(hosts[end]) {
                        let fd = try Self.bound(ends[end], SOCK_DGRAM.rawValue)
                        _ = Traffic.connectSocket(fd, ends[1 - end])
                        return fd
                    }
                }
            }
        } catch {
            for fd in sockets where fd >= 0 { Glibc.close(fd) }
            return nil
        }
        let flow = Flow(id: id, key: key, ends: [client, 1 - client], sockets: sockets, isEager: eager)
        lock.withLock {
            flows[id] = flow
            live.append(id)
            byKey[key] = id
            byKey[FlowKey(local: key.remote, remote: key.local, proto: key.proto)] = id
            if tcp { byClientPort[ports[0]] = id }
        }
        // Known to the witness before its first packet leaves.
        if tcp { _ = Traffic.connectSocket(sockets[0], ends[1]) }
        return id
    }

    /// Both ends close it in good order. A stream is kept until all of it has arrived, so that no socket without a
    /// program outlives the power failure of its host.
    func retire(_ id: UInt32) {
        lock.withLock {
            guard let flow = flows[id], flow.state == .open else { return }
            flow.state = .retired
            guard flow.isTCP, flow.broken == nil, !flow.sockets.contains(-1) else {
                Self.vanish(flow)
                live.removeAll { $0 == id }
                return
            }
            for fd in flow.sockets { shutdown(fd, Int32(SHUT_WR)) }
        }
    }

    /// Whether a retired connection has come to its end, which closes it.
    private func isOver(_ flow: Flow) -> Bool {
        for end in 0...1 where flow.sockets[end] >= 0 {
            var waiting: Int32 = 0
            if !flow.hasEnded[end] || (ioctl(flow.sockets[end], UInt(TIOCOUTQ), &waiting) == 0 && waiting > 0) { return false }
        }
        flow.close()
        return true
    }

    /// A host's power fails: its programs are gone without a word. What the other ends still have is closed later.
    func vanish(host: Int) {
        lock.withLock {
            for id in live {
                guard let flow = flows[id] else { continue }
                flow.state = .vanished
                let end = flow.ends.firstIndex(of: host) ?? 0
                let fd = flow.sockets[end]
                guard fd >= 0 else { continue }
                if flow.isTCP { nd_tcp_vanish(fd) } else { Glibc.close(fd) }
                flow.sockets[end] = -1
            }
        }
    }

    private static func vanish(_ flow: Flow) {
        for end in 0...1 where flow.sockets[end] >= 0 {
            if flow.isTCP { nd_tcp_vanish(flow.sockets[end]) } else { Glibc.close(flow.sockets[end]) }
            flow.sockets[end] = -1
        }
    }

    /// What a vanished host's peers still had goes the same way: an orphan of theirs would outlive their own power failure.
    func buryVanished() {
        lock.withLock {
            for id in live where flows[id]?.state == .vanished { flows[id].map(Self.vanish) }
            live.removeAll { flows[$0]?.state == .vanished }
        }
    }

    func with<T>(_ body: ([Flow]) throws -> T) rethrows -> T {
        try lock.withLock { try body(live.compactMap { flows[$0] }) }
    }

    var open: [UInt32] { with { $0.filter(\.isOpen).map(\.id) } }

    func flow<T>(_ id: UInt32, _ body: (Flow) -> T) -> T? {
        lock.withLock { flows[id].map(body) }
    }

    /// The flows of ever that are secured.
    var securedCount: Int { lock.withLock { flows.values.count { $0.securedAt != nil } } }

    // MARK: - One turn

    private func turn() {
        accept()
        for id in live { if let flow = flows[id] { serve(flow) } }
        live.removeAll { id in flows[id].map { $0.state == .retired && isOver($0) } ?? true }
        listen()
        judge()
    }

    private func accept() {
        for listener in listeners {
            while true {
                var storage = sockaddr_storage()
                var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
                let fd = withUnsafeMutablePointer(to: &storage) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        Glibc.accept(listener, $0, &size)
                    }
                }
                guard fd >= 0 else { break }
                _ = fcntl(fd, F_SETFL, O_NONBLOCK)
                _ = fcntl(fd, F_SETFD, FD_CLOEXEC)
                let port = withUnsafeBytes(of: &storage) { UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self)) }
                guard let id = byClientPort[port], let flow = flows[id], flow.isOpen, flow.sockets[1] < 0 else {
                    Glibc.close(fd)
                    continue
                }
                var one: Int32 = 1
                setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
                flow.sockets[1] = fd
            }
        }
    }

    private func serve(_ flow: Flow) {
        let now = Traffic.now()
        for end in 0...1 {
            receive(flow, end, now)
            guard flow.sockets[end] >= 0, now >= flow.nextSend[end], flow.broken == nil, flow.state != .retired else { continue }
            if end == 1, !flow.isEager, flow.received[0] == 0 { continue }
            flow.nextSend[end] = now + UInt64(Double(dice.within(12...45)) * 1e6 * pace)
            send(flow, end)
        }
    }

    private func send(_ flow: Flow, _ end: Int) {
        let fd = flow.sockets[end]
        if !flow.left[end].isEmpty {
            let n = Glibc.send(fd, flow.left[end], flow.left[end].count, Int32(MSG_NOSIGNAL))
            if n > 0 { flow.left[end].removeFirst(n) } else { failed(flow, end) }
            return
        }
        let unit = Int(ND_MARKER_BYTES)
        var units = flow.isTCP ? 1 : dice.pick([1, 2, 4, 16, 40])
        var messages = 1
        if dice.oneIn(40) { if flow.isTCP { messages = dice.pick([4, 40, 400]) } else { units = 100 } }
        var bytes = [UInt8](repeating: 0, count: unit * units * messages)
        for message in 0..<messages {
            var marker = nd_marker(flow: flow.id, number: flow.sent[end] + 1 + UInt32(message), direction: UInt8(end), forged: false)
            for index in 0..<units {
                bytes.withUnsafeMutableBytes { raw in
                    guard let base = raw.bindMemory(to: UInt8.self).baseAddress else { return }
                    nd_marker_write(base + (message * units + index) * unit, &marker)
                }
            }
        }
        let n = Glibc.send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        guard n > 0 else {
            failed(flow, end)
            return
        }
        flow.sent[end] += UInt32(messages)
        if n < bytes.count { flow.left[end] = Array(bytes[n...]) }
    }

    private func failed(_ flow: Flow, _ end: Int) {
        switch errno {
        case EAGAIN, ENOTCONN, EINPROGRESS, EALREADY, ENOBUFS, EMSGSIZE: return
        case ECONNREFUSED where !flow.isTCP:
            if flow.state == .open, flow.refused == nil { flow.refused = "\(end == 0 ? "client" : "server"): connection refused" }
        case _ where flow.state == .retired: flow.hasEnded[end] = true
        case let error where flow.isTCP:
            // A route or an address that is missing now; the connection lives.
            if [ENETUNREACH, EHOSTUNREACH, ENETDOWN, EADDRNOTAVAIL, EINVAL, EPERM].contains(error), flow.received != [0, 0] { return }
            if flow.broken == nil { flow.broken = "\(end == 0 ? "client" : "server"): \(String(cString: strerror(error)))" }
        default: return
        }
    }

    private func receive(_ flow: Flow, _ end: Int, _ now: UInt64) {
        let fd = flow.sockets[end]
        guard fd >= 0 else { return }
        // What arrives here was sent by the other end.
        let direction = 1 - end
        for _ in 0..<64 {
            let n = recv(fd, &receiveBuffer, receiveBuffer.count, 0)
            if n == 0, flow.isTCP {
                flow.hasEnded[end] = true
                if flow.state == .open, flow.broken == nil { flow.broken = "\(end == 0 ? "client" : "server"): closed by the peer" }
                return
            }
            guard n > 0 else {
                if n < 0 { failed(flow, end) }
                return
            }
            if flow.isTCP {
                flow.partial[direction] += receiveBuffer[..<n]
                takeStream(flow, direction)
            } else {
                take(flow, direction, receiveBuffer, 0)
            }
        }
    }

    private func takeStream(_ flow: Flow, _ direction: Int) {
        let unit = Int(ND_MARKER_BYTES)
        var at = 0
        let bytes = flow.partial[direction]
        while at + unit <= bytes.count {
            take(flow, direction, bytes, at)
            at += unit
        }
        flow.partial[direction] = Array(bytes[at...])
    }

    private func take(_ flow: Flow, _ direction: Int, _ bytes: [UInt8], _ at: Int) {
        var marker = nd_marker()
        let genuine = bytes.withUnsafeBufferPointer { raw -> Bool in
            guard let base = raw.baseAddress, at + Int(ND_MARKER_BYTES) <= raw.count else { return false }
            return nd_marker_read(base + at, &marker) && !marker.forged
        }
        let now = Traffic.now()
        guard genuine, marker.flow == flow.id, Int(marker.direction) == direction else {
            flow.forgedAt.append(now)
            return
        }
        flow.received[direction] = max(flow.received[direction], marker.number)
        if flow.securedAt == nil { arrived.append((flow.id, direction, marker.number, now)) }
    }

    // MARK: - The wire

    private func listen() {
        var record = nd_wire_record()
        for _ in 0..<20_000 {
            guard nd_wire_next(wire, &buffer, buffer.count, &record) == 0 else { break }
            guard let host = host(ofInterface: record.ifindex) else { continue }
            see(record, host)
        }
        let missed = nd_capture_lost(wire)
        if missed > 0 { lost += Int(missed) }
    }

    private func host(ofInterface index: UInt32) -> Int? {
        if let known = hostOfInterface[index] { return known < 0 ? nil : known }
        let name =
            (try? Lab.inside("/run/netns/\(lab.wire)") { () -> String in
                var name = [CChar](repeating: 0, count: Int(IF_NAMESIZE))
                return if_indextoname(index, &name).map { String(cString: $0) } ?? ""
            }) ?? ""
        // p0 and x0 are alpha's, p1 and x1 beta's.
        let number = ["p", "x"].contains(name.first.map(String.init) ?? "") ? Int(name.dropFirst()) ?? -1 : -1
        hostOfInterface[index] = number
        return number < 0 ? nil : number
    }

    private func see(_ record: nd_wire_record, _ host: Int) {
        guard let kind = SentPacket.Kind(rawValue: Int(record.kind)) else { return }
        counts[kind.rawValue] += 1
        let kept = Int(record.kept)
        var packet = SentPacket(
            time: record.time_ns, host: host, kind: kind, length: Int(record.length), frame: Array(buffer[..<min(kept, 192)]), flow: nil,
            summary: "")
        if kind == .ike, record.tuple.valid { rememberCookies(record, kept) }
        // The kernel's ESP decrypts pages in place that a veth shares with the witness, so what lies there by now may
        // be the receiver's plaintext.
        if kind != .other, kind != .esp || !sharesPages {
            let count = Int(nd_markers_find(buffer, kept, &markers, Int32(markers.count)))
            for marker in markers[..<count] where !marker.forged {
                packet.flow = marker.flow
                if let flow = flows[marker.flow], flow.securedAt == nil {
                    flow.clearNumbers.insert(UInt64(marker.direction) << 32 | UInt64(marker.number))
                }
            }
        }
        if packet.flow == nil, kind == .clear { packet.flow = byKey[Self.key(record.tuple)] }
        if packet.flow == nil, record.quoted.valid { packet.flow = byKey[Self.key(record.quoted)] }
        if packet.flow != nil { packet.summary = Self.summary(record) }
        if packets.count < 60_000 || packet.flow != nil { packets.append(packet) }
    }

    private func rememberCookies(_ record: nd_wire_record, _ kept: Int) {
        let l4 = buffer[12] == 8 ? 34 : 54
        let at = l4 + 8 + (record.tuple.source_port == 4500 || record.tuple.destination_port == 4500 ? 4 : 0)
        if at + 16 <= kept { cookies = Array(buffer[at..<(at + 16)]) }
    }

    /// Those of the last ISAKMP message that was seen.
    var lastCookies: [UInt8] { lock.withLock { cookies.count == 16 ? cookies : [UInt8](repeating: 7, count: 16) } }

    private static func address(_ bytes: inout (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8)) -> IPAddress {
        withUnsafeBytes(of: &bytes) { raw in
            IPAddress(
                high: UInt64(bigEndian: raw.loadUnaligned(as: UInt64.self)),
                low: UInt64(bigEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
        }
    }

    private static func key(_ tuple: nd_wire_tuple) -> FlowKey {
        var tuple = tuple
        return FlowKey(
            local: Endpoint(address(&tuple.source), tuple.source_port), remote: Endpoint(address(&tuple.destination), tuple.destination_port),
            proto: tuple.protocol)
    }

    private static func summary(_ record: nd_wire_record) -> String {
        let flags = zip(["FIN", "SYN", "RST", "PSH", "ACK"], [1, 2, 4, 8, 16] as [UInt8]).filter { record.tcp_flags & $0.1 != 0 }
            .map(\.0).joined(separator: ",")
        let icmp = record.quoted.valid ? " type \(record.icmp_type) code \(record.icmp_code) about \(key(record.quoted))" : ""
        return "\(key(record.tuple))\(flags.isEmpty ? "" : " \(flags)")\(record.tuple.later_fragment ? " (later fragment)" : "")\(icmp), \(record.length) octets"
    }

    /// What arrived since the last turn and was not seen in clear: its flow is secured at both ends.
    private func judge() {
        for message in arrived {
            guard let flow = flows[message.flow], flow.securedAt == nil else { continue }
            if flow.clearNumbers.contains(UInt64(message.direction) << 32 | UInt64(message.number)) {
                flow.protectedRun[message.direction] = 0
                continue
            }
            // A stream's segment can begin amid a message, which is then not recognized: two prove it.
            flow.protectedRun[message.direction] += 1
            if flow.protectedRun[message.direction] >= 2 {
                flow.securedAt = message.time
                flow.clearNumbers = []
            }
        }
        arrived = []
    }

    // MARK: - What a trial takes away

    struct Harvest {
        var packets: [SentPacket]
        var counts: [Int]
        var leaks: [SentPacket]
        var lost: Int
    }

    /// Everything since the last one.
    func harvest() -> Harvest {
        lock.withLock {
            listen()
            judge()
            let leaks = packets.filter { packet in
                guard let flow = packet.flow.flatMap({ flows[$0] }), let since = flow.securedAt else { return false }
                return packet.time > since
            }
            defer {
                packets = []
                counts = counts.map { _ in 0 }
                lost = 0
            }
            return Harvest(packets: packets, counts: counts, leaks: leaks, lost: lost)
        }
    }
}
