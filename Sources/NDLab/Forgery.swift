import Foundation
import NDCore

/// Frames that someone on the wire could forge.
enum Forgery {
    static func mac(_ host: Lab.Host) throws -> [UInt8] {
        let text = try Shell.run("ip", "-n", host.namespace, "-br", "link", "show", "eth0")
        guard let field = text.split(separator: " ").first(where: { $0.split(separator: ":").count == 6 }) else {
            throw NDError("lab.mac", "no MAC address of \(host.name)", context: text)
        }
        return field.split(separator: ":").compactMap { UInt8($0, radix: 16) }
    }

    /// A TCP segment from the flow's remote to its local end; sequence numbers are guesses, which
    /// is enough to be dropped and to be harmless.
    static func segment(to: [UInt8], from: [UInt8], flow: FlowKey, flags: UInt8, payload: [UInt8]) -> [UInt8] {
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
}
