import CESP
import CNDABI
import NDCore
import Testing

@testable import NDEngine

/// What the kernel makes of a write: the segments of a super-packet, checksums left out of account.
private func split(_ write: [UInt8]) -> [[UInt8]] {
    let vnet = write.withUnsafeBytes { VirtioHeader(reading: $0.baseAddress!) }
    let packet = Array(write[10...])
    let ip = packet[0] >> 4 == 4 ? 20 : 40
    let payload = Array(packet[ip...])
    guard vnet.segmentation != 0 else { return [payload] }
    let header = Int(payload[12] >> 4) * 4
    let data = Array(payload[header...])
    let starts = Array(stride(from: 0, to: data.count, by: Int(vnet.segmentSize)))
    return starts.map { at in
        let end = min(at + Int(vnet.segmentSize), data.count)
        var own = Array(payload[0..<header])
        own.replaceSubrange(4..<8, with: big32(UInt32(be(own[4..<8])) &+ UInt32(at)))
        if end < data.count { own[13] &= 0b1111_0110 }
        if at > 0 { own[13] &= 0b0111_1111 }
        return own + data[at..<end]
    }
}

private func withoutChecksum(_ tcp: [UInt8]) -> [UInt8] {
    var tcp = tcp
    if tcp.count >= 20 { (tcp[16], tcp[17]) = (0, 0) }
    return tcp
}

/// Feeds the payloads as one UDP_GRO bundle each of its own size and returns the writes.
private func coalesce(_ payloads: [[UInt8]], local: IPAddress = bob4, remote: IPAddress = alice4) throws -> [[UInt8]] {
    let inbound = try Inbound(testSA(.inbound, local: local, remote: remote))
    let coalescer = Coalescer(tun: inbound.tunEnd, counters: inbound.counters)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: payloads.reduce(64) { $0 + $1.count + 64 }, alignment: 64)
    defer { buffer.deallocate() }
    var at = 0
    var writes: [[UInt8]] = []
    for payload in payloads {
        UnsafeMutableRawBufferPointer(rebasing: buffer[at...]).copyBytes(from: payload)
        coalescer.deliver(buffer.baseAddress! + at, length: payload.count, proto: 6, sa: inbound.sa)
        at += (payload.count + 63) / 64 * 64
        writes += inbound.written()
    }
    coalescer.flush()
    return writes + inbound.written()
}

private let plain = TCPSegment(sequence: 1000, data: [UInt8](repeating: 7, count: 100))

private func next(_ change: (inout TCPSegment) -> Void = { _ in }) -> TCPSegment {
    var segment = plain
    segment.sequence = 1100
    change(&segment)
    return segment
}

private struct Pair: Sendable, CustomTestStringConvertible {
    var name: String
    var first: TCPSegment = plain
    var second: TCPSegment
    var testDescription: String { name }
}

private let apart: [Pair] = [
    Pair(name: "a gap", second: next { $0.sequence = 1101 }),
    Pair(name: "a repetition", second: next { $0.sequence = 1000 }),
    Pair(name: "an overlap", second: next { $0.sequence = 1099 }),
    Pair(name: "another source port", second: next { $0.source = 1 }),
    Pair(name: "another destination port", second: next { $0.destination = 1 }),
    Pair(name: "another acknowledgement", second: next { $0.acknowledgement = 78 }),
    Pair(name: "another window", second: next { $0.window = 511 }),
    Pair(name: "options", second: next { $0.options = [1, 1, 1, 1] }),
    Pair(
        name: "other options", first: TCPSegment(sequence: 1000, options: [1, 1, 1, 1], data: plain.data),
        second: next { $0.options = [1, 1, 1, 0] }),
    Pair(name: "a reserved bit", second: next { $0.reserved = 1 }),
    Pair(name: "larger data", second: next { $0.data.append(1) }),
    Pair(name: "no data", second: next { $0.data = [] }),
    Pair(name: "FIN", second: next { $0.flags = 0x11 }),
    Pair(name: "SYN", second: next { $0.flags = 0x12 }),
    Pair(name: "RST", second: next { $0.flags = 0x14 }),
    Pair(name: "URG", second: next { $0.flags = 0x30 }),
    Pair(name: "ECE", second: next { $0.flags = 0x50 }),
    Pair(name: "CWR", second: next { $0.flags = 0x90 }),
    Pair(name: "PSH before", first: TCPSegment(sequence: 1000, flags: 0x18, data: plain.data), second: next()),
    Pair(name: "FIN before", first: TCPSegment(sequence: 1000, flags: 0x11, data: plain.data), second: next()),
    Pair(name: "no ACK before", first: TCPSegment(sequence: 1000, flags: 0, data: plain.data), second: next()),
    Pair(name: "no data before", first: TCPSegment(sequence: 1100, data: []), second: next()),
]

