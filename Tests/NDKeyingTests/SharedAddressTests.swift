import NDCore
import Testing

@testable import NDKeying

/// Two hosts whose NAT gives them one address:
///
///     a 10.0.0.1 ---+
///                   +-- 10.0.0.77 ------ server 10.0.0.2
///     c 10.0.0.3 ---+
@Suite struct SharedAddressTests {
    private let outside = address("10.0.0.77")

    private func behindOne(
        _ server: (inout KeyingConfiguration) -> Void = { _ in }
    ) -> (a: SimulatedHost, c: SimulatedHost, server: SimulatedHost, net: SimulatedNetwork) {
        let a = SimulatedHost("10.0.0.1", seed: 1), c = SimulatedHost("10.0.0.3", seed: 3)
        let s = SimulatedHost("10.0.0.2", seed: 2, server)
        let net = SimulatedNetwork(a, c, s)
        let outside = outside
        net.translate = { packet in
            var packet = packet
            for (host, step) in [(a.address, UInt16(20000)), (c.address, 30000)] {
                if packet.from.address == host {
                    packet.from = Endpoint(outside, packet.from.port &+ step)
                } else if packet.to.address == outside, packet.to.port &- step == 500 || packet.to.port &- step == 4500 {
                    packet.to = Endpoint(host, packet.to.port &- step)
                }
            }
            return packet
        }
        return (a, c, s, net)
    }

    @Test func `each has a pair of its own, and none replaces the other's`() throws {
        let (a, c, server, net) = behindOne()
        net.negotiate(a, server)
        net.run(for: .seconds(1))
        net.negotiate(c, server)
        net.run(for: .seconds(1))
        #expect(server.established.count == 2 && server.removals.isEmpty)
        #expect(server.established.map(\.rekeyOf) == [nil, nil])
        let pairs = server.engine.pairs.values
        #expect(pairs.allSatisfy { $0.inbound.sharesAddress && $0.outbound.sharesAddress })
        #expect(Set(pairs.map(\.outbound.encapsulation)) == [
            .udp(localPort: 4500, remotePort: 24500), .udp(localPort: 4500, remotePort: 34500),
        ])
        // Hours later both have renewed their own.
        net.run(for: .seconds(4000))
        for host in [a, c] {
            #expect(host.established.count >= 2)
            #expect(host.removals.allSatisfy { $0 == .rekeyed || $0 == .deletedByPeer })
            let spi = try #require(host.engine.outbound)
            #expect(server.engine.pairs[spi] != nil, "the server has what \(host.address) sends on")
        }
    }

    @Test func `one that goes does not take the other along`() throws {
        let (a, c, server, net) = behindOne()
        net.negotiate(a, server)
        net.negotiate(c, server)
        net.run(for: .seconds(1))
        net.apply(a, a.machine.delete(a.peer(server), reason: .administrative, now: net.now))
        net.run(for: .seconds(1))
        #expect(server.removals == [.deletedByPeer])
        let spi = try #require(c.engine.outbound)
        #expect(server.engine.pairs[spi] != nil)
    }

    @Test func `an engine that can't tell them apart serves the first only, and keeps serving it`() throws {
        let (a, c, server, net) = behindOne { $0.separatesClients = false }
        net.negotiate(a, server)
        net.run(for: .seconds(1))
        net.negotiate(c, server)
        net.run(for: .seconds(60))
        #expect(server.established.count == 1 && server.removals.isEmpty && c.established.isEmpty)
        #expect(c.failures.count == 1)
        #expect(server.machine.counters[.limit] > 0)
        let spi = try #require(a.engine.outbound)
        #expect(server.engine.pairs[spi] != nil)
        // A second pair is wanted with the first one: not under the other's main mode, which is newer.
        let whole = PeerKey(local: server.address, remote: outside).fragments
        net.apply(server, server.machine.negotiate(whole, now: net.now))
        net.run(for: .seconds(1))
        #expect(a.established.count == 2 && c.established.isEmpty)
        // When the first has gone, the second may come.
        net.apply(a, a.machine.delete(a.peer(server), reason: .administrative, now: net.now))
        net.run(for: .seconds(1))
        net.negotiate(c, server)
        net.run(for: .seconds(2))
        #expect(c.established.count == 1)
    }
}
