import CNDSystem
import Glibc
import NDCore

/// Sends a stored first packet again, header included; it passes TC egress, which now redirects it.
final class PacketReplay: @unchecked Sendable {
    private let ipv4: Int32
    private let ipv6: Int32

    init() throws {
        ipv4 = nd_raw_sender_open(false)
        ipv6 = nd_raw_sender_open(true)
        guard ipv4 >= 0, ipv6 >= 0 else {
            throw NDError(
                "run.raw-socket", "can't open a raw socket: \(String(cString: strerror(-min(ipv4, ipv6))))",
                hint: "CAP_NET_RAW is needed")
        }
    }

    deinit {
        close(ipv4)
        close(ipv6)
    }

    /// False when the packet is not one we can send or the kernel refused it.
    func send(_ packet: [UInt8]) -> Bool {
        guard let whole = Self.withChecksums(packet), let first = whole.first else { return false }
        let isIPv6 = first >> 4 == 6
        return nd_raw_send(isIPv6 ? ipv6 : ipv4, whole, whole.count, isIPv6) >= 0
    }

    /// The copy was taken before the device would have finished the checksums (CHECKSUM_PARTIAL):
    /// computes those of TCP, UDP and ICMPv6. nil for what is no whole, unfragmented IP packet.
    static func withChecksums(_ packet: [UInt8]) -> [UInt8]? {
        guard let first = packet.first else { return nil }
        var out = packet
        let proto: UInt8
        let start: Int
        var pseudo: [UInt8]
        switch first >> 4 {
        case 4:
            start = Int(first & 0xf) * 4
            guard start >= 20, packet.count > start, Int(packet[2]) << 8 | Int(packet[3]) == packet.count,
                (UInt16(packet[6]) << 8 | UInt16(packet[7])) & 0x3fff == 0
            else { return nil }
            proto = packet[9]
            pseudo = Array(packet[12..<20])
        case 6:
            start = 40
            guard packet.count > start, Int(packet[4]) << 8 | Int(packet[5]) == packet.count - start else {
                return nil
            }
            proto = packet[6]
            pseudo = Array(packet[8..<40])
        default:
            return nil
        }
        let field: Int
        switch proto {
        case IPProtocol.tcp: field = start + 16
        case IPProtocol.udp: field = start + 6
        case IPProtocol.icmpv6: field = start + 2
        default: return out
        }
        guard field + 2 <= packet.count else { return nil }
        let length = packet.count - start
        pseudo += [
            UInt8(truncatingIfNeeded: length >> 24), UInt8(truncatingIfNeeded: length >> 16),
            UInt8(truncatingIfNeeded: length >> 8), UInt8(truncatingIfNeeded: length), 0, 0, 0, proto,
        ]
        out[field] = 0
        out[field + 1] = 0
        var sum = ~internetChecksum(pseudo + out[start...])
        // RFC 768: zero means no checksum.
        if sum == 0, proto == IPProtocol.udp { sum = 0xffff }
        out[field] = UInt8(sum >> 8)
        out[field + 1] = UInt8(sum & 0xff)
        return out
    }

    private static func internetChecksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt64 = 0
        var index = 0
        while index + 1 < bytes.count {
            sum &+= UInt64(bytes[index]) << 8 | UInt64(bytes[index + 1])
            index += 2
        }
        if index < bytes.count { sum &+= UInt64(bytes[index]) << 8 }
        while sum >> 16 != 0 { sum = (sum & 0xffff) &+ (sum >> 16) }
        return UInt16(sum)
    }
}
