import NDCore
import NDLab

/// One ESP state of a kernel, keys included, as `ip xfrm state` prints it: the peer's key log.
public struct KernelState: Sendable, Hashable, Codable {
    public var source: String
    public var destination: String
    public var spi: UInt32
    public var mode: String
    /// "rfc4106(gcm(aes))" or "cbc(aes)", with the key in hexadecimal; GCM's has the salt at its end.
    public var cipher: String
    public var cipherKey: String
    public var authentication: String?
    public var authenticationKey: String?
    public var inUDP: Bool

    /// Every ESP state of a host's kernel.
    public static func all(_ host: Lab.Host) throws -> [KernelState] {
        parse(try Shell.run("ip", "-n", host.namespace, "xfrm", "state"))
    }

    /// Acquires ("larval" states) have no SPI yet and are left out.
    static func parse(_ text: String) -> [KernelState] {
        var found: [KernelState] = []
        var current: KernelState?
        func finish() {
            if let state = current, state.spi != 0, !state.cipher.isEmpty { found.append(state) }
            current = nil
        }
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
            func after(_ word: String) -> String? {
                guard let at = words.firstIndex(of: word), at + 1 < words.count else { return nil }
                return words[at + 1]
            }
            switch words.first {
            case "src" where line.first == "s":
                finish()
                guard let source = after("src"), let destination = after("dst") else { continue }
                current = KernelState(
                    source: source, destination: destination, spi: 0, mode: "", cipher: "", cipherKey: "",
                    inUDP: false)
            case "proto" where after("proto") == "esp":
                current?.spi = after("spi").flatMap { UInt32($0.dropFirst(2), radix: 16) } ?? 0
                current?.mode = after("mode") ?? ""
            case "aead", "enc":
                guard words.count >= 3 else { continue }
                current?.cipher = words[1]
                current?.cipherKey = words[2]
            case "auth-trunc", "auth":
                guard words.count >= 3 else { continue }
                current?.authentication = words[1]
                current?.authenticationKey = words[2]
            case "encap": current?.inUDP = true
            default: break
            }
        }
        finish()
        return found
    }

    /// A line of tshark's table "ESP SAs".
    var dissectorOption: String {
        let family = source.contains(":") ? "IPv6" : "IPv4"
        let spi = String(self.spi, radix: 16)
        let (cipher, icv) =
            self.cipher.contains("gcm") ? ("AES-GCM with 16 octet ICV [RFC4106]", "NULL")
            : ("AES-CBC [RFC3602]", "HMAC-SHA-256-128 [RFC4868]")
        return "uat:esp_sa:\"\(family)\",\"\(source)\",\"\(destination)\",\"0x\(spi)\",\"\(cipher)\",\"\(cipherKey)\",\"\(icv)\",\"\(authenticationKey ?? "")\""
    }
}
