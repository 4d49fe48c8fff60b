import CESP
import CNDABI
import Foundation
import Glibc
import NDCore
import Testing

@testable import NDEngine

private func pair(
    inbound: UInt32, outbound: UInt32, suite: ESPSuite = .aesGCM16(keyBits: 128), peer remote: IPAddress = bob4, context: UInt32 = 0
) throws -> (InboundSA, OutboundSA) {
    var a = testSA(.inbound, suite: suite, spi: inbound, remote: remote)
    var b = testSA(.outbound, suite: suite, spi: outbound, remote: remote)
    a.peer.context = context
    b.peer.context = context
    return try (InboundSA(a, library: bestLibrary, workers: 1), OutboundSA(b, library: bestLibrary, workers: 1))
}

struct InstallTests {
    @Test("An inbound SPI is installed once, an outbound one once for a peer, and a refusal changes nothing")
    func twice() throws {
        let table = SATable()
        let (a, b) = try pair(inbound: 1000, outbound: 2000)
        try table.install(inbound: a, outbound: b)
        for (inbound, outbound) in [(1000, 2001), (1001, 2000)] as [(UInt32, UInt32)] {
            let (c, d) = try pair(inbound: inbound, outbound: outbound)
            #expect(throws: NDError.self) { try table.install(inbound: c, outbound: d) }
        }
        #expect(table.statuses().count == 2)
        #expect(table.inbound(1000) === a)
        let (e, f) = try pair(inbound: 1002, outbound: 2000, peer: IPAddress("192.0.2.7")!)
        try table.install(inbound: e, outbound: f)
        #expect(table.statuses().count == 4)
    }

    @Test("Removing a pair of one context leaves another context's traffic alone")
    func contexts() throws {
        let table = SATable()
        let (a, b) = try pair(inbound: 1000, outbound: 2000)
        let (c, d) = try pair(inbound: 1001, outbound: 2000, context: 5)
        try table.install(inbound: a, outbound: b)
        try table.install(inbound: c, outbound: d)
        try table.activate(d.sa.peer, spi: 2000)
        table.remove(b.sa.peer, inbound: 1000, outbound: 2000)
        #expect(table.outbound(local: alice4, remote: bob4) === d)
        table.remove(d.sa.peer, inbound: 1001, outbound: 2000)
        #expect(table.outbound(local: alice4, remote: bob4) == nil)
        #expect(table.statuses().count == 0)
    }

    @Test("When the youngest pair goes, the one before carries the traffic again")
    func collision() throws {
        let table = SATable()
        let (a, b) = try pair(inbound: 1000, outbound: 2000)
        let (c, d) = try pair(inbound: 1001, outbound: 2001)
        try table.install(inbound: a, outbound: b)
        try table.install(inbound: c, outbound: d)
        #expect(table.outbound(local: alice4, remote: bob4) == nil)
        try table.activate(b.sa.peer, spi: 2000)
        try table.activate(d.sa.peer, spi: 2001)
        #expect(table.outbound(local: alice4, remote: bob4) === d)
        table.remove(d.sa.peer, inbound: 1001, outbound: 2001)
        #expect(table.outbound(local: alice4, remote: bob4) === b)
    }

    @Test("A suite with the wrong amount of keying material is refused")
    func keymat() {
        var sa = testSA(.outbound)
        sa.keymat = SecretBytes([1, 2, 3])
        #expect(throws: NDError.self) { try OutboundSA(sa, library: bestLibrary, workers: 2) }
        sa = testSA(.outbound, suite: .aesGCM16(keyBits: 136))
        #expect(throws: NDError.self) { try OutboundSA(sa, library: bestLibrary, workers: 2) }
    }

    @Test("A path lets go of a removed SA though no packet comes")
    func forgets() throws {
        weak var gone: InboundSA?
        let table = SATable()
        let counters = WorkerCounters()
        let path = InboundPath(
            worker: 0, table: table, counters: counters, events: RecordedEvents(), coalescer: Coalescer(tun: -1, counters: counters))
        func use() throws {
            let (a, b) = try pair(inbound: 1000, outbound: 2000)
            gone = a
            try table.install(inbound: a, outbound: b)
            var packet = big32(1000) + [UInt8](repeating: 1, count: 60)
            packet.withUnsafeMutableBytes {
                path.handleUDP($0.baseAddress!, size: 64, segment: 0, from: a.from, port: 1, to: a.to, localPort: 1)
            }
            #expect(counters.dropped(ND_DROP_AUTHENTICATION) == 1)
            table.remove(a.sa.peer, inbound: 1000, outbound: 2000)
        }
        try use()
        #expect(gone != nil)
        path.forgetRemoved()
        #expect(gone == nil)
    }

    @Test("Sockets that can't all be opened leave no descriptor behind")
    func descriptors() async throws {
        let (before, after) = try await Net.alone {
            // Holds the IPv6 port without SO_REUSEPORT, so that the second socket fails.
            let blocker = socket(AF_INET6, Int32(SOCK_DGRAM.rawValue), 0)
            defer { close(blocker) }
            var only: Int32 = 1
            setsockopt(blocker, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &only, 4)
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = Net.enginePort.bigEndian
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(blocker, $0, socklen_t(MemoryLayout<sockaddr_in6>.size)) }
            }
            guard bound == 0 else { throw NDError("test.bind", "can't bind") }
            let before = socketsOfThisNamespace()
            for _ in 0..<50 { _ = try? WorkerSockets(port: Net.enginePort, mark: 0, buffer: 4096, readsNative: true) }
            return (before, socketsOfThisNamespace())
        }
        #expect(before == after)
    }
}

/// UDP sockets of the thread's namespace: other tests open descriptors in the meantime.
private func socketsOfThisNamespace() -> [Int] {
    ["udp", "udp6", "raw", "raw6"].map {
        ((try? String(contentsOfFile: "/proc/thread-self/net/\($0)", encoding: .utf8)) ?? "").split(separator: "\n").count
    }
}
