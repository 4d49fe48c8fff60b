import NDABI
import NDCore
import NDPolicy

/// Frames and packets, built from parts; every checksum is right unless a test breaks it.
enum Ethernet {
    static func frame(_ ip: [UInt8], vlans: [UInt16] = [], type: UInt16? = nil) -> [UInt8] {
        // To the loopback's address: a test's packets come to this host.
        var bytes: [UInt8] = [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2]
        for (index, tag) in vlans.enumerated() {
            bytes += (index == 0 && vlans.count > 1 ? 0x88a8 : 0x8100 as UInt16).bytes + tag.bytes
        }
        return bytes + (type ?? ((ip.first ?? 0x40) >> 4 == 6 ? 0x86dd : 0x0800)).bytes + ip
    }
}

extension UInt16 {
    var bytes: [UInt8] { [UInt8(self >> 8), UInt8(self & 0xff)] }
}

extension UInt32 {
    var bytes: [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: self >> (24 - 8 * $0)) } }
}

enum Checksum {
    static func sum(_ bytes: some Collection<UInt8>) -> UInt16 {
        var total: UInt32 = 0
        for (index, byte) in bytes.enumerated() { total += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
        while total >> 16 != 0 { total = (total & 0xffff) + total >> 16 }
        return ~UInt16(total)
    }

    static func transport(_ source: IPAddress, _ destination: IPAddress, _ proto: UInt8, _ segment: [UInt8]) -> UInt16 {
        sum(source.bytes + destination.bytes + UInt32(segment.count).bytes + [0, 0, 0, proto] + segment)
    }
}

/// One side of a conversation as this host sees it; packets of it in either direction.
struct Talk: Hashable, Sendable {
    var family: IPFamily = .v4
    var proto: UInt8 = IPProtocol.tcp
    var localPort: UInt16 = 40000
    var remotePort: UInt16 = 443
    var local: IPAddress
    var remote: IPAddress

    init(_ family: IPFamily, _ proto: UInt8 = IPProtocol.tcp, localPort: UInt16 = 40000, remotePort: UInt16 = 443) {
        self.family = family
        self.proto = proto
        self.localPort = localPort
        self.remotePort = remotePort
        local = Address.local(family)
        remote = Address.remote(family)
    }

    var key: FlowKey {
        FlowKey(local: Endpoint(local, localPort), remote: Endpoint(remote, remotePort), proto: proto)
    }

    func source(_ outbound: Bool) -> IPAddress { outbound ? local : remote }
    func destination(_ outbound: Bool) -> IPAddress { outbound ? remote : local }

    func tcp(_ flags: TCPFlags, out: Bool, options: [UInt8] = [], payload: [UInt8] = [], _ shape: Shape = Shape()) -> [UInt8] {
        var segment = (out ? localPort : remotePort).bytes + (out ? remotePort : localPort).bytes
        segment += UInt32(1).bytes + UInt32(1).bytes
        segment += [UInt8((20 + options.count) / 4) << 4, flags.rawValue] + UInt16(64000).bytes + [0, 0, 0, 0]
        segment += options + payload
        let sum = Checksum.transport(source(out), destination(out), IPProtocol.tcp, segment).bytes
        (segment[16], segment[17]) = (sum[0], sum[1])
        return packet(IPProtocol.tcp, segment, out: out, shape)
    }

    func udp(out: Bool, payload: [UInt8] = Array(1...16), _ shape: Shape = Shape()) -> [UInt8] {
        var segment = (out ? localPort : remotePort).bytes + (out ? remotePort : localPort).bytes
        segment += UInt16(8 + payload.count).bytes + [0, 0] + payload
        let sum = Checksum.transport(source(out), destination(out), IPProtocol.udp, segment).bytes
        (segment[6], segment[7]) = (sum[0], sum[1])
        return packet(IPProtocol.udp, segment, out: out, shape)
    }

    /// TCP as a middle segment, everything else with twelve bytes behind its header.
    func data(out: Bool, _ shape: Shape = Shape()) -> [UInt8] {
        switch proto {
        case IPProtocol.tcp: tcp(.ack, out: out, payload: Array(repeating: 7, count: 12), shape)
        case IPProtocol.udp: udp(out: out, payload: Array(repeating: 7, count: 12), shape)
        default:
            packet(
                proto,
                (out ? localPort : remotePort).bytes + (out ? remotePort : localPort).bytes
                    + Array(repeating: 7, count: 16), out: out, shape)
        }
    }

