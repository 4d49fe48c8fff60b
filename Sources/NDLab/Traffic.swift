import CNDLab
import Foundation
import Glibc
import NDCore

/// Sockets as a user's program has them. Everything here blocks, so call it inside a host.
public enum Traffic {
    public static func now() -> UInt64 {
        var ts = timespec()
        clock_gettime(CLOCK_REALTIME, &ts)
        return UInt64(ts.tv_sec) &* 1_000_000_000 &+ UInt64(ts.tv_nsec)
    }

    static func failure(_ what: String) -> NDError {
        NDError("traffic.\(what)", "\(what): \(String(cString: strerror(errno)))")
    }

    static func withAddress<R>(_ endpoint: Endpoint, _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> R) rethrows -> R {
        var storage = sockaddr_storage()
        let bytes = endpoint.address.bytes
        let size: Int
        if endpoint.address.isIPv4 {
            size = MemoryLayout<sockaddr_in>.size
            withUnsafeMutableBytes(of: &storage) { raw in
                raw.storeBytes(of: sa_family_t(AF_INET), as: sa_family_t.self)
                raw.storeBytes(of: endpoint.port.bigEndian, toByteOffset: 2, as: UInt16.self)
                for (i, b) in bytes.enumerated() { raw[4 + i] = b }
            }
        } else {
            size = MemoryLayout<sockaddr_in6>.size
            withUnsafeMutableBytes(of: &storage) { raw in
                raw.storeBytes(of: sa_family_t(AF_INET6), as: sa_family_t.self)
                raw.storeBytes(of: endpoint.port.bigEndian, toByteOffset: 2, as: UInt16.self)
                for (i, b) in bytes.enumerated() { raw[8 + i] = b }
            }
        }
        return try withUnsafePointer(to: &storage) {
            try $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body($0, socklen_t(size)) }
        }
    }

    public static func bindSocket(_ fd: Int32, _ to: Endpoint) -> Bool { withAddress(to) { bind(fd, $0, $1) } == 0 }
    /// Whatever connect() answers: of a socket that does not wait it is no failure.
    public static func connectSocket(_ fd: Int32, _ to: Endpoint) -> Int32 { withAddress(to) { connect(fd, $0, $1) } }

    static func family(_ address: IPAddress) -> Int32 { address.isIPv4 ? AF_INET : AF_INET6 }

    static func setTimeouts(_ fd: Int32, seconds: Double) {
        var time = timeval(tv_sec: Int(seconds), tv_usec: Int((seconds - seconds.rounded(.down)) * 1e6))
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    /// A connected TCP socket with what the connect() cost.
    public struct Connection: Sendable {
        public let descriptor: Int32
        /// CLOCK_REALTIME just before connect().
        public let began: UInt64
        public let milliseconds: Double
        public let flow: FlowKey

        public func close() { Glibc.close(descriptor) }
    }

    public static func connectTCP(
        from: IPAddress, to: Endpoint, sourcePort: UInt16 = 0, timeoutSeconds: Double = 10
    ) throws -> Connection {
        let fd = socket(family(to.address), Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw failure("socket") }
        var one: Int32 = 1
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, 4)
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        setTimeouts(fd, seconds: timeoutSeconds)
        guard withAddress(Endpoint(from, sourcePort), { bind(fd, $0, $1) }) == 0 else {
            let error = failure("bind")
            Glibc.close(fd)
            throw error
        }
        let began = now()
        let start = Instant.now()
        guard withAddress(to, { connect(fd, $0, $1) }) == 0 else {
            let error = failure("connect")
            Glibc.close(fd)
            throw error
        }
        let elapsed = Instant.now().since(start).milliseconds
        return Connection(
            descriptor: fd, began: began, milliseconds: elapsed,
            flow: FlowKey(local: Endpoint(from, localPort(fd)), remote: to, proto: IPProtocol.tcp))
    }

    public static func localPort(_ fd: Int32) -> UInt16 {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        _ = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &size) }
        }
        return withUnsafeBytes(of: &storage) { UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self)) }
    }

    public static func sendAll(_ fd: Int32, _ bytes: [UInt8]) throws {
        var at = 0
        while at < bytes.count {
            let n = bytes.withUnsafeBytes {
                Glibc.send(fd, $0.baseAddress?.advanced(by: at), bytes.count - at, Int32(MSG_NOSIGNAL))
            }
            guard n > 0 else { throw failure("send") }
            at += n
        }
    }

    public static func receiveExactly(_ fd: Int32, _ count: Int) throws -> [UInt8] {
        var out = [UInt8](repeating: 0, count: count)
        var at = 0
        while at < count {
            let n = out.withUnsafeMutableBytes { recv(fd, $0.baseAddress?.advanced(by: at), count - at, 0) }
            if n == 0 { throw NDError("traffic.closed", "the peer closed after \(at) of \(count) bytes") }
            guard n > 0 else { throw failure("receive") }
            at += n
        }
        return out
    }

    /// Sends a message to an echo server and waits for it; returns milliseconds.
    @discardableResult
    public static func echo(_ connection: Connection, _ bytes: [UInt8] = Array("ndbpf?".utf8)) throws -> Double {
        let start = Instant.now()
        try sendAll(connection.descriptor, bytes)
        guard try receiveExactly(connection.descriptor, bytes.count) == bytes else {
            throw NDError("traffic.echo", "the echo differs")
        }
        return Instant.now().since(start).milliseconds
    }

    /// A UDP socket of this address; connected when `to` is given.
    public static func openUDP(_ local: Endpoint, to: Endpoint? = nil, timeoutSeconds: Double = 3) throws -> Int32 {
        let fd = socket(family(local.address), Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw failure("socket") }
        setTimeouts(fd, seconds: timeoutSeconds)
        var size: Int32 = 4 << 20
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, 4)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, 4)
        guard withAddress(local, { bind(fd, $0, $1) }) == 0,
            to.map({ withAddress($0) { connect(fd, $0, $1) } }) ?? 0 == 0
        else {
            let error = failure("udp")
            Glibc.close(fd)
            throw error
        }
        return fd
    }

    /// Sends a datagram and waits for the same one back; nil when none came in time.
    public static func echoUDP(_ fd: Int32, _ bytes: [UInt8]) throws -> [UInt8]? {
        guard Glibc.send(fd, bytes, bytes.count, 0) == bytes.count else { throw failure("send") }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let n = recv(fd, &buffer, buffer.count, 0)
        return n < 0 ? nil : Array(buffer.prefix(n))
    }

    /// Bytes that a receiver can check one by one: block number n is a fixed function of n.
    public static func block(_ number: UInt64, into buffer: UnsafeMutableRawBufferPointer) {
        var state = number &* 0x9e37_79b9_7f4a_7c15 | 1
        let words = buffer.bindMemory(to: UInt64.self)
        for index in words.indices {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            words[index] = state
        }
    }

    public static let blockBytes = 65_536
}

