import Foundation
import NDCore
import NDDatapath
import NDLab
import Testing

@Suite("Tables of connections", .serialized)
struct TableTests {
    private func sizes(_ stage: Stage) throws -> [String: Int] {
        let maps = try #require(try stage.json(stage.alpha, "maps") as? [[String: Any]])
        return Dictionary(uniqueKeysWithValues: maps.map { ($0["name"] as? String ?? "", $0["capacity"] as? Int ?? 0) })
    }

    @Test("Their sizes are by the host's memory, or the policy's, or the command line's")
    func sizes() throws {
        let stage = try Stage("ts", alpha: nil, beta: nil)
        defer { stage.close() }
        let host = TableSizes.ofHost()
        for (policy, arguments, expected) in [
            ("", [], host),
            ("tables: { flows: 2048, secured: 100, peers: 64 }\n", [], TableSizeChoice(flows: 2048, secured: 100, peers: 64).resolved()),
            ("tables: { flows: 2048, secured: 100 }\n", ["--secured", "77"], TableSizeChoice(flows: 2048, secured: 77).resolved()),
        ] {
            let daemon = try stage.lab.startDaemon(
                stage.alpha, policy: Scenarios.policy("negotiation-discovery", key: stage.key, extra: policy), arguments: arguments, tables: [])
            let sizes = try sizes(stage)
            #expect(sizes["nd_flows"] == Int(expected.flows))
            #expect(sizes["nd_secured"] == Int(expected.secured))
            #expect(sizes["nd_peers"] == Int(expected.peers))
            daemon.kill()
            try stage.lab.unload(stage.alpha)
        }
    }

    @Test("A full table of secured connections opens nothing, and says so", arguments: Lab.Family.allCases)
    func full(family: Lab.Family) throws {
        let stage = try Stage("tf\(family)", arguments: ["--secured", "64"])
        defer { stage.close() }
        let (lab, alpha) = (stage.lab, stage.alpha)
        let source = alpha.address(family), target = Endpoint(stage.beta.address(family), Servers.echoPort)
        let pair = try LatchedPair(stage, family)
        // Twice as many as there is room for.
        let (sockets, answered) = try lab.inside(alpha) {
            var sockets: [Int32] = [], answered = 0
            for _ in 0..<128 {
                let socket = try Traffic.openUDP(Endpoint(source, 0), to: target, timeoutSeconds: 0.05)
                if try Traffic.echoUDP(socket, Array("?".utf8)) != nil { answered += 1 }
                sockets.append(socket)
            }
            return (sockets, answered)
        }
        defer { for socket in sockets { close(socket) } }
        #expect((40...64).contains(answered), "\(answered) of 128")
        #expect(pair.isAnswered(within: 2), "those that are secured go on")
        let status = try #require(try stage.json(alpha, "status") as? [String: Any])
        let warnings = try #require(status["warnings"] as? [String])
        #expect(warnings.contains { $0.contains("'secured' is full to 100 %") }, "\(warnings)")
        let address = alpha.ipv4
        let metrics = try lab.inside(alpha) { try Scenarios.httpGet(Endpoint(address, 9466), "/metrics") }
        #expect(metrics.contains("ndbpf_table_entries{table=\"secured\"} 64\n"), "\(metrics)")
        #expect(metrics.contains("ndbpf_table_size{table=\"secured\"} 64\n"))
        // Without daemons: whatever of the 130 is sent now must not be seen.
        let capture = try PacketCapture(lab, stage.beta)
        for host in [alpha, stage.beta] { lab.daemon(of: host)?.kill() }
        capture.clear()
        for _ in 0..<3 {
            pair.send()
            for socket in sockets {
                let bytes = Array("secret".utf8)
                _ = bytes.withUnsafeBytes { Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) }
            }
        }
        let clear = capture.snapshot().filter { $0.kind == .clear && $0.source == source && $0.proto == IPProtocol.udp }
        #expect(clear.isEmpty && pair.clear == 0, "\(clear.count) clear datagrams")
    }
}
