import CNDABI
import Foundation
import NDABI
import NDCore
import NDPolicy
import Testing

@testable import NDDatapath

/// Connections over the loopback of a namespace of their own.
@Suite("Secured TCP connections whose socket is gone")
struct GoneSocketsTests {
    private static let minute: UInt64 = 60_000_000_000
    private static let securedIdle = 10 * minute

    private struct Pair: Sendable {
        var client: Int32
        var server: Int32
        var listener: Int32
        var key: FlowKey
    }

    private func connect(_ family: IPFamily) throws -> Pair {
        let isIPv4 = family == .v4
        var storage = sockaddr_storage()
        var size = socklen_t(isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
        withUnsafeMutableBytes(of: &storage) { raw in
            raw.storeBytes(of: sa_family_t(isIPv4 ? AF_INET : AF_INET6), as: sa_family_t.self)
            if isIPv4 { (raw[4], raw[7]) = (127, 1) } else { raw[23] = 1 }
        }
        func call(_ body: (UnsafeMutablePointer<sockaddr>) -> Int32) throws -> Int32 {
            let result = withUnsafeMutablePointer(to: &storage) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1, body) }
            guard result >= 0 else { throw NDError("test.socket", String(cString: strerror(errno))) }
            return result
        }
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let listener = socket(isIPv4 ? AF_INET : AF_INET6, type, 0)
        _ = try call { bind(listener, $0, size) }
        _ = try call { _ in listen(listener, 4) }
        _ = try call { getsockname(listener, $0, &size) }
        let port = withUnsafeBytes(of: &storage) { UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self)) }
        let client = socket(isIPv4 ? AF_INET : AF_INET6, type, 0)
        _ = try call { Glibc.connect(client, $0, size) }
        let server = try call { _ in accept(listener, nil, nil) }
        _ = try call { getsockname(client, $0, &size) }
        let own = withUnsafeBytes(of: &storage) { UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self)) }
        let address = isIPv4 ? IPAddress(high: 0, low: 0xffff_7f00_0001) : IPAddress(high: 0, low: 1)
        return Pair(
            client: client, server: server, listener: listener,
            key: FlowKey(local: Endpoint(address, own), remote: Endpoint(address, port), proto: IPProtocol.tcp))
    }

    @Test("An open connection is never gone; a closed one is after a minute, behind NAT after its own end and longer", arguments: families)
    func gone(_ family: IPFamily) throws {
        let name = "ndgone\(getpid())\(family == .v4 ? 4 : 6)"
        try StateBefore.run("ip", "netns", "add", name)
        defer { try? StateBefore.run("ip", "netns", "del", name) }
        try StateBefore.run("ip", "-n", name, "link", "set", "lo", "up")
        try StateBefore.inside(name) { [self] in
            var flow = nd_flow()
            let pair = try connect(family)
            defer { close(pair.listener) }
            let open = try GoneSockets()
            for key in [pair.key, FlowKey(local: pair.key.remote, remote: pair.key.local, proto: IPProtocol.tcp)] {
                #expect(!open.has(key, flow, idle: 1000 * Self.minute, securedIdle: Self.securedIdle))
            }
            // Without a word to the other side, and without TIME-WAIT.
            for descriptor in [pair.client, pair.server] {
                var one: Int32 = 1
                try #require(setsockopt(descriptor, Int32(IPPROTO_TCP), 19 /* TCP_REPAIR */, &one, 4) == 0)
                close(descriptor)
            }
            let closed = try GoneSockets()
            #expect(closed.has(pair.key, flow, idle: Self.minute + 1, securedIdle: Self.securedIdle))
            #expect(!closed.has(pair.key, flow, idle: Self.minute, securedIdle: Self.securedIdle), "too young")
            var other = pair.key
            other.local = Endpoint(IPAddress(high: 0, low: 0xffff_0a09_0001), 1)
            #expect(!closed.has(other, flow, idle: 1000 * Self.minute, securedIdle: Self.securedIdle), "not this host's address")
            other = pair.key
            other.proto = IPProtocol.udp
            #expect(!closed.has(other, flow, idle: 1000 * Self.minute, securedIdle: Self.securedIdle), "not TCP")

            let file = family == .v4 ? "/proc/sys/net/ipv4/conf/lo/forwarding" : "/proc/sys/net/ipv6/conf/lo/forwarding"
            try "1".write(toFile: file, atomically: false, encoding: .utf8)
            let router = try GoneSockets()
            #expect(!router.has(pair.key, flow, idle: 1000 * Self.minute, securedIdle: Self.securedIdle), "somebody behind this host may have it")
            flow.flags = ND_FLOW_FIN_OUT
            #expect(!router.has(pair.key, flow, idle: Self.securedIdle, securedIdle: Self.securedIdle))
            #expect(router.has(pair.key, flow, idle: Self.securedIdle + 1, securedIdle: Self.securedIdle))
        }
    }
}