/// Servers on a host: TCP and UDP echo, TCP sink that checks what it gets. Bounded by `close`.
public final class Servers: @unchecked Sendable {
    public static let echoPort: UInt16 = 7007
    public static let sinkPort: UInt16 = 7009

    private let lock = NSLock()
    private var running = true
    private var descriptors: [Int32] = []

    public init(_ lab: Lab, _ host: Lab.Host, addresses: [IPAddress]? = nil) throws {
        for address in addresses ?? [host.ipv4, host.ipv6] {
            let (tcp, udp, sink) = try lab.inside(host) {
                (
                    try Self.listen(Endpoint(address, Self.echoPort)),
                    try Traffic.openUDP(Endpoint(address, Self.echoPort), timeoutSeconds: 0.2),
                    try Self.listen(Endpoint(address, Self.sinkPort))
                )
            }
            descriptors += [tcp, udp, sink]
            accept(on: tcp) { [weak self] fd in self?.echo(fd) }
            accept(on: sink) { [weak self] fd in self?.sink(fd) }
            spawn { [weak self] in
                var buffer = [UInt8](repeating: 0, count: 65_536)
                while self?.isRunning == true {
                    var from = sockaddr_storage()
                    var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
                    withUnsafeMutablePointer(to: &from) {
                        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { from in
                            let n = recvfrom(udp, &buffer, buffer.count, 0, from, &size)
                            if n > 0 { sendto(udp, buffer, n, 0, from, size) }
                        }
                    }
                }
            }
        }
    }

    deinit { close() }

    public func close() {
        let open = lock.withLock { () -> [Int32] in
            running = false
            defer { descriptors = [] }
            return descriptors
        }
        for fd in open {
            shutdown(fd, Int32(SHUT_RDWR))
            Glibc.close(fd)
        }
    }

