import Foundation
import NDCore
import NDLab
import Testing

@Suite("Discovery on the wire", .serialized)
struct DiscoveryScenarioTests {
    /// A host that swallows IKE: no answer, no ICMP error.
    private func swallowIKE(_ stage: Stage) throws -> Int32 {
        let address = stage.gamma.ipv4
        return try stage.lab.inside(stage.gamma) { try Traffic.openUDP(Endpoint(address, 500)) }
    }

    @Test("Retries follow the back-off of the negative cache, and the clear answer stops retransmission")
    func backOff() throws {
        let stage = try Stage("bo", beta: nil, negativeCache: "1s")
        defer { stage.close() }
        let silent = try swallowIKE(stage)
        defer { close(silent) }
        let capture = try PacketCapture(stage.lab, stage.alpha)
        let source = stage.alpha.ipv4
        let target = Endpoint(stage.gamma.ipv4, Servers.echoPort)
        // A new connection every 100 ms for 6 s asks each time it may.
        try stage.lab.inside(stage.alpha) {
            for _ in 0..<60 {
                let connection = try Traffic.connectTCP(from: source, to: target)
                try Traffic.echo(connection)
                connection.close()
                usleep(100_000)
            }
        }
        let first = try capture.stop().filter { $0.outgoing && $0.isFirstIKEMessage }
        var starts: [UInt64: UInt64] = [:]
        for packet in first where starts[packet.ikeInitiatorCookie] == nil {
            starts[packet.ikeInitiatorCookie] = packet.time
        }
        let times = starts.values.sorted()
        // 0.5 s of waiting for an answer and 1, 2, 4 s of cache: two or three attempts in 6 s.
        #expect((2...3).contains(times.count), "\(times.count) negotiations")
        #expect(first.count == times.count, "\(first.count) messages for \(times.count) negotiations: the clear answer stops retransmission")
        if times.count >= 3 {
            let gaps = zip(times.dropFirst(), times).map { Double($0 - $1) / 1e9 }
            #expect(gaps[1] > gaps[0] * 1.3, "gaps \(gaps)")
        }
    }

    @Test("A scan of many addresses starts no storm of negotiations")
    func scan() throws {
        let stage = try Stage("sc", beta: nil)
        defer { stage.close() }
        try Shell.run("ip", "-n", stage.alpha.namespace, "route", "add", "10.88.0.0/16", "via", "\(stage.gamma.ipv4)")
        let source = stage.alpha.ipv4
        try stage.lab.inside(stage.alpha) {
            let fd = try Traffic.openUDP(Endpoint(source, 0))
            defer { close(fd) }
            for index in 0..<1000 {
                guard let address = IPAddress("10.88.\(index / 250).\(index % 250 + 1)") else { continue }
                Traffic.sendUDP(fd, Array("scan".utf8), to: Endpoint(address, 9))
            }
        }
        usleep(500_000)
        let status = try #require(try stage.json(stage.alpha, "status") as? [String: Any])
        let negotiations = try #require(status["negotiations"] as? [String: Int])
        // The budget: 50 at once and 20 a second.
        #expect((1...90).contains(negotiations["started"] ?? 0), "\(negotiations)")
        #expect((negotiations["overBudget"] ?? 0) > 0, "\(negotiations)")
    }

    @Test("Multicast, broadcast and DHCP start no negotiation")
    func exempt() throws {
        let stage = try Stage("ex", beta: nil)
        defer { stage.close() }
        let capture = try PacketCapture(stage.lab, stage.alpha)
        let source = stage.alpha.ipv4
        let source6 = stage.alpha.ipv6
        try stage.lab.inside(stage.alpha) {
            let fd = try Traffic.openUDP(Endpoint(source, 68))
            defer { close(fd) }
            var on: Int32 = 1
            setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, 4)
            for target in ["10.77.0.255", "255.255.255.255", "224.0.0.251"] {
                guard let address = IPAddress(target) else { continue }
                Traffic.sendUDP(fd, Array("x".utf8), to: Endpoint(address, 5353), viaEth0: true)
            }
            // A DHCP renewal is unicast.
            guard let server = IPAddress("10.77.0.3"), let all = IPAddress("ff02::fb") else { return }
            Traffic.sendUDP(fd, Array("x".utf8), to: Endpoint(server, 67))
            let fd6 = try Traffic.openUDP(Endpoint(source6, 5353))
            defer { close(fd6) }
            Traffic.sendUDP(fd6, Array("x".utf8), to: Endpoint(all, 5353), viaEth0: true)
        }
        let packets = try capture.stop()
        #expect(packets.filter { $0.outgoing && $0.proto == IPProtocol.udp && $0.kind == .clear }.count >= 4)
        #expect(!packets.contains { $0.kind == .ike })
        let status = try #require(try stage.json(stage.alpha, "status") as? [String: Any])
        #expect((status["negotiations"] as? [String: Int])?["started"] == 0)
    }
}
