/// struct virtio_net_hdr in front of every packet of the TUN, little-endian as the host is.
struct VirtioHeader {
    static let byteCount = 10
    static let needsChecksum: UInt8 = 1

    enum Segmentation: UInt8 {
        case none = 0
        case tcpv4 = 1
        case tcpv6 = 4
        case udp = 5
    }

    var flags: UInt8 = 0
    var segmentation: UInt8 = 0
    var headerLength: UInt16 = 0
    var segmentSize: UInt16 = 0
    var checksumStart: UInt16 = 0
    var checksumOffset: UInt16 = 0

    init() {}

    init(reading p: UnsafeRawPointer) {
        flags = p.load(as: UInt8.self)
        // The ECN bit is no kind of its own.
        segmentation = p.load(fromByteOffset: 1, as: UInt8.self) & 0x7f
        headerLength = p.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
        segmentSize = p.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
        checksumStart = p.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
        checksumOffset = p.loadUnaligned(fromByteOffset: 8, as: UInt16.self)
    }

    func write(to p: UnsafeMutableRawPointer) {
        p.storeBytes(of: flags, as: UInt8.self)
        p.storeBytes(of: segmentation, toByteOffset: 1, as: UInt8.self)
        p.storeBytes(of: headerLength, toByteOffset: 2, as: UInt16.self)
        p.storeBytes(of: segmentSize, toByteOffset: 4, as: UInt16.self)
        p.storeBytes(of: checksumStart, toByteOffset: 6, as: UInt16.self)
        p.storeBytes(of: checksumOffset, toByteOffset: 8, as: UInt16.self)
    }
}

/// Big-endian fields at an address whose bounds the caller has checked.
extension UnsafeRawPointer {
    func be16(_ offset: Int) -> UInt16 { UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self)) }
    func be32(_ offset: Int) -> UInt32 { UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
    func u8(_ offset: Int) -> UInt8 { load(fromByteOffset: offset, as: UInt8.self) }
}

extension UnsafeMutableRawPointer {
    func put16(_ value: UInt16, _ offset: Int) { storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self) }
    func put32(_ value: UInt32, _ offset: Int) { storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self) }
    func put8(_ value: UInt8, _ offset: Int) { storeBytes(of: value, toByteOffset: offset, as: UInt8.self) }
}
