import CESP
import Glibc
import NDCore

/// The sockets of one worker.
final class WorkerSockets: @unchecked Sendable {
    let udp4: Int32
    let udp6: Int32
    /// Protocol 50; every raw socket gets a copy of every packet, so only worker 0 reads them.
    let esp4: Int32
    let esp6: Int32

    init(port: UInt16, mark: UInt32, buffer: Int, readsNative: Bool) throws {
        var opened: [Int32] = []
        func open(_ what: String, _ fd: Int32) throws -> Int32 {
            guard fd >= 0 else {
                // A class that throws before all it has is set runs no deinit.
                for fd in opened { close(fd) }
                throw NDError(
                    "engine.socket", "can't open the \(what) socket: \(String(cString: strerror(-fd)))",
                    hint: -fd == EADDRINUSE
                        ? "another IKE daemon holds UDP \(port); `ss -ulpn` names it" : "root is needed")
            }
            opened.append(fd)
            return fd
        }
        udp4 = try open("UDP \(port)", nd_udp_open(false, port, mark, Int32(buffer)))
        udp6 = try open("UDP \(port) IPv6", nd_udp_open(true, port, mark, Int32(buffer)))
        esp4 = try open("ESP", nd_esp_open(false, mark, readsNative ? Int32(buffer) : 4096))
        esp6 = try open("ESP IPv6", nd_esp_open(true, mark, readsNative ? Int32(buffer) : 4096))
    }

    deinit { for fd in [udp4, udp6, esp4, esp6] { close(fd) } }

    /// Sends a batch of packets of `segment` bytes (the last may be shorter). Returns how many were
    /// lost.
    func send(_ sa: OutboundSA, _ data: UnsafeMutableRawPointer, size: Int, segment: Int, count: Int) -> Int {
        var from = sa.from
        var to = sa.to
        if sa.isNative {
            let sent = nd_esp_send(
                sa.isIPv6 ? esp6 : esp4, sa.isIPv6, data.assumingMemoryBound(to: UInt8.self), size,
                UInt32(segment), &from, &to)
            return count - max(0, Int(sent))
        }
        let fd = sa.isIPv6 ? udp6 : udp4
        let sent = nd_udp_send(
            fd, sa.isIPv6, data, size, count > 1 ? UInt16(truncatingIfNeeded: segment) : 0, &from, &to,
            sa.remotePort)
        if sent >= 0 { return 0 }
        guard count > 1, -sent == EINVAL || -sent == EMSGSIZE else { return count }
        // Segments above the path's MTU can't go as one: each by itself, for the kernel to fragment.
        var lost = 0
        var at = 0
        while at < size {
            let part = min(segment, size - at)
            if nd_udp_send(fd, sa.isIPv6, data + at, part, 0, &from, &to, sa.remotePort) < 0 { lost += 1 }
            at += part
        }
        return lost
    }

    func sendIKE(_ datagram: [UInt8], from: Endpoint, to: Endpoint) {
        var source = nd_addr16(from.address)
        var destination = nd_addr16(to.address)
        let ipv6 = !to.address.isIPv4
        _ = nd_udp_send(
            ipv6 ? udp6 : udp4, ipv6, datagram, datagram.count, 0, &source, &destination, to.port)
    }
}
