import Foundation
import NDCore
import NDLab

extension WirePacket {
    /// Behind the first fragment there is no SPI in front.
    var isLaterFragment: Bool {
        guard frame.count >= 34, frame[12] == 0x08 else { return false }
        return (UInt16(frame[20]) << 8 | UInt16(frame[21])) & 0x1fff != 0
    }

    /// The SPI, of ESP with or without UDP around it.
    var spi: UInt32? {
        guard kind == .esp, frame.count >= 34, !isLaterFragment else { return nil }
        let ip = 14
        var at = frame[12] == 0x08 ? ip + Int(frame[ip] & 0xf) * 4 : ip + 40
        if frame[12] == 0x86, frame[20] == 44 { at += 8 }
        if proto == IPProtocol.udp { at += 8 }
        guard frame.count >= at + 4 else { return nil }
        return frame[at..<(at + 4)].reduce(0) { $0 << 8 | UInt32($1) }
    }

    func isBetween(_ a: IPAddress, _ b: IPAddress) -> Bool {
        (source == a && destination == b) || (source == b && destination == a)
    }
}

/// A classic capture file: Ethernet, nanosecond times.
enum CaptureFile {
    static func write(_ packets: [WirePacket], to path: String) throws {
        var data = Data()
        func put(_ value: UInt32) { withUnsafeBytes(of: value.littleEndian) { data.append(contentsOf: $0) } }
        put(0xa1b2_3c4d)
        put(2 | 4 << 16)
        put(0)
        put(0)
        put(262_144)
        put(1)
        for packet in packets {
            put(UInt32(truncatingIfNeeded: packet.time / 1_000_000_000))
            put(UInt32(truncatingIfNeeded: packet.time % 1_000_000_000))
            put(UInt32(truncatingIfNeeded: packet.frame.count))
            put(UInt32(truncatingIfNeeded: packet.length))
            data.append(contentsOf: packet.frame)
        }
        try data.write(to: URL(fileURLWithPath: path))
    }
}
