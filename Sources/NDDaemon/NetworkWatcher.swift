import CNDSystem
import Foundation
import NDCore

/// Waits on a thread of its own for what the kernel tells: changed links and addresses, and ICMP
/// errors that quote our IKE datagrams.
final class NetworkWatcher: @unchecked Sendable {
    enum Notice: Sendable {
        case networkChanged
        /// Destination unreachable for a datagram that `local` sent to `remote`.
        case unreachable(local: Endpoint, remote: Endpoint)
    }

    private let route: Int32
    private let icmp: Int32
    private let icmpv6: Int32
    private let lock = NSLock()
    private var running = true
    private let finished = DispatchSemaphore(value: 0)

    init() throws {
        route = nd_route_monitor_open()
        icmp = nd_icmp_error_open(false)
        icmpv6 = nd_icmp_error_open(true)
        guard route >= 0, icmp >= 0, icmpv6 >= 0 else {
            throw NDError(
                "run.watch", "can't open netlink or ICMP sockets: \(String(cString: strerror(-min(route, icmp, icmpv6))))",
                hint: "CAP_NET_ADMIN and CAP_NET_RAW are needed")
        }
    }

    deinit {
        close(route)
        close(icmp)
        close(icmpv6)
    }

    func start(_ deliver: @escaping @Sendable (Notice) -> Void) {
        let thread = Thread { [self] in
            let descriptors = [route, icmp, icmpv6]
            while lock.withLock({ running }) {
                let ready = nd_poll(descriptors, Int32(descriptors.count), 200)
                guard ready >= 0 else { break }
                if ready & 1 != 0, nd_drain(route) > 0 { deliver(.networkChanged) }
                if ready & 2 != 0 { readErrors(icmp, ipv6: false, deliver) }
                if ready & 4 != 0 { readErrors(icmpv6, ipv6: true, deliver) }
            }
            finished.signal()
        }
        thread.name = "nd-network"
        thread.start()
    }

    func stop() {
        lock.withLock { running = false }
        _ = finished.wait(timeout: .now() + 1)
    }

    private func readErrors(_ fd: Int32, ipv6: Bool, _ deliver: (Notice) -> Void) {
        var buffer = [UInt8](repeating: 0, count: 2048)
        for _ in 0..<64 {
            let count = recv(fd, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            guard count > 0 else { return }
            if let (local, remote) = Self.quotedDatagram(Array(buffer.prefix(count)), ipv6: ipv6) {
                deliver(.unreachable(local: local, remote: remote))
            }
        }
    }

    /// Source and destination of the UDP datagram that a destination-unreachable message quotes.
    /// IPv4 raw sockets deliver the outer IP header too, IPv6 ones do not.
    static func quotedDatagram(_ message: [UInt8], ipv6: Bool) -> (local: Endpoint, remote: Endpoint)? {
        var at = 0
        if !ipv6 {
            guard let first = message.first else { return nil }
            at = Int(first & 0xf) * 4
        }
        guard message.count >= at + 8, message[at] == (ipv6 ? 1 : 3) else { return nil }
        // Code 4 of IPv4 type 3 is "fragmentation needed": the peer is there.
        if !ipv6, message[at + 1] == 4 { return nil }
        at += 8
        let source: IPAddress?
        let destination: IPAddress?
        if ipv6 {
            guard message.count >= at + 48, message[at + 6] == IPProtocol.udp else { return nil }
            source = IPAddress(bytes: message[(at + 8)..<(at + 24)])
            destination = IPAddress(bytes: message[(at + 24)..<(at + 40)])
            at += 40
        } else {
            guard message.count >= at + 20, message[at + 9] == IPProtocol.udp else { return nil }
            source = IPAddress(bytes: message[(at + 12)..<(at + 16)])
            destination = IPAddress(bytes: message[(at + 16)..<(at + 20)])
            at += Int(message[at] & 0xf) * 4
        }
        guard let source, let destination, message.count >= at + 4 else { return nil }
        let sourcePort = UInt16(message[at]) << 8 | UInt16(message[at + 1])
        let destinationPort = UInt16(message[at + 2]) << 8 | UInt16(message[at + 3])
        return (Endpoint(source, sourcePort), Endpoint(destination, destinationPort))
    }
}
