import CNetlink
import NDCore

/// One message of a netlink datagram, without its header (netlink(7)).
struct NetlinkMessage: Hashable, Sendable {
    var type: UInt16
    var flags: UInt16
    var sequence: UInt32
    var payload: [UInt8]

    static let headerBytes = MemoryLayout<nlmsghdr>.size

    /// The messages of a datagram. What does not fit its own length ends the walk.
    static func parse(_ datagram: some Collection<UInt8>) -> [NetlinkMessage] {
        let bytes = Array(datagram)
        var result: [NetlinkMessage] = []
        var at = 0
        while let header: nlmsghdr = bytes.structure(at: at) {
            let length = Int(header.nlmsg_len)
            guard length >= headerBytes, length <= bytes.count - at else { break }
            result.append(
                NetlinkMessage(
                    type: header.nlmsg_type, flags: header.nlmsg_flags, sequence: header.nlmsg_seq,
                    payload: Array(bytes[(at + headerBytes)..<(at + length)])))
            at += aligned(length)
        }
        return result
    }

    /// The attributes behind a fixed header of `skipping` bytes; of several with one type the last.
    func attributes(skipping: Int) -> [UInt16: [UInt8]] {
        Self.attributes(payload.dropFirst(Self.aligned(skipping)))
    }

    static func attributes(_ slice: some Collection<UInt8>) -> [UInt16: [UInt8]] {
        let bytes = Array(slice)
        var result: [UInt16: [UInt8]] = [:]
        var at = 0
        while let header: nlattr = bytes.structure(at: at) {
            let length = Int(header.nla_len)
            guard length >= 4, length <= bytes.count - at else { break }
            // NLA_F_NESTED and NLA_F_NET_BYTEORDER are the two high bits.
            result[header.nla_type & 0x3fff] = Array(bytes[(at + 4)..<(at + length)])
            at += aligned(length)
        }
        return result
    }

    static func aligned(_ length: Int) -> Int { (length + 3) & ~3 }

    /// What the kernel tells of SAs holds their keys.
    mutating func wipe() { payload.withUnsafeMutableBytes { $0.wipe() } }
}

/// A request in the making.
struct NetlinkRequest {
    private(set) var bytes: [UInt8] = []

    init(_ type: some FixedWidthInteger, flags: Int32 = 0) {
        bytes.reserveCapacity(1024)
        append(
            nlmsghdr(
                nlmsg_len: 0, nlmsg_type: UInt16(truncatingIfNeeded: type),
                nlmsg_flags: UInt16(truncatingIfNeeded: NLM_F_REQUEST | flags), nlmsg_seq: 0, nlmsg_pid: 0))
    }

    mutating func append<T>(_ value: T) {
        withUnsafeBytes(of: value) { bytes.append(contentsOf: $0) }
        pad()
    }

    mutating func attribute(_ type: some FixedWidthInteger, _ content: some Collection<UInt8>) {
        append(nlattr(nla_len: UInt16(truncatingIfNeeded: content.count + 4), nla_type: UInt16(truncatingIfNeeded: type)))
        bytes.append(contentsOf: content)
        pad()
    }

    mutating func attribute<T>(_ type: some FixedWidthInteger, value: T) {
        withUnsafeBytes(of: value) { attribute(type, Array($0)) }
    }

    mutating func nested(_ type: some FixedWidthInteger, _ body: (inout NetlinkRequest) -> Void) {
        let start = bytes.count
        append(nlattr(nla_len: 0, nla_type: UInt16(truncatingIfNeeded: type)))
        body(&self)
        let length = UInt16(truncatingIfNeeded: bytes.count - start)
        withUnsafeBytes(of: length) { bytes.replaceSubrange(start..<(start + 2), with: $0) }
    }

    /// With its length and number.
    mutating func finish(sequence: UInt32) {
        let length = UInt32(truncatingIfNeeded: bytes.count)
        withUnsafeBytes(of: length) { bytes.replaceSubrange(0..<4, with: $0) }
        withUnsafeBytes(of: sequence) { bytes.replaceSubrange(8..<12, with: $0) }
    }

    /// Requests that make SAs hold keys.
    mutating func wipe() { bytes.withUnsafeMutableBytes { $0.wipe() } }

    private mutating func pad() {
        while bytes.count % 4 != 0 { bytes.append(0) }
    }
}

extension Array where Element == UInt8 {
    /// A kernel structure that lies in the bytes; nil when they are too few.
    func structure<T>(at offset: Int = 0) -> T? {
        guard offset >= 0, count - offset >= MemoryLayout<T>.size else { return nil }
        // The unions in the kernel's structures keep Swift from seeing that they are plain bytes.
        return withUnsafeTemporaryAllocation(of: T.self, capacity: 1) { room in
            UnsafeMutableRawBufferPointer(room).copyBytes(from: self[offset..<(offset + MemoryLayout<T>.size)])
            return room.baseAddress?.pointee
        }
    }
}
