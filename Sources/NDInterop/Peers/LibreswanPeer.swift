import Foundation
import Glibc
import NDCore
import NDLab
import NDPolicy

/// libreswan's pluto, configured by its whack.
public final class LibreswanPeer: InteropPeer, @unchecked Sendable {
    public let kind = PeerKind.libreswan
    public let host: Lab.Host
    public let version: String
    private let process: PeerProcess
    private let tree: String
    private let directory: String
    private static let programs = "usr/libexec/ipsec"
    private static let libraries = ["usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/nss"]

    public init(_ lab: Lab, _ host: Lab.Host, tree: String, secret: String) throws {
        self.host = host
        let tree = "\(tree)/\(PeerKind.libreswan.folder)"
        self.tree = tree
        version = try String(contentsOfFile: "\(tree)/version", encoding: .utf8)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        directory = "\(lab.directory)/\(host.name)"
        let files = FileManager.default
        try files.createDirectory(atPath: "\(directory)/run", withIntermediateDirectories: true)
        try files.copyItem(atPath: "\(tree)/nss", toPath: "\(directory)/nss")
        let secrets = "\(directory)/secrets"
        try ": PSK \"\(secret)\"\n".write(toFile: secrets, atomically: true, encoding: .utf8)
        chmod(secrets, 0o600)
        let configuration = "\(directory)/ipsec.conf"
        try "config setup\n\tikev1-policy=accept\n".write(toFile: configuration, atomically: true, encoding: .utf8)
        process = try PeerProcess(
            host: host, tree: tree, binds: [(Self.programs, "/\(Self.programs)")], libraries: Self.libraries,
            command: [
                "/\(Self.programs)/pluto", "--nofork", "--config", configuration, "--logfile", "\(directory)/log", "--rundir",
                "\(directory)/run", "--secretsfile", secrets, "--ipsecdir", directory, "--nssdir", "\(directory)/nss",
                "--dumpdir", directory, "--no-dnssec", "--use-xfrm", "--nhelpers", "0", "--log-no-audit",
            ], logFile: "\(directory)/log")
        do {
            let started = process
            let socket = "\(directory)/run/pluto.ctl"
            try Wait.until("libreswan's control socket", seconds: 60) {
                guard started.isRunning else {
                    throw NDError("interop.libreswan", "libreswan ended", context: String(started.log.suffix(2000)))
                }
                return access(socket, F_OK) == 0
            }
            try whack(["--listen"])
        } catch {
            process.stop()
            throw NDError("interop.libreswan", "\(error)", context: String(process.log.suffix(2000)))
        }
    }

    public var log: String { process.log }
    /// It writes no more than that it will ask; an answer that fails takes the SA away.
    public let liveness = "DPD=active"

    /// whack's output; throws when it says failure.
    @discardableResult
    private func whack(_ arguments: [String]) throws -> String {
        let output = try Shell.capture(
            ["\(tree)/\(Self.programs)/whack", "--rundir", "\(directory)/run"] + arguments,
            environment: ["LD_LIBRARY_PATH": Self.libraries.map { "\(tree)/\($0)" }.joined(separator: ":")])
        guard output.status == 0 else {
            throw NDError(
                "interop.whack", "whack \(arguments.joined(separator: " ")) failed with \(output.status)",
                context: output.text.trimmingCharacters(in: .whitespacesAndNewlines))
        }
        return output.text
    }

    private static func number(_ group: DiffieHellmanGroup) -> String {
        group == .modp2048 ? "modp2048" : "dh\(group.number)"
    }

    public func load(_ c: PeerConnection) throws {
        let main = c.suite.mainMode
        let hash =
            switch main.hash {
            case .sha1: "sha1"
            case .sha256: "sha2_256"
            case .sha384: "sha2_384"
            }
        let group = Self.number(c.suite.group)
        let esp =
            switch c.suite.esp {
            case .aesGCM16(let bits): "aes_gcm\(bits)-null"
            case .aesCBCHMACSHA256(let bits): "aes\(bits)-sha2_256"
            }
        var arguments = ["--name", c.name, "--ikev1", "--psk", "--encrypt"]
        arguments += ["--ike", "aes\(main.keyBits)-\(hash);\(group)"]
        arguments += ["--esp", c.suite.forwardSecrecy.map { "\(esp);\(Self.number($0))" } ?? esp]
        if c.suite.forwardSecrecy != nil { arguments.append("--pfs") }
        if !c.local.isIPv4 { arguments += ["--ipv6"] }
        arguments += ["--ikelifetime", "28800", "--ipseclifetime", "3600"]
        arguments += ["--retransmit-interval", "500", "--retransmit-timeout", "20", "--keyingtries", "1"]
        // ipsec.conf's default; whack's own is never to encapsulate.
        arguments += ["--encaps", "auto"]
        if c.deadPeerDetection > 0 {
            arguments += [
                "--dpddelay", "\(c.deadPeerDetection)", "--dpdtimeout", "\(c.deadPeerDetection * 4)",
                "--dpdaction", "clear",
            ]
        }
        if c.requiresIPsec { arguments += ["--initiateontraffic", "--faildrop"] }
        arguments += ["--host", "\(c.local)", "--updown", "%disabled"]
        arguments += ["--to", "--host", "\(c.remote)", "--updown", "%disabled"]
        _ = try? unload(c)
        try whack(arguments)
        if c.requiresIPsec { try whack(["--route", "--name", c.name]) }
    }

    public func unload(_ c: PeerConnection) throws { try whack(["--delete", "--name", c.name]) }

    public func initiate(_ c: PeerConnection) throws {
        let text = try whack(["--initiate", "--name", c.name])
        guard text.contains("IPsec SA established") else {
            throw NDError("interop.libreswan", "libreswan did not come to an SA", context: String(text.suffix(1000)))
        }
    }

    /// `--rekey-ipsec` is for IKEv2; in IKEv1 a second `--initiate` makes the next quick mode.
    public func rekeyIPsec(_ c: PeerConnection) throws { try initiate(c) }
    public func rekeyISAKMP(_ c: PeerConnection) throws { try whack(["--rekey-ike", "--name", c.name]) }

    /// `--terminate` leaves the ISAKMP SA of IKEv1 alone; deleting the connection ends both.
    public func terminate(_ c: PeerConnection) throws {
        try whack(["--delete", "--name", c.name])
    }

    public func stop() { process.stop() }
}
