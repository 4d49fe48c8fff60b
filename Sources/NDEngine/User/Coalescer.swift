import CESP
import CNDABI
import NDCore

/// Writes decrypted payloads into the TUN, with IP headers rebuilt from the SA. Consecutive TCP
/// segments of one connection go as one super-packet, gathered from where they were decrypted.
final class Coalescer {
    private static let mostPieces = 130
    private static let mostBytes = 65_000

    private let tun: Int32
    private let counters: WorkerCounters
    /// vnet header and IP header.
    private let head: UnsafeMutableRawPointer
    private let pieces: UnsafeMutablePointer<nd_piece>
    private var pieceCount = 0

    private var groupSA: InboundSA?
    private var tcp: UnsafeMutableRawPointer?
    private var tcpHeader = 0
    private var segment = 0
    private var bytes = 0
    private var nextSequence: UInt32 = 0
    private var closed = false
    private var segments = 0

    init(tun: Int32, counters: WorkerCounters) {
        self.tun = tun
        self.counters = counters
        head = .allocate(byteCount: 64, alignment: 16)
        pieces = .allocate(capacity: Self.mostPieces)
        pieces.initialize(repeating: nd_piece(), count: Self.mostPieces)
    }

    deinit {
        head.deallocate()
        pieces.deallocate()
    }

    /// The payload must stay where it is until `flush`.
    func deliver(_ payload: UnsafeMutableRawPointer, length: Int, proto: UInt8, sa: InboundSA) {
        guard proto == IPProtocol.tcp, length >= 20 else {
            flush()
            return single(payload, length: length, proto: proto, sa: sa)
        }
        let p = UnsafeRawPointer(payload)
        let header = Int(p.u8(12) >> 4) * 4
        guard header >= 20, header <= length else {
            flush()
            return single(payload, length: length, proto: proto, sa: sa)
        }
        let data = length - header
        let flags = p.u8(13)
        // Only ACK, with or without PSH, may be merged.
        let plain = flags & ~0x08 == 0x10
        if let first = tcp, let groupSA, groupSA === sa, !closed, plain, data > 0, data <= segment,
            header == tcpHeader, p.be32(4) == nextSequence, bytes + data <= Self.mostBytes,
            pieceCount < Self.mostPieces, sameHeader(UnsafeRawPointer(first), p, header)
        {
            pieces[pieceCount] = nd_piece(data: p + header, size: data)
            pieceCount += 1
            bytes += data
            segments += 1
            nextSequence = nextSequence &+ UInt32(truncatingIfNeeded: data)
            if flags & 0x08 != 0 { first.put8(UnsafeRawPointer(first).u8(13) | 0x08, 13) }
            closed = data < segment || flags & 0x08 != 0
            return
        }
        flush()
        groupSA = sa
        tcp = payload
        tcpHeader = header
        segment = data
        bytes = length
        segments = 1
        pieces[1] = nd_piece(data: p, size: length)
        pieceCount = 2
        nextSequence = p.be32(4) &+ UInt32(truncatingIfNeeded: data)
        closed = !plain || data == 0 || flags & 0x08 != 0
    }

    /// Ports, acknowledgement, offset and reserved bits, window and options alike.
    private func sameHeader(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ header: Int) -> Bool {
        guard a.be32(0) == b.be32(0), a.be32(8) == b.be32(8), a.u8(12) == b.u8(12),
            a.be16(14) == b.be16(14)
        else { return false }
        var at = 20
        while at < header {
            if a.be32(at) != b.be32(at) { return false }
            at += 4
        }
        return true
    }

    func flush() {
        guard let first = tcp, let sa = groupSA else { return }
        tcp = nil
        groupSA = nil
        var vnet = VirtioHeader()
        let ip = writeIP(sa, proto: IPProtocol.tcp, length: bytes)
        vnet.flags = VirtioHeader.needsChecksum
        vnet.checksumStart = UInt16(ip)
        vnet.checksumOffset = 16
        if segments > 1 {
            vnet.segmentation =
                ip == 20 ? VirtioHeader.Segmentation.tcpv4.rawValue : VirtioHeader.Segmentation.tcpv6.rawValue
            vnet.segmentSize = UInt16(truncatingIfNeeded: segment)
            vnet.headerLength = UInt16(truncatingIfNeeded: ip + tcpHeader)
        }
        vnet.write(to: head)
        first.storeBytes(
            of: pseudoSum(ip, proto: IPProtocol.tcp, length: bytes), toByteOffset: 16, as: UInt16.self)
        write(ip)
    }

