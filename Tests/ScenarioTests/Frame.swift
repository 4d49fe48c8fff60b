import CNDLab
import Foundation
import NDCore
import NDLab

/// Frames as anybody on the wire can forge them.
struct Frame {
    var destination: [UInt8]
    var source: [UInt8]
    /// VLAN tags in front of the packet: type, and number with priority.
    var tags: [(type: UInt16, number: UInt16)] = []
    var packet: [UInt8]
    var isIPv4: Bool

    var bytes: [UInt8] {
        destination + source + tags.flatMap { Self.word($0.type) + Self.word($0.number) } + (isIPv4 ? [8, 0] : [0x86, 0xdd]) + packet
    }

    static func word(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
    static func word(_ value: UInt32) -> [UInt8] { word(UInt16(value >> 16)) + word(UInt16(value & 0xffff)) }

    static func mac(of host: Lab.Host) throws -> [UInt8] {
        let text = try Shell.run("ip", "-n", host.namespace, "-br", "link", "show", "eth0")
        let field = text.split(separator: " ").first { $0.split(separator: ":").count == 6 } ?? ""
        return field.split(separator: ":").compactMap { UInt8($0, radix: 16) }
    }

    private static func sum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
        while sum >> 16 != 0 { sum = (sum & 0xffff) + (sum >> 16) }
        return ~UInt16(sum)
    }

    /// A packet of a protocol; `checksum` is where its checksum is, over the pseudo header.
    static func packet(_ proto: UInt8, from: IPAddress, to: IPAddress, _ payload: [UInt8], checksum: Int? = nil, hops: UInt8 = 64) -> [UInt8] {
        var payload = payload
        if let checksum {
            let pseudo: [UInt8] = from.bytes + to.bytes + word(UInt32(payload.count)) + [0, 0, 0, proto]
            let value = sum(pseudo + payload)
            payload.replaceSubrange(checksum..<(checksum + 2), with: word(value == 0 ? 0xffff : value))
        }
        guard from.isIPv4 else {
            return [0x60, 0, 0, 0] + word(UInt16(payload.count)) + [proto, hops] + from.bytes + to.bytes + payload
        }
        var header: [UInt8] = [0x45, 0] + word(UInt16(20 + payload.count)) + [0, 1, 0x40, 0, hops, proto, 0, 0] + from.bytes + to.bytes
        header.replaceSubrange(10..<12, with: word(sum(header)))
        return header + payload
    }

    static func udp(from: Endpoint, to: Endpoint, _ payload: [UInt8]) -> [UInt8] {
        packet(
            IPProtocol.udp, from: from.address, to: to.address,
            word(from.port) + word(to.port) + word(UInt16(8 + payload.count)) + [0, 0] + payload, checksum: 6)
    }

    static func tcp(
        from: Endpoint, to: Endpoint, flags: UInt8, sequence: UInt32 = 1, acknowledgement: UInt32 = 1, _ payload: [UInt8] = []
    ) -> [UInt8] {
        packet(
            IPProtocol.tcp, from: from.address, to: to.address,
            word(from.port) + word(to.port) + word(sequence) + word(acknowledgement) + [0x50, flags, 0xff, 0xff, 0, 0, 0, 0] + payload,
            checksum: 16)
    }
}

/// A stranger on the wire, who sends what he likes under whatever address.
struct Stranger {
    private let lab: Lab
    private let host: Lab.Host
    private let own: [UInt8]

    init(_ lab: Lab, _ host: Lab.Host) throws {
        self.lab = lab
        self.host = host
        own = try Frame.mac(of: host)
    }

    func send(_ packets: [[UInt8]], to victim: Lab.Host, tags: [(type: UInt16, number: UInt16)] = [], every microseconds: UInt32 = 0) throws {
        let destination = try Frame.mac(of: victim)
        try send(packets, to: destination, tags: tags, every: microseconds)
    }

    func send(_ packets: [[UInt8]], to mac: [UInt8], tags: [(type: UInt16, number: UInt16)] = [], every microseconds: UInt32 = 0) throws {
        let frames = packets.map { packet in
            Frame(destination: mac, source: own, tags: tags, packet: packet, isIPv4: (packet.first ?? 0) >> 4 == 4).bytes
        }
        let failed = try lab.inside(host) { () -> Bool in
            let index = Int32(if_nametoindex("eth0"))
            for frame in frames {
                guard nd_frame_send(index, frame, frame.count) == frame.count else { return true }
                if microseconds > 0 { usleep(microseconds) }
            }
            return false
        }
        if failed { throw NDError("frame.send", "can't send a frame from \(host.name)") }
    }
}
