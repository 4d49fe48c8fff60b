import Foundation
import NDCore
import NDLab
import Testing

/// What once put packets of secured connections on the wire in clear, or let clear ones in: one test for each kind.
///
///     alpha eth0 --- wire --- eth0 beta
///                    wire --- eth0 gamma, a stranger
@Suite("Never in clear again", .serialized)
struct NeverInClearTests {
    private func stage(
        _ tag: String, alpha: String? = "negotiation-discovery", beta: String? = "negotiation-discovery", extra: String = "",
        arguments: [String] = [], _ body: (Stage, Stranger) throws -> Void
    ) throws {
        let stage = try Stage(tag, alpha: alpha, beta: beta, extra: extra, arguments: arguments)
        defer { stage.close() }
        try body(stage, try Stranger(stage.lab, stage.gamma))
    }

    private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

    /// What a socket has got, without waiting for more.
    private func received(_ descriptor: Int32) -> [UInt8]? {
        usleep(50_000)
        var buffer = [UInt8](repeating: 0, count: 2048)
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        return count > 0 ? Array(buffer.prefix(count)) : nil
    }

    // MARK: the parser

    @Test("Clear data behind any number of VLAN tags reaches no secured connection", arguments: Lab.Family.allCases)
    func tags(family: Lab.Family) throws {
        try stage("nv\(family)") { stage, stranger in
            let pair = try LatchedPair(stage, family)
            let beta = Endpoint(stage.beta.address(family), Servers.echoPort)
            let alpha = stage.alpha.address(family)
            let udp = Endpoint(alpha, Traffic.localPort(pair.udp))
            // Only a segment with the right numbers would be delivered.
            let (next, expected) = try TCPNumbers.read(pair.tcp.descriptor)
            let evil = Array("evil".utf8)
            while received(pair.udp) != nil {}
            for depth in 0...12 {
                for type in [0x8100, 0x88a8] as [UInt16] {
                    let tags = Array(repeating: (type: type, number: UInt16(0)), count: depth)
                    try stranger.send([Frame.udp(from: beta, to: udp, evil)], to: stage.alpha, tags: tags)
                    try stranger.send(
                        [Frame.tcp(from: beta, to: pair.tcp.flow.local, flags: 0x18, sequence: expected, acknowledgement: next, evil)],
                        to: stage.alpha, tags: tags)
                    #expect(received(pair.udp) == nil, "a datagram behind \(depth) tags of type \(type)")
                    #expect(received(pair.tcp.descriptor) == nil, "a segment behind \(depth) tags of type \(type)")
                }
            }
            #expect(pair.isAnswered(within: 2))
        }
    }

    // MARK: addresses

