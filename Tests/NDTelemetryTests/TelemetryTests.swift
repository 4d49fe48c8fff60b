import CNDABI
import Foundation
import NDCore
import NDTelemetry
import Testing

@Suite("Metrics")
struct MetricsTests {
    static func snapshot() -> Snapshot {
        var snapshot = Snapshot(build: .init(version: "0.1.0", engine: "user", scenario: "boundary"))
        snapshot.datapath.passedPackets[Int(ND_PASS_OUT_CLEAR.rawValue)] = 12
        snapshot.datapath.passedBytes[Int(ND_PASS_OUT_CLEAR.rawValue)] = 1_234_567_890_123
        snapshot.datapath.droppedPackets[Int(ND_DROP_LATCHED.rawValue)] = 3
        snapshot.datapath.upgrades = 1
        snapshot.flows.secure = 2
        snapshot.peers = ["secured": 1, "clear": 4]
        snapshot.tables = [.init(name: "flows", entries: 3, size: 65_536), .init(name: "secured", entries: 2, size: 64)]
        snapshot.negotiationsFailed = ["no_answer": 4, "authentication": 0]
        snapshot.replays = ["replayed": 1, "expired": 0]
        snapshot.ikeDrops = ["malformed": 0]
        snapshot.inboundSAs = 1
        snapshot.outboundSAs = 1
        snapshot.interfaces = [
            .init(name: "eth0", role: "protected", isInPlace: true), .init(name: "eth1", role: "guarded", isInPlace: false),
        ]
        snapshot.startedAtUnixSeconds = 1_700_000_000.5
        return snapshot
    }

    @Test("The exposition is as it always was")
    func golden() {
        #expect(Snapshot.render(Self.snapshot()) == MetricsGolden.text)
    }

    @Test("promtool finds nothing to say about it")
    func promtool() throws {
        for snapshot in [Self.snapshot(), Snapshot(build: .init(version: "a\"b\\c\nd", engine: "", scenario: "é"))] {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
            process.arguments = ["promtool", "check", "metrics"]
            let input = Pipe()
            let output = Pipe()
            process.standardInput = input
            process.standardOutput = output
            process.standardError = output
            try process.run()
            input.fileHandleForWriting.write(Data(Snapshot.render(snapshot).utf8))
            try input.fileHandleForWriting.close()
            let said = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
            process.waitUntilExit()
            #expect(process.terminationStatus == 0, "promtool (package prometheus) failed or is missing: \(said)")
            #expect(said == "")
        }
    }

    @Test("Every drop reason, pass kind and peer state of nd.h is there, at zero too")
    func presentAtZero() {
        let text = Snapshot.render(Snapshot(build: .init(version: "1", engine: "user", scenario: "secure")))
        #expect(Lists.dropReasons.count == Int(ND_DROP_COUNT.rawValue))
        for reason in Lists.dropReasons {
            #expect(text.contains("ndbpf_dropped_packets_total{reason=\"\(reason.label)\"} 0\n"))
            #expect(!reason.help.isEmpty)
        }
        for state in Lists.peerStates { #expect(text.contains("ndbpf_peers{state=\"\(state.label)\"} 0\n")) }
        #expect(text.split(separator: "\n").filter { $0.hasPrefix("ndbpf_packets_total{") }.count == Lists.passKinds.count)
    }

    @Test("Names have the prefix, counters the ending, and each family stands once")
    func names() {
        let families = Self.snapshot().families
        #expect(Set(families.map(\.name)).count == families.count)
        for family in families {
            #expect(family.name.hasPrefix("ndbpf_"))
            #expect((family.kind == .counter) == family.name.hasSuffix("_total"))
            #expect(!family.help.isEmpty)
        }
    }

    @Test("Label sets are bounded: surplus ones are added up as other")
    func bounded() {
        var snapshot = Self.snapshot()
        snapshot.ikeDrops = Dictionary(uniqueKeysWithValues: (0..<500).map { ("r\($0)", 1) })
        let lines = Snapshot.render(snapshot).split(separator: "\n").filter { $0.hasPrefix("ndbpf_ike_datagrams_dropped_total{") }
        #expect(lines.count == 64)
        #expect(lines.last == "ndbpf_ike_datagrams_dropped_total{reason=\"other\"} 437")
    }

    @Test("BPF's counters come over index by index, and CPUs add up")
    func statistics() {
        var stats = nd_stats()
        stats.packets.4 = 7
        stats.bytes.0 = 9
        stats.drops.2 = 11
        stats.drop_bytes.19 = 13
        stats.events_lost = 17
        let one = Snapshot.Datapath(abi: stats)
        #expect(one.passedPackets.count == Lists.passKinds.count && one.passedPackets.reduce(0, +) == one.passedPackets[4] && one.passedPackets[4] == 7 && one.passedBytes[0] == 9)
        #expect(one.droppedPackets.count == Lists.dropReasons.count)
        #expect(one.droppedPackets[2] == 11 && one.droppedBytes[19] == 13 && one.eventsLost == 17)
        let two = one + one
        #expect(two.passedPackets[4] == 14 && two.eventsLost == 34 && two.droppedBytes[19] == 26)
    }

    @Test("Values and texts are escaped as the format wants")
    func escaping() {
        let text = Exposition.render([
            MetricFamily(
                "m", .gauge, "a\\b\nc\"",
                [.init(.nan, [.init("l", "x\"y\\z\n")]), .init(.infinity), .init(-.infinity), .init(0.25), .init(1e18)]),
            MetricFamily("m", .gauge, "again", [.init(1)]),
            MetricFamily("0bad", .gauge, "no name", [.init(1)]),
        ])
        #expect(
            text == """
                # HELP m a\\\\b\\nc"
                # TYPE m gauge
                m{l="x\\"y\\\\z\\n"} NaN
                m +Inf
                m -Inf
                m 0.25
                m 1e+18

                """)
    }
}