    private func single(_ payload: UnsafeMutableRawPointer, length: Int, proto: UInt8, sa: InboundSA) {
        var vnet = VirtioHeader()
        let ip = writeIP(sa, proto: proto, length: length)
        // ESP vouches for the content (and a NAT may have made the checksum wrong, RFC 3948 §3.1.2):
        // a partial checksum tells the stack not to verify.
        if proto == IPProtocol.udp, length >= 8, UnsafeRawPointer(payload).be16(6) != 0 {
            vnet.flags = VirtioHeader.needsChecksum
            vnet.checksumStart = UInt16(ip)
            vnet.checksumOffset = 6
            payload.storeBytes(of: pseudoSum(ip, proto: proto, length: length), toByteOffset: 6, as: UInt16.self)
        }
        vnet.write(to: head)
        pieces[1] = nd_piece(data: UnsafeRawPointer(payload), size: length)
        pieceCount = 2
        segments = 1
        write(ip)
    }

    private func write(_ ip: Int) {
        pieces[0] = nd_piece(data: UnsafeRawPointer(head), size: VirtioHeader.byteCount + ip)
        if nd_tun_write(tun, pieces, Int32(pieceCount)) < 0 { counters.drop(ND_DROP_DELIVER_FAILED, segments) }
        pieceCount = 0
    }

    /// A plain header from the SA's addresses; returns its length.
    private func writeIP(_ sa: InboundSA, proto: UInt8, length: Int) -> Int {
        let ip = head + VirtioHeader.byteCount
        if sa.sa.peer.remote.isIPv4 {
            ip.put16(0x4500, 0)
            ip.put16(UInt16(truncatingIfNeeded: 20 + length), 2)
            ip.put32(0x0000_4000, 4)
            ip.put8(64, 8)
            ip.put8(proto, 9)
            ip.put16(0, 10)
            withUnsafeBytes(of: sa.from.bytes) { ip.copyMemory(at: 12, from: $0, 12..<16) }
            withUnsafeBytes(of: sa.to.bytes) { ip.copyMemory(at: 16, from: $0, 12..<16) }
            ip.storeBytes(of: ~nd_fold(nd_sum(ip, 20, 0)), toByteOffset: 10, as: UInt16.self)
            return 20
        }
        ip.put32(0x6000_0000, 0)
        ip.put16(UInt16(truncatingIfNeeded: length), 4)
        ip.put8(proto, 6)
        ip.put8(64, 7)
        withUnsafeBytes(of: sa.from.bytes) { ip.copyMemory(at: 8, from: $0, 0..<16) }
        withUnsafeBytes(of: sa.to.bytes) { ip.copyMemory(at: 24, from: $0, 0..<16) }
        return 40
    }

    /// What CHECKSUM_PARTIAL wants in the field: the pseudo header's sum, not complemented.
    private func pseudoSum(_ ip: Int, proto: UInt8, length: Int) -> UInt16 {
        let addresses = head + VirtioHeader.byteCount + (ip == 20 ? 12 : 8)
        let start = UInt32(UInt16(proto).bigEndian) &+ UInt32(UInt16(truncatingIfNeeded: length).bigEndian)
        return nd_fold(nd_sum(addresses, ip == 20 ? 8 : 32, start))
    }
}

extension UnsafeMutableRawPointer {
    func copyMemory(at offset: Int, from: UnsafeRawBufferPointer, _ range: Range<Int>) {
        guard let base = from.baseAddress, range.upperBound <= from.count else { return }
        (self + offset).copyMemory(from: base + range.lowerBound, byteCount: range.count)
    }
}