    func echo(out: Bool, id: UInt16 = 77, reply: Bool = false) -> [UInt8] {
        icmp(family == .v4 ? (reply ? 0 : 8) : (reply ? 129 : 128), 0, id.bytes + UInt16(1).bytes + Array(repeating: 5, count: 16), out: out)
    }

    func echoKey(id: UInt16 = 77) -> FlowKey {
        FlowKey(
            local: Endpoint(local, id), remote: Endpoint(remote, id),
            proto: family == .v4 ? IPProtocol.icmp : IPProtocol.icmpv6)
    }

    /// Body: what follows the checksum.
    func icmp(_ type: UInt8, _ code: UInt8, _ body: [UInt8], out: Bool, from other: IPAddress? = nil) -> [UInt8] {
        var message = [type, code, 0, 0] + body
        let proto = family == .v4 ? IPProtocol.icmp : IPProtocol.icmpv6
        var talk = self
        talk.remote = other ?? remote
        let sum =
            (family == .v4
            ? Checksum.sum(message) : Checksum.transport(talk.source(out), talk.destination(out), proto, message)).bytes
        (message[2], message[3]) = (sum[0], sum[1])
        return talk.packet(proto, message, out: out, Shape())
    }

    /// Packet too big / port unreachable, quoting a packet that went the other way.
    func icmpError(quoting quoted: [UInt8], out: Bool, from other: IPAddress? = nil) -> [UInt8] {
        icmp(family == .v4 ? 3 : 1, family == .v4 ? 3 : 4, [0, 0, 0, 0] + quoted.prefix(64), out: out, from: other)
    }

    /// How the IP header deviates from the plain one.
    struct Shape: Sendable {
        var id: UInt32 = 0x1234
        var df = false
        /// Offset in bytes, a multiple of 8, and whether more follow; nil: not a fragment.
        var fragment: (offset: Int, more: Bool)?
        var options: [UInt8] = []
        /// IPv6 extension headers by number, without their two leading bytes.
        var extensions: [(UInt8, [UInt8])] = []
        /// Added to what the IP header says of its length.
        var claims = 0

        init(
            id: UInt32 = 0x1234, df: Bool = false, fragment: (offset: Int, more: Bool)? = nil, options: [UInt8] = [],
            extensions: [(UInt8, [UInt8])] = [], claims: Int = 0
        ) {
            self.id = id
            self.df = df
            self.fragment = fragment
            self.options = options
            self.extensions = extensions
            self.claims = claims
        }
    }

    func packet(_ proto: UInt8, _ payload: [UInt8], out: Bool, _ shape: Shape) -> [UInt8] {
        family == .v4 ? ipv4(proto, payload, out, shape) : ipv6(proto, payload, out, shape)
    }

    private func ipv4(_ proto: UInt8, _ payload: [UInt8], _ out: Bool, _ shape: Shape) -> [UInt8] {
        let length = 20 + shape.options.count
        var place = UInt16(shape.df ? 0x4000 : 0)
        if let fragment = shape.fragment { place |= UInt16(fragment.offset / 8) | (fragment.more ? 0x2000 : 0) }
        var header: [UInt8] = [0x40 | UInt8(length / 4), 0]
        header += UInt16(truncatingIfNeeded: length + payload.count + shape.claims).bytes
        header += UInt16(truncatingIfNeeded: shape.id).bytes + place.bytes + [64, proto, 0, 0]
        header += source(out).bytes + destination(out).bytes + shape.options
        let sum = Checksum.sum(header).bytes
        (header[10], header[11]) = (sum[0], sum[1])
        return header + payload
    }

    private func ipv6(_ proto: UInt8, _ payload: [UInt8], _ out: Bool, _ shape: Shape) -> [UInt8] {
        var chain = shape.extensions
        if let fragment = shape.fragment {
            let place = UInt16(fragment.offset) | (fragment.more ? 1 : 0)
            chain.append((44, place.bytes + shape.id.bytes))
        }
        var headers: [UInt8] = []
        for (index, (number, body)) in chain.enumerated() {
            let next = index + 1 < chain.count ? chain[index + 1].0 : proto
            headers += [next, number == 44 ? 0 : UInt8((2 + body.count) / 8 - 1)] + body
        }
        return [0x60, 0, 0, 0]
            + UInt16(truncatingIfNeeded: headers.count + payload.count + shape.claims).bytes
            + [chain.first?.0 ?? proto, 64] + source(out).bytes + destination(out).bytes + headers + payload
    }
}