struct CoalescerTests {
    @Test("Consecutive segments become one write, and its split gives them back")
    func merges() throws {
        for (local, remote) in [(bob4, alice4), (loopback6, loopback6)] {
            var random = Seeded(8)
            var segments = (0..<20).map {
                TCPSegment(sequence: 0xffff_ff00 &+ UInt32($0 * 1000), options: [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], data: random.bytes(1000)).bytes
            }
            segments[19] = TCPSegment(
                sequence: 0xffff_ff00 &+ 19_000, flags: 0x18, options: [1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8], data: random.bytes(321)).bytes
            let writes = try coalesce(segments, local: local, remote: remote)
            #expect(writes.count == 1)
            #expect(writes.flatMap(split).map(withoutChecksum) == segments)
            // The header is right: lengths, addresses, a sum of its own, and the pseudo header's in TCP.
            let packet = Array(writes[0][10...])
            let ip = local.isIPv4 ? 20 : 40
            let length = packet.count - ip
            if ip == 20 {
                #expect(referenceSum(Array(packet[0..<20])) == 0xffff)
                #expect(be(packet[2..<4]) == UInt64(packet.count))
                #expect(Array(packet[12..<20]) == remote.bytes + local.bytes)
            } else {
                #expect(be(packet[4..<6]) == UInt64(length))
                #expect(Array(packet[8..<40]) == remote.bytes + local.bytes)
            }
            let field = be(packet[(ip + 16)..<(ip + 18)])
            let pseudo = UInt64(referenceSum(pseudoHeader(remote, local, proto: 6, length: length)))
            #expect(field == pseudo)
            let vnet = writes[0].withUnsafeBytes { VirtioHeader(reading: $0.baseAddress!) }
            #expect(vnet.flags == 1)
            #expect(Int(vnet.checksumStart) == ip)
            #expect(vnet.checksumOffset == 16)
            #expect(Int(vnet.headerLength) == ip + 32)
            #expect(vnet.segmentSize == 1000)
        }
    }

    @Test("Segments that differ are written apart", arguments: apart)
    fileprivate func keepsApart(_ pair: Pair) throws {
        let writes = try coalesce([pair.first.bytes, pair.second.bytes])
        #expect(writes.flatMap(split).map(withoutChecksum) == [pair.first.bytes, pair.second.bytes])
        #expect(writes.count == 2)
    }

    @Test("Random streams come out byte for byte and in order")
    func random() throws {
        var random = Seeded(9)
        for _ in 0..<60 {
            var segments: [[UInt8]] = []
            var sequence = UInt32(truncatingIfNeeded: random.next())
            for _ in 0..<(1 + random.below(200)) {
                var segment = TCPSegment(sequence: sequence, data: random.bytes([0, 10, 500, 500, 500, 500, 1400][random.below(7)]))
                switch random.below(20) {
                case 0: segment.flags = UInt8(truncatingIfNeeded: random.next())
                case 1: segment.flags = 0x18
                case 2: segment.acknowledgement &+= 1
                case 3: segment.source &+= 1
                case 4: segment.sequence &+= 1
                case 5: segment.options = [1, 1, 1, UInt8(random.below(2))]
                default: break
                }
                sequence = segment.sequence &+ UInt32(segment.data.count)
                segments.append(segment.bytes)
            }
            let writes = try coalesce(segments)
            #expect(writes.flatMap(split).map(withoutChecksum) == segments)
            #expect(writes.allSatisfy { $0.count <= 10 + 65_535 })
        }
    }

    @Test("A TCP header that lies about its length is delivered as it is", arguments: [0x00, 0x40, 0xf0] as [UInt8])
    func badOffset(offset: UInt8) throws {
        var bytes = TCPSegment(data: [1, 2]).bytes
        bytes[12] = offset
        let writes = try coalesce([bytes, [1, 2, 3]])
        #expect(writes.map { Array($0[30...]) } == [bytes, [1, 2, 3]])
    }
}