@Suite("Output for people and programs")
struct OutputTests {
    @Test("JSON has a versioned envelope and sorted keys")
    func envelope() throws {
        #expect(try JSONOutput.text("peers", ["b": 1, "a": 2]) == #"{"kind":"peers","peers":{"a":2,"b":1},"version":1}"#)
        #expect(try JSONOutput.text("paths", ["/a/b"]) == #"{"kind":"paths","paths":["/a/b"],"version":1}"#)
    }

    @Test("A table has fixed columns, no blanks at line ends, and no control characters")
    func table() {
        var table = TextTable([.init("PEER"), .init("FLOWS", .right), .init("STATE")])
        table.add(["192.0.2.1", "7", "secured"])
        table.add(["::1", "12345678", "\u{1b}[31m"])
        table.add(["short"])
        #expect(
            table.text == """
                PEER          FLOWS  STATE
                192.0.2.1         7  secured
                ::1        12345678  ?[31m
                short

                """)
    }

    @Test("Errors read the same everywhere, as text and as JSON")
    func errors() throws {
        let errors = [
            NDError("policy.range", "too long", context: "p.yaml:1:2", hint: "from 1s to 1h"),
            NDError("load.permission", "not \u{7}allowed"),
        ]
        #expect(
            ErrorReport.text(errors) == """
                error: p.yaml:1:2: too long [policy.range]
                  fix: from 1s to 1h
                error: not ?allowed [load.permission]

                """)
        #expect(
            try ErrorReport.json([errors[0]])
                == #"{"errors":[{"code":"policy.range","context":"p.yaml:1:2","hint":"from 1s to 1h","message":"too long"}],"kind":"errors","version":1}"#)
        struct Foreign: Error {}
        #expect(ErrorReport.errors(from: Foreign()).map(\.code) == ["internal"])
        #expect(ErrorReport.errors(from: errors[0]) == [errors[0]])
    }

    @Test("An event is one line of text or JSON")
    func events() throws {
        let peer = PeerKey(
            local: IPAddress(high: 0, low: 0xffff_c000_0201), remote: IPAddress(high: 0, low: 0xffff_c000_0202))
        let flow = FlowKey(local: Endpoint(peer.local, 443), remote: Endpoint(peer.remote, 5000), proto: IPProtocol.tcp)
        let drop = EventLine(time: 86_400 + 3661.5, type: "drop", flow: flow, reason: "clear_inbound", inbound: true, length: 60)
        #expect(drop.text == "01:01:01.500000 drop         in  tcp 192.0.2.1:443 < 192.0.2.2:5000 clear_inbound 60 bytes")
        #expect(
            try drop.json()
                == #"{"event":{"direction":"in","length":60,"local":"192.0.2.1","localPort":443,"proto":"tcp","reason":"clear_inbound","remote":"192.0.2.2","remotePort":5000,"time":90061.5,"type":"drop"},"kind":"event","version":1}"#)
        let secured = EventLine(time: 0, type: "secured", peer: peer, note: "after\n12 ms")
        #expect(secured.text == "00:00:00.000000 secured          192.0.2.1 > 192.0.2.2 after?12 ms")
        #expect(EventLine(time: .infinity, type: "x").text.hasSuffix("x               "))
    }
}
