import CNDLab
import CNDSystem
import Foundation
import Glibc
import NDCore

/// What ndbpf is for, step by step, on hosts of a lab. Each returns claims with what was seen on
/// the wire; demo and tests use the same ones.
public enum Scenarios {
    public static func policy(
        _ scenario: String, key: String, negativeCache: String = "60s", extra: String = "", tries: Int = 3,
        encapsulation: String = "udp", metrics: String? = nil
    ) -> String {
        """
        version: 1
        scenario: \(scenario)
        interfaces: [eth0]
        keying:
          retransmission: { first: 500ms, tries: \(tries) }
        authentication:
          pre-shared-keys:
            - { remote: any, file: \(key) }
        discovery:
          negative-cache: { first: \(negativeCache), factor: 2, most: 1h }
        engine: { kind: user, encapsulation: \(encapsulation) }
        metrics: { listen: \(metrics ?? "\"0.0.0.0:9466\"") }
        \(extra)
        """
    }

    static func check(_ claim: String, _ passed: Bool, _ detail: String) -> Check {
        Check(claim: claim, passed: passed, detail: detail)
    }

    static func ms(_ value: Double) -> String { "\((value * 100).rounded() / 100) ms" }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? .nan : sorted[sorted.count / 2]
    }

    /// Connects of a host with ndbpf beside those of a plain one to the same peer, in turns. Noise of
    /// the machine only ever adds, so the best of a few rounds is what ndbpf costs.
    public static func connectRatio(
        _ lab: Lab, guarded: Lab.Host, plain: Lab.Host, to: Lab.Host, family: Lab.Family, limit: Double = 1.1
    ) throws -> Check {
        let target = Endpoint(to.address(family), Servers.echoPort)
        func connects(_ from: Lab.Host, _ count: Int) throws -> [Double] {
            let source = from.address(family)
            return try lab.inside(from) {
                try (0..<count).map { _ in
                    let connection = try Traffic.connectTCP(from: source, to: target)
                    defer { connection.close() }
                    return connection.milliseconds * 1000
                }
            }
        }
        var best = (ratio: Double.infinity, guarded: 0.0, plain: 0.0)
        for _ in 0..<8 where best.ratio > limit {
            var times = (guarded: [Double](), plain: [Double]())
            for _ in 0..<10 {
                times.guarded += try connects(guarded, 40)
                times.plain += try connects(plain, 40)
            }
            let (a, b) = (median(times.guarded), median(times.plain))
            if a / b < best.ratio { best = (a / b, a, b) }
        }
        func us(_ value: Double) -> String { "\((value * 10).rounded() / 10) us" }
        return check(
            "\(family.rawValue): a connect takes no longer than without ndbpf (ratio of medians <= \(limit))",
            best.ratio <= limit,
            "median \(us(best.guarded)), plain host \(us(best.plain)), ratio \((best.ratio * 100).rounded() / 100)")
    }

    /// A peer without IPsec: clear at once, one negotiation attempt for any number of connections.
    public static func plainPeer(
        _ lab: Lab, from: Lab.Host, to: Lab.Host, family: Lab.Family, connections: Int = 20
    ) throws -> [Check] {
        var checks: [Check] = []
        let sent = try PacketCapture(lab, from)
        let target = Endpoint(to.address(family), Servers.echoPort)
        let source = from.address(family)
        let first = try lab.inside(from) {
            let first = try Traffic.connectTCP(from: source, to: target)
            try Traffic.echo(first)
            for _ in 0..<connections {
                let next = try Traffic.connectTCP(from: source, to: target)
                try Traffic.echo(next)
                next.close()
            }
            usleep(300_000)
            try Traffic.echo(first)
            first.close()
            return first
        }
        let packets = try sent.stop()
        let syn = packets.first { $0.isSYN && $0.outgoing && $0.belongs(to: first.flow) }
        let delay = syn.map { Double(Int64($0.time) - Int64(first.began)) / 1e6 }
        checks.append(
            check(
                "\(family.rawValue): the SYN leaves within 1 ms of connect()", delay.map { $0 <= 1 } ?? false,
                delay.map { ms($0) } ?? "no SYN seen"))
        let ofFlow = packets.filter { $0.belongs(to: first.flow) }
        checks.append(
            check(
                "\(family.rawValue): the connection stays clear for its whole life",
                ofFlow.count >= 8 && !packets.contains { $0.kind == .esp }, "\(ofFlow.count) clear packets, 0 ESP"))
        let attempts = packets.filter { $0.outgoing && $0.isFirstIKEMessage && $0.destination == to.address(family) }
        let negotiations = Set(attempts.map(\.ikeInitiatorCookie)).count
        checks.append(
            check(
                "\(family.rawValue): \(to.name) sees one negotiation attempt, not one per connection",
                negotiations == 1, "\(connections + 1) connections, \(negotiations) attempt of \(attempts.count) messages"))
        return checks
    }

    /// A peer that requires IPsec: first SYN clear beside IKE, then only ESP.
    public static func securedPeer(_ lab: Lab, from: Lab.Host, to: Lab.Host, family: Lab.Family) throws -> [Check] {
        var checks: [Check] = []
        let sent = try PacketCapture(lab, from)
        let target = Endpoint(to.address(family), Servers.echoPort)
        let source = from.address(family)
        let (cold, warm) = try lab.inside(from) {
            let cold = try Traffic.connectTCP(from: source, to: target)
            try Traffic.echo(cold)
            let warm = try Traffic.connectTCP(from: source, to: target)
            for _ in 0..<10 { try Traffic.echo(cold) }
            warm.close()
            cold.close()
            return (cold, warm)
        }
        let packets = try sent.stop()
        let clear = packets.filter { $0.kind == .clear && $0.belongs(to: cold.flow) }
        let ike = packets.first { $0.outgoing && $0.isFirstIKEMessage }
        let syn = clear.first { $0.isSYN && $0.outgoing }
        let gap = syn.flatMap { syn in ike.map { Double(Int64($0.time) - Int64(syn.time)) / 1e6 } }
        checks.append(
            check(
                "\(family.rawValue): SYN and IKE message 1 leave together", gap.map { abs($0) <= 20 } ?? false,
                gap.map { "IKE \(ms($0)) after the SYN" } ?? "SYN seen: \(syn != nil), IKE seen: \(ike != nil)"))
        checks.append(
            check(
                "\(family.rawValue): the connection completes without TCP's one-second retransmission",
                cold.milliseconds < 500, "cold connect() \(ms(cold.milliseconds)) with the negotiation, warm \(ms(warm.milliseconds))"))
        let esp = packets.filter { $0.kind == .esp }
        checks.append(
            check(
                "\(family.rawValue): every later packet of it is ESP", clear.count == 1 && esp.count > 10,
                "\(clear.count) clear packet (the SYN), \(esp.count) ESP packets"))
        let clearWarm = packets.filter { $0.kind == .clear && $0.belongs(to: warm.flow) }
        checks.append(
            check(
                "\(family.rawValue): the next connection is ESP from its SYN on", clearWarm.isEmpty,
                "\(clearWarm.count) clear packets"))
        return checks
    }

    /// A plain host at a peer that requires protection inbound.
    public static func refusedPeer(_ lab: Lab, from: Lab.Host, to: Lab.Host, family: Lab.Family) throws -> [Check] {
        var checks: [Check] = []
        let seen = try PacketCapture(lab, from)
        let before = try dropCount(lab, to, "clear_inbound")
        let target = Endpoint(to.address(family), Servers.echoPort)
        let source = from.address(family)
        let (tcp, udp) = try lab.inside(from) { () -> (Bool, Bool) in
            let tcp = (try? Traffic.connectTCP(from: source, to: target, timeoutSeconds: 1.5)) == nil
            let fd = try Traffic.openUDP(Endpoint(source, 0), to: target, timeoutSeconds: 0.3)
            defer { close(fd) }
            return (tcp, try Traffic.echoUDP(fd, Array("hello".utf8)) == nil)
        }
        let after = try dropCount(lab, to, "clear_inbound")
        let answers = seen.snapshot().filter {
            !$0.outgoing && $0.source == to.address(family)
                && ($0.proto == IPProtocol.tcp || $0.proto == IPProtocol.udp || isUnreachable($0))
        }
        checks.append(
            check(
                "\(family.rawValue): TCP and UDP get no answer", tcp && udp && answers.isEmpty,
                "TCP \(tcp ? "times out" : "CONNECTED"), UDP \(udp ? "silent" : "ANSWERED"), \(answers.count) packets came back"))
        checks.append(
            check(
                "\(family.rawValue): counted as clear_inbound", after >= before + 2, "\(after - before) drops"))
        let ping = try Shell.capture([
            "ip", "netns", "exec", from.namespace, "ping", "-c", "2", "-i", "0.2", "-W", "1", to.address(family).description,
        ])
        checks.append(
            check(
                "\(family.rawValue): ping works", ping.status == 0,
                ping.text.split(separator: "\n").first { $0.contains("packets transmitted") }.map(String.init) ?? ping.text))
        _ = try seen.stop()
        return checks
    }

    private static func isUnreachable(_ packet: WirePacket) -> Bool {
        guard packet.kind == .icmp else { return false }
        let at = packet.source.isIPv4 ? 34 : 54
        guard packet.frame.count > at else { return false }
        return packet.source.isIPv4 ? packet.frame[at] == 3 : packet.frame[at] == 1
    }

    /// A drop counter of a host's datapath, through the command that operators use.
    public static func dropCount(_ lab: Lab, _ host: Lab.Host, _ reason: String) throws -> Int {
        let output = try Shell.run(
            Lab.ownBinary, "maps", "stats", "--instance", host.instance, "--netns", host.namespacePath)
        guard let line = output.split(separator: "\n").first(where: { $0.hasPrefix("drops \(reason) ") }),
            let count = line.split(separator: " ").last.flatMap({ Int($0) })
        else { throw NDError("lab.stats", "no drop counter '\(reason)' of \(host.name)", context: output) }
        return count
    }

    /// Forged clear packets with the right 5-tuple.
    public static func injection(
        _ lab: Lab, from: Lab.Host, to: Lab.Host, attacker: Lab.Host, family: Lab.Family
    ) throws -> [Check] {
        let target = Endpoint(to.address(family), Servers.echoPort)
        let source = from.address(family)
        let connection = try lab.inside(from) {
            let connection = try Traffic.connectTCP(from: source, to: target)
            try Traffic.echo(connection)
            return connection
        }
        defer { connection.close() }
        let before = try dropCount(lab, from, "clear_on_secured")
        let macOfVictim = try mac(lab, from)
        let macOfAttacker = try mac(lab, attacker)
        let forged: [(String, [UInt8])] = [
            ("RST", frame(to: macOfVictim, from: macOfAttacker, flow: connection.flow, flags: 0x04, payload: [])),
            ("data", frame(to: macOfVictim, from: macOfAttacker, flow: connection.flow, flags: 0x18, payload: Array("evil".utf8))),
        ]
        try lab.inside(attacker) {
            let index = if_nametoindex("eth0")
            for (name, bytes) in forged {
                guard nd_frame_send(Int32(index), bytes, bytes.count) == bytes.count else {
                    throw NDError("lab.inject", "can't send the forged \(name)")
                }
            }
        }
        usleep(50_000)
        let after = try dropCount(lab, from, "clear_on_secured")
        let alive = (try? lab.inside(from) { try Traffic.echo(connection) }) != nil
        return [
            check("forged clear RST and data are dropped", after == before + forged.count, "\(after - before) dropped as clear_on_secured"),
            check("the connection lives on", alive, alive ? "echo answered" : "the connection broke"),
        ]
    }

    static func mac(_ lab: Lab, _ host: Lab.Host) throws -> [UInt8] {
        let text = try Shell.run("ip", "-n", host.namespace, "-br", "link", "show", "eth0")
        guard let field = text.split(separator: " ").first(where: { $0.split(separator: ":").count == 6 }) else {
            throw NDError("lab.mac", "no MAC address of \(host.name)", context: text)
        }
        return field.split(separator: ":").compactMap { UInt8($0, radix: 16) }
    }

    /// A TCP segment from the flow's remote to its local end; sequence numbers are guesses, which
    /// is enough to be dropped and to be harmless.
    static func frame(to: [UInt8], from: [UInt8], flow: FlowKey, flags: UInt8, payload: [UInt8]) -> [UInt8] {
        var tcp: [UInt8] = [
            UInt8(flow.remote.port >> 8), UInt8(flow.remote.port & 255), UInt8(flow.local.port >> 8),
            UInt8(flow.local.port & 255), 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0,
        ]
        tcp += payload
        let source = flow.remote.address.bytes
        let destination = flow.local.address.bytes
        if flow.local.address.isIPv4 {
            let length = 20 + tcp.count
            var ip: [UInt8] = [0x45, 0, UInt8(length >> 8), UInt8(length & 255), 0, 1, 0x40, 0, 64, 6, 0, 0]
            ip += source + destination
            let sum = checksum(ip)
            ip[10] = UInt8(sum >> 8)
            ip[11] = UInt8(sum & 255)
            let l4 = checksum(source + destination + [0, 6, UInt8(tcp.count >> 8), UInt8(tcp.count & 255)] + tcp)
            tcp[16] = UInt8(l4 >> 8)
            tcp[17] = UInt8(l4 & 255)
            return to + from + [8, 0] + ip + tcp
        }
        let ip: [UInt8] = [0x60, 0, 0, 0, UInt8(tcp.count >> 8), UInt8(tcp.count & 255), 6, 64] + source + destination
        let l4 = checksum(source + destination + [0, 0, UInt8(tcp.count >> 8), UInt8(tcp.count & 255), 0, 0, 0, 6] + tcp)
        tcp[16] = UInt8(l4 >> 8)
        tcp[17] = UInt8(l4 & 255)
        return to + from + [0x86, 0xdd] + ip + tcp
    }

    static func checksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
        while sum >> 16 != 0 { sum = (sum & 0xffff) + (sum >> 16) }
        return ~UInt16(sum)
    }

    /// Deleting SAs and killing daemons never puts a secured flow in clear.
    public static func latch(
        _ lab: Lab, from: Lab.Host, to: Lab.Host, family: Lab.Family, policy: String
    ) throws -> [Check] {
        var checks: [Check] = []
        let target = Endpoint(to.address(family), Servers.echoPort)
        let source = from.address(family)
        let captures = [try PacketCapture(lab, from), try PacketCapture(lab, to)]
        let connection = try lab.inside(from) {
            let connection = try Traffic.connectTCP(from: source, to: target)
            try Traffic.echo(connection)
            return connection
        }
        defer { connection.close() }
        // The SYN of a cold connection may have left in clear; what counts is what comes now.
        usleep(50_000)
        for capture in captures { capture.clear() }
        for host in [from, to] {
            try Shell.run(
                Lab.ownBinary, "sas", "--delete", "all", "--instance", host.instance, "--netns", host.namespacePath)
        }
        let again = try? lab.inside(from) { () -> Double in
            Traffic.setTimeouts(connection.descriptor, seconds: 5)
            return try Traffic.echo(connection)
        }
        checks.append(
            check(
                "with the SAs deleted on both sides the open connection waits and goes on under new ones",
                again != nil, again.map { "echo after \(ms($0))" } ?? "no echo within 5 s"))
        _ = lab.daemon(of: to)?.stop()
        lab.daemon(of: from)?.kill()
        let answered = (try? lab.inside(from) { () -> Double in
            Traffic.setTimeouts(connection.descriptor, seconds: 1)
            return try Traffic.echo(connection)
        }) != nil
        checks.append(
            check("with one daemon stopped and the other killed the connection stalls instead of falling back", !answered, answered ? "an echo came" : "no echo"))
        var clear = 0
        var total = 0
        for capture in captures {
            let packets = try capture.stop()
            clear += packets.filter { $0.belongs(to: connection.flow) }.count
            total += packets.filter { $0.kind == .esp }.count
        }
        checks.append(
            check("0 clear packets of the secured connection on either host", clear == 0, "\(clear) clear, \(total) ESP packets captured"))
        try lab.startDaemon(to, policy: policy)
        try lab.startDaemon(from, policy: policy)
        let new = try? lab.inside(from) { () -> Double in
            let next = try Traffic.connectTCP(from: source, to: target)
            defer { next.close() }
            try Traffic.echo(next)
            return next.milliseconds
        }
        checks.append(
            check("new daemons adopt the datapath; a new connection is secured again", new != nil, new.map { "connect() \(ms($0))" } ?? "no connection"))
        return checks
    }

    /// A running clear transfer moves to ESP.
    public static func upgrade(
        _ lab: Lab, from: Lab.Host, to: Lab.Host, family: Lab.Family, key: String, megabytes: Int
    ) throws -> [Check] {
        var checks: [Check] = []
        _ = lab.daemon(of: to)?.stop()
        try lab.unload(to)
        try lab.startDaemon(to, policy: policy("boundary", key: key))
        // The delete told alpha that its SAs are gone; give it the time to notice.
        usleep(200_000)
        let capture = try PacketCapture(lab, from)
        let target = Endpoint(to.address(family), Servers.sinkPort)
        let source = from.address(family)
        let bytes = megabytes << 20
        let (flow, began, result, seconds) = try lab.inside(from) {
            let connection = try Traffic.connectTCP(from: source, to: target)
            defer { connection.close() }
            let start = Instant.now()
            let result = try Traffic.bulk(connection, bytes: bytes)
            return (connection.flow, connection.began, result, Instant.now().since(start).seconds)
        }
        let packets = try capture.stop()
        let ofFlow = packets.filter { $0.belongs(to: flow) }
        let data = ofFlow.filter { $0.length > 200 }
        let last = ofFlow.map(\.time).max().map { Double($0 - began) / 1e6 } ?? 0
        let late = ofFlow.filter { $0.time > began + 1_000_000_000 }
        let esp = packets.filter { $0.kind == .esp }
        checks.append(
            check(
                "\(family.rawValue): \(megabytes) MB arrive with every byte right", result.good == UInt64(bytes),
                "\(result.good) of \(bytes) bytes in \((seconds * 100).rounded() / 100) s, longest stall \(ms(result.longestStall))"))
        checks.append(
            check(
                "\(family.rawValue): it began in clear and was upgraded in flight", !ofFlow.isEmpty && !esp.isEmpty,
                "\(ofFlow.count) clear packets (\(data.count) with data) in the first \(ms(last)), then \(esp.count) ESP packets"))
        checks.append(
            check("\(family.rawValue): no reset", !ofFlow.contains { $0.isRST }, "0 RST in clear"))
        checks.append(
            check(
                "\(family.rawValue): 0 clear packets of that connection after the first second", late.isEmpty, "\(late.count) clear"))
        return checks
    }

    /// A minimal HTTP/1.1 GET.
    public static func httpGet(_ endpoint: Endpoint, _ path: String) throws -> String {
        let connection = try Traffic.connectTCP(from: endpoint.address, to: endpoint)
        defer { connection.close() }
        try Traffic.sendAll(
            connection.descriptor, Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".utf8))
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while all.count < 4 << 20 {
            let n = recv(connection.descriptor, &buffer, buffer.count, 0)
            guard n > 0 else { break }
            all += buffer.prefix(n)
        }
        let text = String(decoding: all, as: UTF8.self)
        guard text.hasPrefix("HTTP/1.1 200"), let body = text.range(of: "\r\n\r\n") else {
            throw NDError("lab.http", "no good answer for \(path)", context: String(text.prefix(200)))
        }
        return String(text[body.upperBound...])
    }
}

extension Lab {
    /// The youngest daemon of a host.
    public func daemon(of host: Host) -> DaemonProcess? { daemonProcesses.last { $0.host == host } }
}