    private var isRunning: Bool { lock.withLock { running } }

    static let backlog = 1024

    static func listen(_ endpoint: Endpoint, blocks: Bool = true) throws -> Int32 {
        let fd = socket(
            Traffic.family(endpoint.address),
            Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | (blocks ? 0 : Int32(SOCK_NONBLOCK.rawValue)), 0)
        guard fd >= 0 else { throw Traffic.failure("socket") }
        var one: Int32 = 1
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, 4)
        guard Traffic.withAddress(endpoint, { bind(fd, $0, $1) }) == 0, Glibc.listen(fd, Int32(backlog)) == 0 else {
            throw Traffic.failure("listen")
        }
        return fd
    }

    private func spawn(_ body: @escaping @Sendable () -> Void) {
        let thread = Thread(block: body)
        thread.stackSize = 1 << 20
        thread.start()
    }

    private func accept(on fd: Int32, _ serve: @escaping @Sendable (Int32) -> Void) {
        spawn { [weak self] in
            while self?.isRunning == true {
                let client = Glibc.accept(fd, nil, nil)
                guard client >= 0 else {
                    if errno == EINTR || errno == ECONNABORTED { continue }
                    return
                }
                self?.spawn {
                    serve(client)
                    Glibc.close(client)
                }
            }
        }
    }

    private func echo(_ fd: Int32) {
        var one: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while isRunning {
            let n = recv(fd, &buffer, buffer.count, 0)
            guard n > 0 else { return }
            var at = 0
            while at < n {
                let sent = buffer.withUnsafeBytes {
                    send(fd, $0.baseAddress?.advanced(by: at), n - at, Int32(MSG_NOSIGNAL))
                }
                guard sent > 0 else { return }
                at += sent
            }
        }
    }

    /// Compares every block with what it must be; answers with the count of good bytes at the end.
    private func sink(_ fd: Int32) {
        let size = Traffic.blockBytes
        let got = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        let want = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        defer {
            got.deallocate()
            want.deallocate()
        }
        var number: UInt64 = 0
        var good: UInt64 = 0
        while true {
            var at = 0
            while at < size {
                let n = recv(fd, got.baseAddress?.advanced(by: at), size - at, 0)
                guard n > 0 else { break }
                at += n
            }
            Traffic.block(number, into: want)
            if at > 0, let a = got.baseAddress, let b = want.baseAddress, memcmp(a, b, at) == 0 { good += UInt64(at) }
            number += 1
            if at < size { break }
        }
        let answer = withUnsafeBytes(of: good.bigEndian) { Array($0) }
        try? Traffic.sendAll(fd, answer)
    }
}

extension Traffic {
    /// Sends `bytes` of checkable data to a sink; returns how many arrived unchanged and the
    /// longest time that no progress was made.
    public static func bulk(_ connection: Connection, bytes: Int) throws -> (good: UInt64, longestStall: Double) {
        setTimeouts(connection.descriptor, seconds: 60)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: blockBytes, alignment: 64)
        defer { buffer.deallocate() }
        var left = bytes
        var number: UInt64 = 0
        var stall = 0.0
        var last = Instant.now()
        while left > 0 {
            block(number, into: buffer)
            number += 1
            let size = min(left, blockBytes)
            var at = 0
            while at < size {
                let n = send(
                    connection.descriptor, buffer.baseAddress?.advanced(by: at), size - at,
                    Int32(MSG_NOSIGNAL))
                guard n > 0 else { throw failure("bulk send") }
                at += n
                let now = Instant.now()
                stall = max(stall, now.since(last).milliseconds)
                last = now
            }
            left -= size
        }
        shutdown(connection.descriptor, Int32(SHUT_WR))
        let answer = try receiveExactly(connection.descriptor, 8)
        return (answer.reduce(0) { $0 << 8 | UInt64($1) }, stall)
    }
}

extension Traffic {
    /// One datagram from an unconnected socket. `viaEth0` for destinations that need an interface.
    public static func sendUDP(_ fd: Int32, _ bytes: [UInt8], to: Endpoint, viaEth0: Bool = false) {
        if viaEth0 { setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5) }
        _ = withAddress(to) { sendto(fd, bytes, bytes.count, 0, $0, $1) }
    }
}
