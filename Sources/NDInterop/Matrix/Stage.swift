import Foundation
import NDCore
import NDDatapath
import NDLab

/// Who is where:
///
///     alpha           beta          gamma         delta
///     ndbpf           strongSwan    libreswan     strongSwan, for the baseline
///     eth0 ----------- eth0 --------- eth0 --------- eth0
///
/// All four run an echo server; a capture watches every peer's interface.
final class InteropStage: @unchecked Sendable {
    let lab: Lab
    let alpha: Lab.Host
    let secret = "interop-\(getpid())-0123456789"
    let engine: String
    let control: DaemonControl
    private let key: String
    private let tree: String
    private let results: String
    private var servers: [Servers] = []
    private(set) var peers: [PeerKind: any InteropPeer] = [:]
    private(set) var captures: [PeerKind: PacketCapture] = [:]
    private var daemon: DaemonProcess?
    private var variant: InteropCell.Variant?

    init(tree: String, results: String, engine: String) throws {
        self.tree = tree
        self.results = results
        self.engine = engine
        lab = try Lab(tag: "i")
        alpha = try lab.host("alpha")
        control = DaemonControl(instance: try Instance(alpha.instance))
        key = try lab.writeKey(secret)
        // No wire carries what a sender leaves to its card to cut (UDP_SEGMENT holds many ESP packets), and no
        // wire's bytes change later: a kernel decrypts ESP in UDP in place, in pages that the capture of a veth
        // shares with it. Without scatter-gather the bridge's ports cut and copy.
        let wire = alpha.namespace.dropLast("alpha".count) + "wire"
        for index in lab.hosts.indices {
            try Shell.run("ip", "netns", "exec", String(wire), "ethtool", "-K", "p\(index)", "sg", "off")
        }
        for host in lab.hosts { servers.append(try Servers(lab, host)) }
    }

    func start(_ kind: PeerKind) throws {
        let host = try lab.host(kind == .strongSwan ? "beta" : "gamma")
        captures[kind] = try PacketCapture(lab, host, keepBytes: 65_536)
        peers[kind] =
            switch kind {
            case .strongSwan: try StrongSwanPeer(lab, host, tree: tree)
            case .libreswan: try LibreswanPeer(lab, host, tree: tree, secret: secret)
            }
        try exemptNeighbourDiscovery(host)
    }

    /// A peer that requires IPsec for a whole IPv6 host waits for ever for its link-layer address, unless
    /// its administrator lets neighbour discovery pass. libreswan does so by itself.
    private func exemptNeighbourDiscovery(_ host: Lab.Host) throws {
        for type in ["135", "136"] {
            for direction in ["in", "out"] {
                try Shell.run(
                    "ip", "-n", host.namespace, "xfrm", "policy", "update", "src", "::/0", "dst", "::/0", "proto",
                    "ipv6-icmp", "type", type, "dir", direction, "priority", "1", "action", "allow")
            }
        }
    }

    func startBaseline() throws -> StrongSwanPeer { try StrongSwanPeer(lab, try lab.host("delta"), tree: tree) }

    func peer(_ kind: PeerKind) throws -> any InteropPeer {
        guard let peer = peers[kind] else { throw NDError("interop.peer", "\(kind.rawValue) does not run") }
        return peer
    }

    var daemonLog: String { daemon?.logText ?? "" }

    /// ndbpf with what a group of cells needs. It adopts the datapath of the one before.
    func useDaemon(_ wanted: InteropCell.Variant) throws {
        guard variant != wanted || daemon?.isRunning != true else { return }
        stopDaemon()
        let policy = """
            version: 1
            scenario: negotiation-discovery
            interfaces: [eth0]
            keying:
              main-mode: { proposals: [aes256-sha256-ecp256, aes256-sha384-ecp384, aes256-sha256-modp2048] }
              quick-mode: { proposals: [aes128-gcm16, aes256-cbc-sha256], pfs: \(wanted.forwardSecrecy?.rawValue ?? "none") }
              retransmission: { first: 500ms, tries: 5 }
            authentication:
              pre-shared-keys:
                - { remote: any, file: \(key) }
            discovery:
              negative-cache: { first: 1s, factor: 1, most: 1s }
            engine: { kind: \(engine), encapsulation: \(wanted.encapsulation.rawValue) }
            metrics: { listen: none }
            """
        daemon = try lab.startDaemon(
            alpha, policy: policy, arguments: ["--log-level", "debug"], readyWithin: 120)
        variant = wanted
    }

    private func stopDaemon() {
        guard let daemon, let variant else { return }
        daemon.stop(within: 20)
        keep("alpha-\(variant.name).log", daemon.logText)
        self.daemon = nil
    }

    func keep(_ name: String, _ text: String) {
        let file = name.map { $0 == " " || $0 == "/" ? "-" : String($0) }.joined()
        try? text.write(toFile: "\(results)/\(file)", atomically: false, encoding: .utf8)
    }

    /// Ends everything; the captures are the evidence.
    func close() throws {
        stopDaemon()
        for peer in peers.values {
            peer.stop()
            keep("\(peer.kind.rawValue).log", peer.log)
        }
        for (kind, capture) in captures {
            try CaptureFile.write(try capture.stop(), to: "\(results)/\(kind.rawValue).pcap")
        }
        for server in servers { server.close() }
        lab.close()
    }
}
