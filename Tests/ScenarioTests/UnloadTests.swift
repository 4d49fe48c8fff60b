import Foundation
import NDCore
import NDLab
import Testing

///     alpha (ndbpf) ---- beta (ndbpf)
@Suite("Unload with secured connections open", .serialized)
struct UnloadTests {
    @Test("It refuses, names them and changes nothing; nothing of them is clear", arguments: [Lab.Family.ipv4, .ipv6])
    func refuses(_ family: Lab.Family) throws {
        let stage = try Stage("uo\(family == .ipv4 ? 4 : 6)")
        defer { stage.close() }
        let pair = try LatchedPair(stage, family)
        try #require(stage.lab.daemon(of: stage.alpha)).stop()
        let maps = try stage.ndbpf(stage.alpha, "maps").text
        let refused = try stage.ndbpf(stage.alpha, "unload")
        #expect(refused.status == 1)
        let tcp = pair.tcp.flow
        for wanted in ["2 secured connections open", "tcp \(tcp.local) > \(tcp.remote)", "udp ", "last seen", "--force", "ndbpf load", "Nothing was changed"] {
            #expect(refused.text.contains(wanted), "'\(wanted)' in \(refused.text)")
        }
        pair.send(times: 20)
        #expect(pair.clear == 0)
        #expect(try stage.ndbpf(stage.alpha, "maps").text.split(separator: "\n").count == maps.split(separator: "\n").count)
        // A new daemon goes on with them.
        try stage.lab.startDaemon(stage.alpha, policy: Scenarios.policy("negotiation-discovery", key: stage.key))
        #expect(pair.isAnswered(within: 10))
        #expect(pair.clear == 0)
        // What it refuses is what would be seen.
        try #require(stage.lab.daemon(of: stage.alpha)).kill()
        #expect(try stage.ndbpf(stage.alpha, "unload", "--force").status == 0)
        pair.send(times: 20)
        #expect(pair.clear > 0)
    }

    @Test("In JSON it lists at most twenty and counts them all; --force takes everything away")
    func json() throws {
        let stage = try Stage("uj")
        defer { stage.close() }
        let (source, target) = (stage.alpha.ipv4, Endpoint(stage.beta.ipv4, Servers.echoPort))
        try stage.connect(stage.alpha, stage.beta)
        let connections = try (0..<25).map { _ in try stage.lab.inside(stage.alpha) { try Traffic.connectTCP(from: source, to: target) } }
        defer { for connection in connections { connection.close() } }
        for _ in 0..<20 {
            for connection in connections { try Traffic.echo(connection) }
            usleep(20_000)
        }
        try #require(stage.lab.daemon(of: stage.alpha)).kill()
        let refused = try stage.ndbpf(stage.alpha, "unload", "--json")
        #expect(refused.status == 1)
        let line = try #require(refused.text.split(separator: "\n").first { $0.contains("openConnections") })
        let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        let open = try #require(object["openConnections"] as? [String: Any])
        #expect(open["count"] as? Int == 25, "\(line)")
        let rows = try #require(open["connections"] as? [[String: Any]])
        #expect(rows.count == 20)
        #expect(rows.first?["protocolName"] as? String == "tcp")
        #expect(rows.first?["remote"] as? String == "\(target)")
        #expect(refused.text.contains("unload.open"))

        let forced = try stage.ndbpf(stage.alpha, "unload", "--force")
        #expect(forced.status == 0, "\(forced.text)")
        #expect(try stage.ndbpf(stage.alpha, "unload", "--force").status == 1)
    }

    @Test("A connection that is closed blocks nothing, even where its end was not seen")
    func closed() throws {
        let stage = try Stage("uc")
        defer { stage.close() }
        let (source, target) = (stage.alpha.ipv4, Endpoint(stage.beta.ipv4, Servers.echoPort))
        let connection = try stage.lab.inside(stage.alpha) { try Traffic.connectTCP(from: source, to: target) }
        for _ in 0..<50 {
            try Traffic.echo(connection)
            usleep(10_000)
        }
        try #require(stage.lab.daemon(of: stage.alpha)).kill()
        #expect(try stage.ndbpf(stage.alpha, "unload").status == 1)
        // A socket in repair goes without a word.
        var one: Int32 = 1
        try #require(setsockopt(connection.descriptor, Int32(IPPROTO_TCP), 19 /* TCP_REPAIR */, &one, 4) == 0)
        connection.close()
        // Where packets are sent on for others it may be one of theirs, with an address of this host.
        let forwarding = "/proc/sys/net/ipv4/ip_forward"
        try stage.lab.inside(stage.alpha) { try "1".write(toFile: forwarding, atomically: false, encoding: .utf8) }
        #expect(try stage.ndbpf(stage.alpha, "unload").text.contains("1 secured connection open"))
        try stage.lab.inside(stage.alpha) { try "0".write(toFile: forwarding, atomically: false, encoding: .utf8) }
        let done = try stage.ndbpf(stage.alpha, "unload")
        #expect(done.status == 0, "\(done.text)")
    }
}
