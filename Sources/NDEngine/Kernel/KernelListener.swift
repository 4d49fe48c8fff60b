import CESP
import CNetlink
import Foundation
import Glibc
import NDCore
import Synchronization

/// What comes to a kernel engine unasked: IKE on UDP 4500 (the kernel takes the ESP out of it), and
/// the kernel's notices about SAs and policies.
final class KernelListener: @unchecked Sendable {
    private static let bufferBytes = 256 << 10

    let ikeDatagrams = Atomic<UInt64>(0)
    private let port: UInt16
    private weak var engine: KernelEngine?
    private let events: any EngineEvents
    private let udp4: Int32
    private let udp6: Int32
    private let notices: Int32
    private let wake: Int32
    private let running = Atomic<Bool>(true)
    private let finished = DispatchSemaphore(value: 0)
    private var buffer = [UInt8](repeating: 0, count: bufferBytes)

    init(port: UInt16, engine: KernelEngine, events: any EngineEvents) throws {
        self.port = port
        self.engine = engine
        self.events = events
        var opened: [Int32] = []
        func open(_ what: String, _ fd: Int32) throws -> Int32 {
            guard fd >= 0 else {
                for fd in opened { close(fd) }
                throw NDError(
                    "engine.socket", "can't open the \(what) socket: \(String(cString: strerror(-fd)))",
                    hint: -fd == EADDRINUSE
                        ? "another IKE daemon holds UDP \(port); `ss -ulpn` names it" : "root is needed")
            }
            opened.append(fd)
            return fd
        }
        udp4 = try open("UDP \(port)", nd_udp_encapsulating_open(false, port))
        // Without IPv6 in the kernel there is nobody to serve.
        let six = nd_udp_encapsulating_open(true, port)
        udp6 = -six == EAFNOSUPPORT ? -1 : try open("UDP \(port) IPv6", six)
        notices = try open("XFRM notice", nd_netlink_open(NETLINK_XFRM, XFRMNotice.groups))
        wake = try open("wake-up", nd_event_open())
    }

    var ikeDescriptors: [Int32] { [udp4, udp6].filter { $0 >= 0 } }

    deinit { for fd in [udp4, udp6, notices, wake] where fd >= 0 { close(fd) } }

    func start() {
        let thread = Thread { [self] in
            run()
            finished.signal()
        }
        thread.name = "nd-xfrm"
        thread.start()
    }

    func stop() {
        running.store(false, ordering: .relaxed)
        nd_event_signal(wake)
        _ = finished.wait(timeout: .now() + 2)
    }

    func sendIKE(_ datagram: [UInt8], from: Endpoint, to: Endpoint) {
        var source = nd_addr16(from.address)
        var destination = nd_addr16(to.address)
        let ipv6 = !to.address.isIPv4
        let fd = ipv6 ? udp6 : udp4
        guard fd >= 0 else { return }
        _ = nd_udp_send(fd, ipv6, datagram, datagram.count, 0, &source, &destination, to.port)
    }

    private func run() {
        var wait = nd_wait()
        withUnsafeMutableBytes(of: &wait.fds) { raw in
            let fds = raw.bindMemory(to: Int32.self)
            fds[0] = wake
            fds[1] = udp4
            fds[2] = udp6
            fds[3] = notices
        }
        wait.count = 4
        while running.load(ordering: .relaxed) {
            let ready = nd_wait_readable(&wait, 1000)
            guard ready > 0 else { continue }
            if ready & 1 != 0 { nd_event_clear(wake) }
            if ready & 0b10 != 0 { read(udp4, ipv6: false) }
            if ready & 0b100 != 0 { read(udp6, ipv6: true) }
            if ready & 0b1000 != 0 { readNotices() }
        }
    }

    private func read(_ fd: Int32, ipv6: Bool) {
        for _ in 0..<64 {
            var segment: UInt16 = 0
            var senderPort: UInt16 = 0
            var from = nd_addr16()
            var to = nd_addr16()
            let size = nd_udp_receive(fd, ipv6, &buffer, 65_536, &segment, &from, &senderPort, &to)
            guard size >= 0 else { return }
            // A keepalive is one byte; ESP of no SA of ours may end up here too.
            guard size >= 4, buffer.prefix(4).allSatisfy({ $0 == 0 }) else { continue }
            ikeDatagrams.add(1, ordering: .relaxed)
            events.ikeDatagram(
                Array(buffer.prefix(Int(size))), local: Endpoint(to.address, port),
                remote: Endpoint(from.address, senderPort))
        }
    }

    private func readNotices() {
        for _ in 0..<256 {
            let size = nd_netlink_receive(notices, &buffer, buffer.count, 0)
            if size == -ENOBUFS {
                // Notices were lost: look for what is gone.
                reconcile("notices of the kernel were lost")
                continue
            }
            guard size >= 0 else { return }
            var messages = NetlinkMessage.parse(buffer.prefix(Int(size)))
            buffer.withUnsafeMutableBytes { UnsafeMutableRawBufferPointer(rebasing: $0[..<Int(size)]).wipe() }
            for index in messages.indices {
                if let notice = XFRMNotice.decode(messages[index]) { handle(notice) }
                messages[index].wipe()
            }
        }
    }

    private func handle(_ notice: XFRMNotice) {
        guard let engine else { return }
        switch notice {
        case .softExpired(let sa):
            if let peer = engine.owner(destination: sa.destination, spi: sa.spi) {
                events.softExpired(spi: sa.spi, peer: peer)
            }
        case .hardExpired(let sa):
            if let peer = engine.owner(destination: sa.destination, spi: sa.spi) {
                events.expired(spi: sa.spi, peer: peer)
            }
        case .removed(let destination, let spi):
            guard let peer = engine.owner(destination: destination, spi: spi) else { return }
            events.engineLog("somebody else deleted the SA \(String(spi, radix: 16)) with \(peer.remote)")
            events.expired(spi: spi, peer: peer)
        case .flushedStates:
            reconcile("somebody flushed all SAs of this host")
        case .policiesChanged:
            if engine.restorePolicies() {
                events.engineLog("somebody deleted the policies of \(engine.configuration.deviceName): they are back")
            }
        case .acquire(let local, let remote, let interfaceID):
            guard interfaceID == engine.interfaceID else { return }
            events.acquire(PeerKey(local: local, remote: remote))
        }
    }

    private func reconcile(_ why: String) {
        guard let engine else { return }
        let present = Set(engine.states().map(\.spi))
        let gone = engine.owned().filter { !present.contains($0.inboundSPI) }
        guard !gone.isEmpty else { return }
        events.engineLog("\(why): \(gone.count) pairs of ndbpf are gone")
        for (peer, spi) in gone { events.expired(spi: spi, peer: peer) }
    }
}

/// The addresses of this network namespace.
enum LocalEndpoints {
    static func addresses() -> [IPAddress] {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else { return [] }
        defer { freeifaddrs(first) }
        var all: [IPAddress] = []
        var next = first
        while let entry = next {
            next = entry.pointee.ifa_next
            guard let address = entry.pointee.ifa_addr else { continue }
            switch Int32(address.pointee.sa_family) {
            case AF_INET:
                address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { four in
                    withUnsafeBytes(of: four.pointee.sin_addr) { if let found = IPAddress(bytes: $0) { all.append(found) } }
                }
            case AF_INET6:
                address.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { six in
                    withUnsafeBytes(of: six.pointee.sin6_addr) { if let found = IPAddress(bytes: $0) { all.append(found) } }
                }
            default: continue
            }
        }
        return all
    }
}
