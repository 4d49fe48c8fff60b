import Foundation
import NDCore
import NDLab
import Testing

/// A TCP connection and UDP datagrams from alpha to beta that are protected, and what of them beta's wire shows in clear.
final class LatchedPair: @unchecked Sendable {
    let stage: Stage
    let family: Lab.Family
    let tcp: Traffic.Connection
    let udp: Int32
    private let capture: PacketCapture
    private let flows: [FlowKey]

    init(_ stage: Stage, _ family: Lab.Family) throws {
        self.stage = stage
        self.family = family
        let (lab, alpha) = (stage.lab, stage.alpha)
        let source = alpha.address(family)
        let target = Endpoint(stage.beta.address(family), Servers.echoPort)
        (tcp, udp) = try lab.inside(alpha) {
            (try Traffic.connectTCP(from: source, to: target), try Traffic.openUDP(Endpoint(source, 0), to: target, timeoutSeconds: 0.3))
        }
        let port = Traffic.localPort(udp)
        flows = [tcp.flow, FlowKey(local: Endpoint(source, port), remote: target, proto: IPProtocol.udp)]
        capture = try PacketCapture(lab, stage.beta)
        // What was sent before the SA is up was clear.
        let (connection, datagrams) = (tcp, udp)
        for _ in 0..<20 {
            capture.clear()
            let answered = try lab.inside(alpha) {
                try Traffic.echo(connection)
                return try Traffic.echoUDP(datagrams, Array("datagram".utf8)) != nil
            }
            if answered, clear == 0 { break }
            usleep(100_000)
        }
        try #require(clear == 0, "the connections are protected before anything happens")
        capture.clear()
    }

    deinit {
        tcp.close()
        close(udp)
    }

    /// On both, whatever becomes of it.
    func send(times: Int = 1, every milliseconds: UInt32 = 10) {
        for _ in 0..<times {
            let bytes = Array("not for others".utf8)
            _ = bytes.withUnsafeBytes { Glibc.send(tcp.descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) }
            _ = bytes.withUnsafeBytes { Glibc.send(udp, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) }
            usleep(milliseconds * 1000)
        }
    }

    /// Packets of the two on beta's wire that are not ESP.
    var clear: Int {
        capture.snapshot().filter { packet in packet.kind == .clear && flows.contains { packet.belongs(to: $0) } }.count
    }

    /// Whether datagrams come back within the time.
    func isAnswered(within seconds: Double) -> Bool {
        let deadline = Instant.now().advanced(by: .seconds(seconds))
        while Instant.now() < deadline {
            if let answer = try? Traffic.echoUDP(udp, Array("\(deadline)".utf8)), !answer.isEmpty { return true }
            usleep(20_000)
        }
        return false
    }
}

extension Stage {
    var wire: String { alpha.namespace.replacingOccurrences(of: "-alpha", with: "-wire") }

    /// A device of alpha's on the wire, with alpha's addresses where it takes the place of eth0.
    func addInterface(_ name: String, addressed: Bool, mac: String? = nil) throws {
        let port = "q\(UInt32.random(in: 0..<1_000_000))"
        try Shell.run(
            "sh", "-c",
            """
            ip link add \(name) \(mac.map { "address \($0)" } ?? "") netns \(alpha.namespace) type veth peer name \(port) netns \(wire) &&
            ip -n \(wire) link set \(port) master br0 up
            """)
        guard addressed else {
            try Shell.run("ip", "-n", alpha.namespace, "link", "set", name, "up")
            return
        }
        try Shell.run(
            "sh", "-c",
            """
            ip -n \(alpha.namespace) link set \(name) up &&
            ip -n \(alpha.namespace) addr add \(alpha.ipv4)/24 brd + dev \(name) &&
            ip -n \(alpha.namespace) addr add \(alpha.ipv6)/64 dev \(name) nodad
            """)
    }

    /// What status says of an interface of alpha's; nil: nothing.
    func interface(_ name: String) throws -> [String: Any]? {
        let status = try #require(try json(alpha, "status") as? [String: Any])
        let states = try #require(status["interfaceStates"] as? [[String: Any]])
        return states.first { $0["interface"] as? String == name }
    }

    /// Waits until status says that an interface has a role and no trouble.
    func isInPlace(_ name: String, _ role: String, within seconds: Double = 1.5) throws -> Bool {
        let deadline = Instant.now().advanced(by: .seconds(seconds))
        repeat {
            if let state = try interface(name), state["role"] as? String == role, state["trouble"] == nil { return true }
            usleep(50_000)
        } while Instant.now() < deadline
        return false
    }

    func clearConnects(from: Lab.Host, to: Lab.Host) -> Bool {
        let (source, target) = (from.ipv4, Endpoint(to.ipv4, Servers.echoPort))
        return (try? lab.inside(from) { try Traffic.connectTCP(from: source, to: target, timeoutSeconds: 1).close() }) != nil
    }
}
