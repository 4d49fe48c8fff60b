import Foundation
import Glibc
import NDCore
import Synchronization

/// connect() again and again to a listener where nobody waits: connections are taken off its queue between slices, so
/// that no other thread runs meanwhile.
public final class ConnectWork: @unchecked Sendable {
    public static let port: UInt16 = 7011

    private let lab: Lab
    private let listener: Int32
    private let target: Endpoint

    /// Any host of the lab may connect; `to` listens.
    public init(_ lab: Lab, to: Lab.Host, _ family: Lab.Family) throws {
        self.lab = lab
        let target = Endpoint(to.address(family), Self.port)
        self.target = target
        listener = try lab.inside(to) { try Servers.listen(target, blocks: false) }
    }

    deinit { close(listener) }

    /// Microseconds, median of so many connects.
    public func slice(from: Lab.Host, connects: Int) throws -> Double {
        let (target, listener) = (target, listener)
        return try lab.inside(from) {
            var times: [Double] = []
            // The queue takes as many.
            while times.count < connects {
                for _ in 0..<min(connects - times.count, Servers.backlog / 2) {
                    times.append(try Traffic.connectAndReset(target) * 1000)
                }
                while case let client = accept(listener, nil, nil), client >= 0 { close(client) }
            }
            return Scenarios.median(times)
        }
    }
}

/// One TCP connection that carries as much as it can for a while, again and again.
public final class TransferWork: @unchecked Sendable {
    public static let port: UInt16 = 7013

    private let lab: Lab
    private let from: Lab.Host
    private let connection: Traffic.Connection
    private let received = Atomic<Int>(0)
    private var sent = 0

    public init(_ lab: Lab, from: Lab.Host, to: Lab.Host, _ family: Lab.Family) throws {
        (self.lab, self.from) = (lab, from)
        let target = Endpoint(to.address(family), Self.port), source = from.address(family)
        let listener = try lab.inside(to) { try Servers.listen(target) }
        defer { close(listener) }
        connection = try lab.inside(from) { try Traffic.connectTCP(from: source, to: target) }
        let client = accept(listener, nil, nil)
        guard client >= 0 else {
            connection.close()
            throw Traffic.failure("accept")
        }
        let reader = Thread { [weak self] in
            var buffer = [UInt8](repeating: 0, count: 1 << 18)
            while case let count = recv(client, &buffer, buffer.count, 0), count > 0 {
                self?.received.add(count, ordering: .releasing)
            }
            close(client)
        }
        reader.start()
    }

    deinit { connection.close() }

    /// Gbit/s: until all that was sent in so many seconds has arrived.
    public func slice(seconds: Double) throws -> Double {
        let buffer = [UInt8](repeating: 0x61, count: 1 << 17)
        let begun = Instant.now(), end = begun.advanced(by: .seconds(seconds)), before = sent
        repeat {
            try Traffic.sendAll(connection.descriptor, buffer)
            sent += buffer.count
        } while Instant.now() < end
        while received.load(ordering: .acquiring) < sent {
            guard Instant.now().since(end).seconds < 20 else { throw NDError("traffic.stalled", "the transfer stalled") }
            usleep(50)
        }
        return Double(sent - before) * 8 / Instant.now().since(begun).seconds / 1e9
    }
}

extension Traffic {
    /// Milliseconds of the connect(). The connection is reset, so that none lingers in TIME_WAIT.
    static func connectAndReset(_ target: Endpoint) throws -> Double {
        let fd = socket(family(target.address), Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw failure("socket") }
        defer { close(fd) }
        var reset = linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, socklen_t(MemoryLayout<linger>.size))
        setTimeouts(fd, seconds: 10)
        return try withAddress(target) { address, size in
            let begun = Instant.now()
            guard connect(fd, address, size) == 0 else { throw failure("connect") }
            return Instant.now().since(begun).milliseconds
        }
    }
}
