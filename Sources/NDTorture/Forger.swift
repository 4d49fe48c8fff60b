import CNDLab
import NDCore

/// Frames that somebody on the wire makes up, to a host whose flow they claim to be of.
struct Forger {
    /// To whom; the sender's part of the flow comes first.
    var flow: FlowKey
    var id: UInt32
    var macs: [UInt8]
    /// The receiver takes a segment that begins here.
    var sequence: UInt32 = 1
    var acknowledges: UInt32 = 1

    enum Wrapping: String, CaseIterable {
        case plain, vlan, tagged0, nested, options, fragments, tiny
    }

    enum Content: String, CaseIterable {
        case data, rst, syn, fin, synAck, unreachable, tooBig
    }

    private var isIPv4: Bool { flow.local.address.isIPv4 }

    func frames(_ content: Content, _ wrapping: Wrapping, identification: UInt16) -> [[UInt8]] {
        let (proto, payload) = transport(content)
        switch wrapping {
        case .plain: return [frame(proto, payload)]
        case .vlan: return [frame(proto, payload, tags: [7])]
        case .tagged0: return [frame(proto, payload, tags: [0])]
        case .nested: return [frame(proto, payload, tags: [0, 0, 0, 0, 0, 0])]
        case .options: return [frame(proto, payload, options: true)]
        case .fragments, .tiny:
            // The smallest first part that a parser could make something of, or one without the ports.
            let first = wrapping == .tiny ? 8 : 24
            guard payload.count > first else { return [frame(proto, payload)] }
            return [
                frame(proto, Array(payload[..<first]), fragment: (identification, 0, true)),
                frame(proto, Array(payload[first...]), fragment: (identification, first, false)),
            ]
        }
    }

    private func transport(_ content: Content) -> (UInt8, [UInt8]) {
        switch content {
        case .unreachable, .tooBig:
            // The quoted packet went the other way.
            let quoted = FlowKey(local: flow.remote, remote: flow.local, proto: flow.proto)
            var l4 = quoted.local.port.octets + quoted.remote.port.octets
            l4 += flow.proto == IPProtocol.tcp ? acknowledges.octets + [UInt8](repeating: 0, count: 12) : [0, 40, 0, 0]
            l4 += [UInt8](repeating: 0, count: 8)
            let inner = packet(quoted, flow.proto, l4)
            if isIPv4 {
                var icmp: [UInt8] = [3, content == .tooBig ? 4 : 3, 0, 0, 0, 0, 2, 64] + inner
                icmp.place(Self.sum(icmp), at: 2)
                return (IPProtocol.icmp, icmp)
            }
            var icmp: [UInt8] = (content == .tooBig ? [2, 0, 0, 0, 0, 0, 5, 0] : [1, 4, 0, 0, 0, 0, 0, 0]) + inner
            icmp.place(Self.sum(pseudo(flow, IPProtocol.icmpv6, icmp.count) + icmp), at: 2)
            return (IPProtocol.icmpv6, icmp)
        default: break
        }
        var marker = [UInt8](repeating: 0, count: Int(ND_MARKER_BYTES))
        var what = nd_marker(flow: id, number: 0, direction: 0, forged: true)
        nd_marker_write(&marker, &what)
        let ports = flow.local.port.octets + flow.remote.port.octets
        if flow.proto == IPProtocol.udp {
            let data = marker + marker
            var udp = ports + UInt16(8 + data.count).octets + [0, 0] + data
            udp.place(Self.sum(pseudo(flow, flow.proto, udp.count) + udp), at: 6)
            return (flow.proto, udp)
        }
        let flags: UInt8 =
            switch content {
            case .rst: 0x14
            case .syn: 0x02
            case .fin: 0x11
            case .synAck: 0x12
            default: 0x18
            }
        var tcp = ports + sequence.octets + acknowledges.octets + [0x50, flags, 0x20, 0, 0, 0, 0, 0]
        if content == .data { tcp += marker + marker }
        tcp.place(Self.sum(pseudo(flow, flow.proto, tcp.count) + tcp), at: 16)
        return (flow.proto, tcp)
    }

    private func pseudo(_ flow: FlowKey, _ proto: UInt8, _ count: Int) -> [UInt8] {
        flow.local.address.bytes + flow.remote.address.bytes
            + (isIPv4 ? [0, proto] + UInt16(truncatingIfNeeded: count).octets : UInt32(truncatingIfNeeded: count).octets + [0, 0, 0, proto])
    }

