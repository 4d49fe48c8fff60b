import Foundation
import NDCore
import NDLab
import Testing

@Suite("An independent witness", .serialized)
struct WitnessTests {
    /// tshark gets the keys that the daemon was told to write and must find our plaintext in ESP.
    @Test("tshark, given the keys, decrypts our ESP and finds the plaintext", arguments: ["aes128-gcm16", "aes256-gcm16", "aes256-cbc-sha256"])
    func tshark(suite: String) throws {
        let lab = try Lab(tag: "ts\(suite.filter { $0.isNumber || $0 == "c" })")
        defer { lab.close() }
        let (alpha, beta) = (try lab.host("alpha"), try lab.host("beta"))
        let servers = try Servers(lab, beta)
        defer { servers.close() }
        let keys = "\(lab.directory)/keys"
        let key = try lab.writeKey()
        let policy = Scenarios.policy("negotiation-discovery", key: key).replacingOccurrences(
            of: "keying:\n", with: "keying:\n  quick-mode: { proposals: [\(suite)] }\n")
        try lab.startDaemon(alpha, policy: policy, arguments: ["--debug-key-log", keys])
        try lab.startDaemon(beta, policy: policy)
        let capture = try PacketCapture(lab, alpha, keepBytes: 65_536)
        let secret = "the quick brown fox of \(suite)"
        let source = alpha.ipv4
        let target = Endpoint(beta.ipv4, Servers.echoPort)
        try lab.inside(alpha) {
            let connection = try Traffic.connectTCP(from: source, to: target)
            try Traffic.echo(connection, Array(secret.utf8))
            connection.close()
        }
        let packets = try capture.stop()
        let inClear = packets.contains { Data($0.frame).range(of: Data(secret.utf8)) != nil }
        #expect(!inClear, "the plaintext is on the wire")
        let file = "\(lab.directory)/esp.pcap"
        try Pcap.write(packets, to: file)

        let attributes = try FileManager.default.attributesOfItem(atPath: keys)
        #expect((attributes[.posixPermissions] as? Int) == 0o600)
        var options = ["-o", "esp.enable_encryption_decode:TRUE"]
        for line in try String(contentsOfFile: keys, encoding: .utf8).split(separator: "\n") where line.hasPrefix("esp ") {
            let fields = line.split(separator: " ").map(String.init)
            try #require(fields.count == 6)
            let material = fields[5]
            let (cipher, cipherKey, auth, authKey): (String, String, String, String)
            if fields[4].hasSuffix("gcm16") {
                (cipher, cipherKey) = ("AES-GCM with 16 octet ICV [RFC4106]", material)
                (auth, authKey) = ("NULL", "")
            } else {
                let split = material.index(material.startIndex, offsetBy: 64)
                (cipher, cipherKey) = ("AES-CBC [RFC3602]", String(material[..<split]))
                (auth, authKey) = ("HMAC-SHA-256-128 [RFC4868]", "0x" + material[split...])
            }
            options += [
                "-o",
                "uat:esp_sa:\"IPv4\",\"\(fields[1])\",\"\(fields[2])\",\"0x\(fields[3])\",\"\(cipher)\",\"0x\(cipherKey)\",\"\(auth)\",\"\(authKey)\"",
            ]
        }
        #expect(options.count >= 6, "both directions' keys are in the log")
        let output = try Shell.capture(
            ["tshark", "-r", file, "-Y", "tcp.payload", "-T", "fields", "-e", "tcp.payload"] + options)
        let wanted = secret.utf8.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        let found = output.text.split(separator: "\n").filter { $0.contains(wanted) }.count
        #expect(found >= 2, "request and echo in what tshark decrypted: \(output.text.prefix(2000))")
    }
}

enum Pcap {
    /// Classic pcap, Ethernet, nanosecond times.
    static func write(_ packets: [WirePacket], to path: String) throws {
        var data = Data()
        func put32(_ value: UInt32) { withUnsafeBytes(of: value.littleEndian) { data.append(contentsOf: $0) } }
        func put16(_ value: UInt16) { withUnsafeBytes(of: value.littleEndian) { data.append(contentsOf: $0) } }
        put32(0xa1b2_3c4d)
        put16(2)
        put16(4)
        put32(0)
        put32(0)
        put32(262_144)
        put32(1)
        for packet in packets {
            put32(UInt32(packet.time / 1_000_000_000))
            put32(UInt32(packet.time % 1_000_000_000))
            put32(UInt32(packet.frame.count))
            put32(UInt32(packet.length))
            data.append(contentsOf: packet.frame)
        }
        try data.write(to: URL(fileURLWithPath: path))
    }
}