    @Test("An address that goes takes no open secured connection into clear", arguments: Lab.Family.allCases, [true, false])
    func addressRemoved(family: Lab.Family, daemonLives: Bool) throws {
        try stage("na\(family)\(daemonLives ? "l" : "d")") { stage, _ in
            let pair = try LatchedPair(stage, family)
            let alpha = stage.alpha
            if !daemonLives { stage.lab.daemon(of: alpha)?.kill() }
            let prefix = "\(alpha.address(family))/\(family == .ipv4 ? 24 : 64)"
            for _ in 0..<3 {
                pair.send(times: 3)
                try Shell.run("ip", "-n", alpha.namespace, "addr", "del", prefix, "dev", "eth0")
                // Still a way to the peer, so that the kernel sends what the socket is bound to.
                _ = try Shell.capture([
                    "ip", "-n", alpha.namespace, "route", "replace", "\(stage.beta.address(family))/\(family == .ipv4 ? 32 : 128)", "dev", "eth0",
                ])
                pair.send(times: 30)
                try Shell.run("ip", "-n", alpha.namespace, "addr", "add", prefix, "dev", "eth0", family == .ipv4 ? "noprefixroute" : "nodad")
                pair.send(times: 5)
            }
            #expect(pair.clear == 0)
            if daemonLives { #expect(pair.isAnswered(within: 10)) }
        }
    }

    /// Whether a plain host gets a connection, or an answer to a datagram, at an address of alpha.
    private func isOpen(_ stage: Stage, _ address: IPAddress) throws -> Bool {
        let servers = try Servers(stage.lab, stage.alpha, addresses: [address])
        defer { servers.close() }
        let (source, target) = (address.isIPv4 ? stage.gamma.ipv4 : stage.gamma.ipv6, Endpoint(address, Servers.echoPort))
        return try stage.lab.inside(stage.gamma) {
            let datagrams = try Traffic.openUDP(Endpoint(source, 0), to: target, timeoutSeconds: 0.3)
            defer { close(datagrams) }
            if try Traffic.echoUDP(datagrams, Array("?".utf8)) != nil { return true }
            guard let connection = try? Traffic.connectTCP(from: source, to: target, timeoutSeconds: 1) else { return false }
            connection.close()
            return true
        }
    }

    /// Gamma reaches the address by alpha's eth0.
    private func reach(_ stage: Stage, _ address: IPAddress) throws {
        let mac = try Frame.mac(of: stage.alpha).map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined(separator: ":")
        try Shell.run("ip", "-n", stage.gamma.namespace, "route", "replace", "\(address)/\(address.isIPv4 ? 32 : 128)", "dev", "eth0")
        try Shell.run("ip", "-n", stage.gamma.namespace, "neigh", "replace", "\(address)", "lladdr", mac, "dev", "eth0")
    }

    @Test("An address that came while no daemon ran lets nothing in", arguments: Lab.Family.allCases)
    func addressAdded(family: Lab.Family) throws {
        try stage("nn\(family)") { stage, _ in
            stage.lab.daemon(of: stage.alpha)?.kill()
            let new = try address(family == .ipv4 ? "10.77.0.51" : "fd77::51")
            try Shell.run("ip", "-n", stage.alpha.namespace, "addr", "add", "\(new)/\(family == .ipv4 ? 24 : 64)", "dev", "eth0", family == .ipv4 ? "noprefixroute" : "nodad")
            #expect(try !isOpen(stage, new))
        }
    }

    @Test("An address lets nothing in from its first instant on", arguments: Lab.Family.allCases)
    func addressRace(family: Lab.Family) throws {
        try stage("nr\(family)") { stage, stranger in
            let alpha = stage.alpha, gamma = stage.gamma
            // Takes connections on every address.
            stage.servers[2].close()
            usleep(500_000)
            let servers = try Servers(stage.lab, alpha, addresses: [try address("::")])
            defer { servers.close() }
            let capture = try PacketCapture(stage.lab, gamma)
            for round in 0..<10 {
                let new = try address(family == .ipv4 ? "10.77.0.\(100 + round)" : "fd77::1\(round)")
                let target = Endpoint(new, Servers.echoPort)
                try reach(stage, new)
                let storm = (0..<400).map { index in
                    Frame.tcp(from: Endpoint(gamma.address(family), UInt16(20_000 + 500 * round + index)), to: target, flags: 0x02)
                }
                let namespace = alpha.namespace
                let added = DispatchSemaphore(value: 0)
                DispatchQueue.global().async {
                    usleep(20_000)
                    _ = try? Shell.run("ip", "-n", namespace, "addr", "add", "\(new)/\(family == .ipv4 ? 24 : 64)", "dev", "eth0", family == .ipv4 ? "noprefixroute" : "nodad")
                    added.signal()
                }
                try stranger.send(storm, to: alpha, every: 300)
                added.wait()
            }
            let answers = capture.snapshot().filter { $0.proto == IPProtocol.tcp && $0.sourcePort == Servers.echoPort && $0.tcpFlags & 0x12 == 0x12 }
            #expect(answers.isEmpty, "\(answers.count) clear SYNs were answered")
        }
    }

    @Test("Addresses that the kernel delivers without having them let nothing in: AnyIP", arguments: Lab.Family.allCases)
    func anyIP(family: Lab.Family) throws {
        try stage("ny\(family)") { stage, _ in
            let any = try address(family == .ipv4 ? "10.99.0.7" : "fd99::7")
            try Shell.run("ip", "-n", stage.alpha.namespace, "route", "add", "local", family == .ipv4 ? "10.99.0.0/24" : "fd99::/64", "dev", "lo")
            if family == .ipv6 {
                try Shell.run("ip", "netns", "exec", stage.alpha.namespace, "sysctl", "-qw", "net.ipv6.ip_nonlocal_bind=1")
            }
            try reach(stage, any)
            #expect(try !isOpen(stage, any))
        }
    }

    @Test("A router's anycast address lets nothing in")
    func anycast() throws {
        try stage("nc") { stage, stranger in
            try Shell.run("ip", "netns", "exec", stage.alpha.namespace, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
            usleep(300_000)
            let anycast = try address("fd77::")
            let wildcard = try address("::")
            let socket = try stage.lab.inside(stage.alpha) { try Traffic.openUDP(Endpoint(wildcard, 7022), timeoutSeconds: 0.2) }
            defer { close(socket) }
            try stranger.send(
                (0..<5).map { Frame.udp(from: Endpoint(stage.gamma.ipv6, 7023), to: Endpoint(anycast, 7022), Array("clear \($0)".utf8)) },
                to: stage.alpha, every: 1000)
            #expect(received(socket) == nil)
        }
    }

    @Test("A host with more addresses than its table has room for is protected at all of them")
    func manyAddresses() throws {
        try stage("nm") { stage, _ in
            let file = "\(stage.lab.directory)/addresses"
            let count = 4300
            try (0..<count).map { "addr add 10.\(80 + $0 / 250 / 250).\($0 / 250 % 250).\(1 + $0 % 250)/32 dev eth0\n" }.joined()
                .write(toFile: file, atomically: true, encoding: .utf8)
            try Shell.run("ip", "-n", stage.alpha.namespace, "-batch", file)
            for last in [count - 1, 0, 4200] {
                let new = try address("10.\(80 + last / 250 / 250).\(last / 250 % 250).\(1 + last % 250)")
                try reach(stage, new)
                #expect(try !isOpen(stage, new), "\(new)")
            }
            #expect(!stage.clearConnects(from: stage.gamma, to: stage.alpha))
        }
    }

    @Test("Addresses that can't be read stay what they were, and that is said")
    func unreadAddresses() throws {
        try stage("ne") { stage, _ in
            let pair = try LatchedPair(stage, .ipv4)
            let daemon = try #require(stage.lab.daemon(of: stage.alpha))
            let process = daemon.pid
            // No descriptor is left for asking the kernel.
            let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd").count
            try Shell.run("prlimit", "--pid", "\(process)", "--nofile=\(open):")
            try Shell.run("ip", "-n", stage.alpha.namespace, "addr", "add", "10.77.0.52/24", "brd", "+", "dev", "eth0")
            usleep(500_000)
            pair.send(times: 20)
            #expect(pair.clear == 0)
            #expect(!stage.clearConnects(from: stage.gamma, to: stage.alpha))
            try Shell.run("prlimit", "--pid", "\(process)", "--nofile=1024:")
            #expect(daemon.hasReported("Too many open files"), "\(daemon.logText)")
            #expect(pair.isAnswered(within: 3))
        }
    }

    // MARK: sources and destinations that are not one host

    @Test("A source that is no host's opens nothing", arguments: ["10.77.0.255", "255.255.255.255", "224.0.0.5", "0.0.0.0", "10.77.0.1", "127.0.0.1", "ff02::5", "::", "fd77::1", "::1"])
    func badSource(source: String) throws {
        let source = try address(source)
        try stage("ns\(source.bytes.last ?? 0)\(source.isIPv4)") { stage, stranger in
            try Shell.run("ip", "netns", "exec", stage.alpha.namespace, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0")
            let alpha = source.isIPv4 ? stage.alpha.ipv4 : stage.alpha.ipv6
            let wildcard = try address(source.isIPv4 ? "0.0.0.0" : "::")
            let socket = try stage.lab.inside(stage.alpha) { try Traffic.openUDP(Endpoint(wildcard, 7022), timeoutSeconds: 0.2) }
            defer { close(socket) }
            let capture = try PacketCapture(stage.lab, stage.alpha)
            try stranger.send(
                [
                    Frame.udp(from: Endpoint(source, 30_001), to: Endpoint(alpha, 7022), Array("clear".utf8)),
                    Frame.tcp(from: Endpoint(source, 30_002), to: Endpoint(alpha, Servers.echoPort), flags: 0x02),
                ], to: stage.alpha, every: 1000)
            #expect(received(socket) == nil, "a clear datagram")
            let answers = capture.snapshot().filter { $0.outgoing && $0.proto == IPProtocol.tcp && $0.tcpFlags & 0x12 == 0x12 }
            #expect(answers.isEmpty, "a clear SYN was answered")
        }
    }

    @Test("The answer to a clear broadcast or multicast lets no further unicast in", arguments: ["10.77.0.255", "255.255.255.255", "224.0.0.1", "ff02::1"])
    func broadcast(group: String) throws {
        let group = try address(group)
        try stage("nb\(group.bytes.first ?? 0)") { stage, stranger in
            let alpha = group.isIPv4 ? stage.alpha.ipv4 : stage.alpha.ipv6
            let gamma = Endpoint(group.isIPv4 ? stage.gamma.ipv4 : stage.gamma.ipv6, 30_003)
            let wildcard = try address(group.isIPv4 ? "0.0.0.0" : "::")
            let socket = try stage.lab.inside(stage.alpha) { try Traffic.openUDP(Endpoint(wildcard, 7022), timeoutSeconds: 0.2) }
            defer { close(socket) }
            let client = try stage.lab.inside(stage.gamma) { try Traffic.openUDP(gamma, timeoutSeconds: 0.3) }
            defer { close(client) }
            let mac: [UInt8] = group.isIPv4 ? [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] : [0x33, 0x33, 0, 0, 0, 1]
            try stranger.send([Frame.udp(from: gamma, to: Endpoint(group, 7022), Array("who is there".utf8))], to: mac)
            #expect(received(socket) != nil, "a group's datagram is let in")
            Traffic.sendUDP(socket, Array("I am".utf8), to: gamma)
            #expect(received(client) == Array("I am".utf8), "and answered")
            try stranger.send([Frame.udp(from: gamma, to: Endpoint(alpha, 7022), Array("in clear".utf8))], to: stage.alpha)
            #expect(received(socket) == nil, "a unicast datagram of the same ports")
        }
    }

    // MARK: what strangers send

    @Test("Forged clear packets end no latch, on a host that takes clear connections too", arguments: Lab.Family.allCases, ["boundary", "negotiation-discovery"])
    func forged(family: Lab.Family, scenario: String) throws {
        try stage("nf\(family)\(scenario.first ?? "x")", alpha: scenario, beta: nil) { stage, stranger in
            let (lab, alpha, beta) = (stage.lab, stage.alpha, stage.beta)
            let source = alpha.address(family), target = Endpoint(beta.address(family), Servers.echoPort)
            let open = try lab.inside(alpha) { try Traffic.connectTCP(from: source, to: target) }
            defer { open.close() }
            try Traffic.echo(open)
            // Now the peer learns it, and a connection of its own brings the SA.
            try lab.startDaemon(beta, policy: Scenarios.policy("boundary", key: stage.key))
            let (peer, back) = (beta.address(family), Endpoint(source, Servers.echoPort))
            let other = try lab.inside(beta) { try Traffic.connectTCP(from: peer, to: back) }
            defer { other.close() }
            let secured = try lab.inside(beta) { () -> Bool in
                for _ in 0..<30 {
                    try Traffic.echo(other)
                    usleep(100_000)
                }
                return true
            }
            #expect(secured)
            // The peer falls silent: nothing protected arrives, so the grace time runs.
            lab.daemon(of: beta)?.signal(SIGSTOP)
            defer { lab.daemon(of: beta)?.signal(SIGCONT) }
            let capture = try PacketCapture(lab, beta)
            try send(open)
            let flow = open.flow
            usleep(200_000)
            func forge(_ flags: UInt8) throws {
                try stranger.send([Frame.tcp(from: flow.remote, to: flow.local, flags: flags, sequence: 12_345)], to: alpha)
                usleep(50_000)
            }
            try forge(0x04)
            try forge(0x14)
            try forge(0x11)
            #expect(try stage.ndbpf(alpha, "sas", "--delete", "all").status == 0)
            usleep(200_000)
            try forge(0x02)
            try forge(0x12)
            for _ in 0..<8 {
                try send(open)
                usleep(250_000)
            }
            let clear = capture.snapshot().filter { $0.kind == .clear && $0.belongs(to: flow) && $0.length > 90 }
            #expect(clear.isEmpty, "\(clear.count) clear packets with data")
        }
    }

    private func send(_ connection: Traffic.Connection) throws {
        let bytes = Array("not for others, whatever somebody forges in between".utf8)
        _ = bytes.withUnsafeBytes { Glibc.send(connection.descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) }
    }

    @Test("A flood to an exempt port, or of anything else in clear, pushes no secured connection out", arguments: Lab.Family.allCases)
    func flood(family: Lab.Family) throws {
        let extra = "exempt: [ { protocol: tcp, local-port: 22 } ]\n"
        try stage("nl\(family)", extra: extra, arguments: ["--flows", "1024"]) { stage, stranger in
            let pair = try LatchedPair(stage, family)
            let alpha = stage.alpha.address(family)
            let listener = try stage.lab.inside(stage.alpha) { try Traffic.openUDP(Endpoint(alpha, 22), timeoutSeconds: 0.1) }
            defer { close(listener) }
            func spoofed(_ index: Int) throws -> Endpoint {
                let text = family == .ipv4 ? "10.77.\(1 + index / 200).\(1 + index % 200)" : "fd77::\(String(0x1000 + index, radix: 16))"
                return Endpoint(try address(text), UInt16(1024 + index % 60_000))
            }
            // Three times as many as all of the tables of clear connections hold.
            for block in 0..<6 {
                let packets = try (0..<500).map { index in
                    Frame.tcp(
                        from: try spoofed(500 * block + index), to: Endpoint(alpha, index % 2 == 0 ? 22 : UInt16(2000 + index)), flags: 0x02)
                }
                try stranger.send(packets, to: stage.alpha)
            }
            for host in [stage.alpha, stage.beta] { stage.lab.daemon(of: host)?.kill() }
            pair.send(times: 20)
            #expect(pair.clear == 0)
        }
    }

    // MARK: IKE's ports

    @Test("Who binds an IKE port while no daemon runs talks neither to secured peers nor with strangers in clear", arguments: Lab.Family.allCases, [500, 4500] as [UInt16])
    func ikePort(family: Lab.Family, port: UInt16) throws {
        try stage("np\(family)\(port)") { stage, stranger in
            let pair = try LatchedPair(stage, family)
            stage.lab.daemon(of: stage.alpha)?.kill()
            let own = Endpoint(stage.alpha.address(family), port)
            let beta = Endpoint(stage.beta.address(family), port)
            let socket = try stage.lab.inside(stage.alpha) { try Traffic.openUDP(own, timeoutSeconds: 0.2) }
            defer { close(socket) }
            let capture = try PacketCapture(stage.lab, stage.beta)
            let marker = Array("secrets of an ordinary user".utf8)
            for _ in 0..<5 {
                Traffic.sendUDP(socket, marker, to: beta)
                usleep(20_000)
            }
            let seen = capture.snapshot().filter { packet in
                packet.frame.count >= marker.count
                    && (0...(packet.frame.count - marker.count)).contains { packet.frame[$0..<($0 + marker.count)].elementsEqual(marker) }
            }
            #expect(seen.isEmpty, "\(seen.count) in clear")
            try stranger.send(
                [Frame.udp(from: Endpoint(stage.gamma.address(family), 30_004), to: own, Array("in clear".utf8))], to: stage.alpha)
            #expect(received(socket) == nil)
            #expect(pair.clear == 0)
        }
    }
}

/// The sequence numbers of a connection, by TCP_REPAIR.
enum TCPNumbers {
    /// The next one to send and the next one expected.
    static func read(_ descriptor: Int32) throws -> (next: UInt32, expected: UInt32) {
        func set(_ option: Int32, _ value: Int32) -> Bool {
            var value = value
            return setsockopt(descriptor, Int32(IPPROTO_TCP), option, &value, 4) == 0
        }
        func number(_ queue: Int32) -> UInt32? {
            guard set(20, queue) else { return nil }
            var value: UInt32 = 0
            var size: socklen_t = 4
            return getsockopt(descriptor, Int32(IPPROTO_TCP), 21, &value, &size) == 0 ? value : nil
        }
        guard set(19, 1) else { throw NDError("tcp.repair", "no TCP_REPAIR: \(String(cString: strerror(errno)))") }
        defer {
            _ = set(20, 0)
            _ = set(19, -1)
        }
        guard let expected = number(1), let next = number(2) else {
            throw NDError("tcp.repair", "no sequence numbers: \(String(cString: strerror(errno)))")
        }
        return (next, expected)
    }
}