    private func packet(
        _ flow: FlowKey, _ proto: UInt8, _ payload: [UInt8], options: Bool = false, fragment: (UInt16, Int, Bool)? = nil
    ) -> [UInt8] {
        let addresses = flow.local.address.bytes + flow.remote.address.bytes
        if isIPv4 {
            let extra: [UInt8] = options ? [1, 1, 1, 0] : []
            let length = 20 + extra.count + payload.count
            let place = fragment.map { UInt16($0.1 / 8) | ($0.2 ? 0x2000 : 0) } ?? 0x4000
            var ip: [UInt8] = [0x45 + UInt8(extra.count / 4), 0] + UInt16(truncatingIfNeeded: length).octets
            ip += (fragment?.0 ?? 1).octets + place.octets + [64, proto, 0, 0] + addresses + extra
            ip.place(Self.sum(ip), at: 10)
            return ip + payload
        }
        var (next, body) = (proto, payload)
        if let fragment {
            body = [next, 0] + (UInt16(fragment.1) | (fragment.2 ? 1 : 0)).octets + [0, 0] + fragment.0.octets + body
            next = 44
        }
        if options {
            body = [next, 0, 1, 4, 0, 0, 0, 0] + body
            next = 60
        }
        return [0x60, 0, 0, 0] + UInt16(truncatingIfNeeded: body.count).octets + [next, 64] + addresses + body
    }

    private func frame(
        _ proto: UInt8, _ payload: [UInt8], tags: [UInt16] = [], options: Bool = false, fragment: (UInt16, Int, Bool)? = nil
    ) -> [UInt8] {
        macs + tags.flatMap { [0x81, 0] + $0.octets } + (isIPv4 ? [8, 0] : [0x86, 0xdd])
            + packet(flow, proto, payload, options: options, fragment: fragment)
    }

    /// A frame for `nd_frame_flood`: a SYN or a datagram from some stranger.
    static func stranger(macs: [UInt8], to: Endpoint, proto: UInt8) -> [UInt8] {
        let from = Endpoint(to.address.isIPv4 ? IPAddress("10.200.0.1") ?? to.address : IPAddress("fd78::1") ?? to.address, 4000)
        let forger = Forger(flow: FlowKey(local: from, remote: to, proto: proto), id: 0, macs: macs)
        return forger.frames(proto == IPProtocol.tcp ? .syn : .data, .plain, identification: 1).first ?? []
    }

    /// An unprotected informational exchange that deletes everything, as if by the peer, with the cookies given.
    static func deletion(macs: [UInt8], from: IPAddress, to: IPAddress, port: UInt16, cookies: [UInt8]) -> [UInt8] {
        // RFC 2408 §3.1, §3.15: header, then a delete payload of the ISAKMP SA that the cookies name.
        let body: [UInt8] = [0, 0, 0, 28, 0, 0, 0, 1, 1, 16, 0, 1] + cookies
        let isakmp = cookies + [12, 0x10, 5, 0, 1, 2, 3, 4] + UInt32(28 + body.count).octets + body
        let data = (port == 4500 ? [0, 0, 0, 0] : []) + isakmp
        let forger = Forger(flow: FlowKey(local: Endpoint(from, port), remote: Endpoint(to, port), proto: IPProtocol.udp), id: 0, macs: macs)
        var udp = port.octets + port.octets + UInt16(8 + data.count).octets + [0, 0] + data
        udp.place(sum(forger.pseudo(forger.flow, IPProtocol.udp, udp.count) + udp), at: 6)
        return forger.frame(IPProtocol.udp, udp)
    }

    private static func sum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for (index, byte) in bytes.enumerated() { sum += index % 2 == 0 ? UInt32(byte) << 8 : UInt32(byte) }
        while sum >> 16 != 0 { sum = (sum & 0xffff) + (sum >> 16) }
        return ~UInt16(sum)
    }
}

extension FixedWidthInteger {
    /// In network order.
    var octets: [UInt8] { withUnsafeBytes(of: bigEndian) { Array($0) } }
}

extension [UInt8] {
    fileprivate mutating func place(_ value: UInt16, at index: Int) {
        self[index] = UInt8(value >> 8)
        self[index + 1] = UInt8(value & 255)
    }
}
