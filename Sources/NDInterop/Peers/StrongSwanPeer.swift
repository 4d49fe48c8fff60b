import Foundation
import Glibc
import NDCore
import NDLab

/// strongSwan's charon, configured over its vici socket.
public final class StrongSwanPeer: InteropPeer, @unchecked Sendable {
    public let kind = PeerKind.strongSwan
    public let host: Lab.Host
    public let version: String
    private let process: PeerProcess
    private let socket: String
    private let connection: VICIConnection
    private let lock = NSLock()

    /// `tree` is the folder of `deploy/interop-peers`.
    public init(_ lab: Lab, _ host: Lab.Host, tree: String) throws {
        self.host = host
        let tree = "\(tree)/\(PeerKind.strongSwan.folder)"
        version = try String(contentsOfFile: "\(tree)/version", encoding: .utf8)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        let directory = "\(lab.directory)/\(host.name)"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        socket = "\(directory)/vici"
        let configuration = "\(directory)/strongswan.conf"
        try """
        charon {
            load = random nonce openssl kdf hmac gcm kernel-netlink socket-default vici
            install_routes = no
            retransmit_timeout = 1.0
            filelog {
                log {
                    path = \(directory)/log
                    default = 1
                    ike = 2
                    cfg = 2
                    time_format = %T
                    time_add_ms = yes
                    flush_line = yes
                }
            }
            plugins {
                vici { socket = unix://\(socket) }
            }
        }
        """.write(toFile: configuration, atomically: true, encoding: .utf8)
        process = try PeerProcess(
            host: host, tree: tree, binds: [("usr/lib/ipsec", "/usr/lib/ipsec")], libraries: ["usr/lib/ipsec"],
            command: ["/usr/lib/ipsec/charon"], environment: ["STRONGSWAN_CONF": configuration],
            logFile: "\(directory)/log")
        do {
            let started = process
            let path = socket
            try Wait.until("strongSwan's control socket", seconds: 60) {
                guard started.isRunning else {
                    throw NDError("interop.strongswan", "strongSwan ended", context: String(started.log.suffix(2000)))
                }
                return access(path, F_OK) == 0 && (try? VICIConnection(path: path)) != nil
            }
            connection = try VICIConnection(path: socket)
        } catch {
            process.stop()
            throw NDError("interop.strongswan", "\(error)", context: String(process.log.suffix(2000)))
        }
    }

    public var log: String { process.log }
    public let liveness = "N(DPD_ACK)"

    private func call(_ command: String, _ message: VICIMessage) throws {
        _ = try lock.withLock { try connection.call(command, message) }
    }

    public func load(_ c: PeerConnection) throws {
        try? unload(c)
        try call(
            "load-shared",
            [
                "id": .text("secret-\(c.name)"), "type": "IKE", "data": .text(c.secret),
                "owners": .list(["\(c.local)", "\(c.remote)"]),
            ])
        let child: VICIMessage = [
            "mode": "transport", "esp_proposals": .list([esp(c.suite)]),
            "start_action": .text(c.requiresIPsec ? "trap" : "none"),
            // A closed or dead SA is for the test to see, not to be replaced.
            "close_action": "none", "dpd_action": "clear",
            "rekey_time": "3600", "life_time": "3700",
        ]
        let main = c.suite.mainMode
        let connection: VICIMessage = [
            "version": "1", "local_addrs": .list(["\(c.local)"]), "remote_addrs": .list(["\(c.remote)"]),
            "proposals": .list(["aes\(main.keyBits)-\(main.hash.rawValue)-\(c.suite.group.rawValue)"]),
            "dpd_delay": .text("\(c.deadPeerDetection)"), "dpd_timeout": .text("\(c.deadPeerDetection * 4)"),
            "unique": "never", "rekey_time": "0", "reauth_time": "14400",
            "local": .section(["auth": "psk", "id": .text("\(c.local)")]),
            "remote": .section(["auth": "psk", "id": .text("\(c.remote)")]),
            "children": .section([Self.child(c): .section(child)].asMessage),
        ]
        try call("load-conn", [c.name: .section(connection)].asMessage)
    }

    private static func child(_ c: PeerConnection) -> String { "\(c.name)-esp" }

    private func esp(_ suite: InteropSuite) -> String {
        let cipher =
            switch suite.esp {
            case .aesGCM16(let bits): "aes\(bits)gcm16"
            case .aesCBCHMACSHA256(let bits): "aes\(bits)-sha256"
            }
        return suite.forwardSecrecy.map { "\(cipher)-\($0.rawValue)" } ?? cipher
    }

    public func unload(_ c: PeerConnection) throws {
        try? call("uninstall", ["child": .text(Self.child(c)), "ike": .text(c.name)])
        try call("unload-conn", ["name": .text(c.name)])
    }

    public func initiate(_ c: PeerConnection) throws {
        try call(
            "initiate",
            ["child": .text(Self.child(c)), "ike": .text(c.name), "timeout": "20000", "loglevel": "0"])
    }

    public func rekeyIPsec(_ c: PeerConnection) throws { try call("rekey", ["child": .text(Self.child(c))]) }

    /// In IKEv1 strongSwan reauthenticates: a new main mode.
    public func rekeyISAKMP(_ c: PeerConnection) throws { try call("rekey", ["ike": .text(c.name), "reauth": "yes"]) }

    public func terminate(_ c: PeerConnection) throws {
        try call("terminate", ["ike": .text(c.name), "timeout": "5000", "loglevel": "0"])
    }

    public func stop() { process.stop() }
}

extension [String: VICIMessage.Value] {
    /// For a section whose name is computed.
    var asMessage: VICIMessage { VICIMessage(map { (name: $0.key, value: $0.value) }) }
}
