import NDCore

/// RFC 2407 §4.6.2.
public struct IdentificationPayload: Hashable, Sendable {
    public static let ipv4Address: UInt8 = 1
    public static let fqdn: UInt8 = 2
    public static let userFQDN: UInt8 = 3
    public static let ipv6Address: UInt8 = 5
    public static let distinguishedName: UInt8 = 9
    public static let keyID: UInt8 = 11

    public var type: UInt8
    public var protocolID: UInt8
    public var port: UInt16
    public var data: [UInt8]

    public init(type: UInt8, protocolID: UInt8 = 0, port: UInt16 = 0, data: [UInt8]) {
        self.type = type
        self.protocolID = protocolID
        self.port = port
        self.data = data
    }

    /// A host address, any protocol and port.
    public init(_ address: IPAddress) {
        self.init(type: address.isIPv4 ? Self.ipv4Address : Self.ipv6Address, data: address.bytes)
    }

    /// The address of the two host types; nil for others or a wrong length.
    public var address: IPAddress? {
        switch (type, data.count) {
        case (Self.ipv4Address, 4), (Self.ipv6Address, 16): IPAddress(bytes: data)
        default: nil
        }
    }

    init(_ cursor: inout ByteCursor) throws(WireError) {
        type = try cursor.u8()
        protocolID = try cursor.u8()
        port = try cursor.u16()
        data = cursor.rest()
    }

    public func encode() -> [UInt8] {
        var out = [type, protocolID]
        out.append(u16: port)
        return out + data
    }
}

/// RFC 2408 §3.14.
public struct NotificationPayload: Hashable, Sendable {
    public var doi: UInt32
    public var protocolID: UInt8
    public var type: NotifyType
    public var spi: [UInt8]
    public var data: [UInt8]

    public init(protocolID: UInt8, type: NotifyType, spi: [UInt8] = [], data: [UInt8] = [], doi: UInt32 = 1) {
        self.doi = doi
        self.protocolID = protocolID
        self.type = type
        self.spi = spi
        self.data = data
    }

    init(_ cursor: inout ByteCursor) throws(WireError) {
        doi = try cursor.u32()
        protocolID = try cursor.u8()
        let spiSize = Int(try cursor.u8())
        type = NotifyType(rawValue: try cursor.u16())
        guard spiSize <= cursor.remaining else { throw .badSPISize }
        spi = try cursor.take(spiSize)
        data = cursor.rest()
    }

    func encode() -> [UInt8] {
        var out: [UInt8] = []
        out.append(u32: doi)
        out.append(protocolID)
        out.append(UInt8(truncatingIfNeeded: spi.count))
        out.append(u16: type.rawValue)
        return out + spi + data
    }
}

/// RFC 2408 §3.15. The SPIs are those the sender of the payload receives on.
public struct DeletePayload: Hashable, Sendable {
    public var doi: UInt32
    public var protocolID: UInt8
    public var spiSize: UInt8
    public var spis: [[UInt8]]

    public init(protocolID: UInt8, spiSize: UInt8, spis: [[UInt8]], doi: UInt32 = 1) {
        self.doi = doi
        self.protocolID = protocolID
        self.spiSize = spiSize
        self.spis = spis
    }

    init(_ cursor: inout ByteCursor, limits: WireLimits) throws(WireError) {
        doi = try cursor.u32()
        protocolID = try cursor.u8()
        spiSize = try cursor.u8()
        let count = Int(try cursor.u16())
        guard count <= limits.spisPerDelete else { throw .tooManySPIs }
        guard spiSize <= 16, count * Int(spiSize) == cursor.remaining else { throw .badSPISize }
        spis = []
        for _ in 0..<count { spis.append(try cursor.take(Int(spiSize))) }
    }

    func encode() -> [UInt8] {
        var out: [UInt8] = []
        out.append(u32: doi)
        out.append(protocolID)
        out.append(spiSize)
        out.append(u16: UInt16(truncatingIfNeeded: spis.count))
        return spis.reduce(into: out) { $0 += $1 }
    }
}

/// RFC 3947 §5.2.
public struct NATOriginalAddressPayload: Hashable, Sendable {
    public var type: UInt8
    var reserved: UInt8 = 0
    var reserved2: UInt16 = 0
    public var data: [UInt8]

    public init(_ address: IPAddress) {
        type = address.isIPv4 ? IdentificationPayload.ipv4Address : IdentificationPayload.ipv6Address
        data = address.bytes
    }

    public var address: IPAddress? { IdentificationPayload(type: type, data: data).address }

    init(_ cursor: inout ByteCursor) throws(WireError) {
        type = try cursor.u8()
        reserved = try cursor.u8()
        reserved2 = try cursor.u16()
        data = cursor.rest()
    }

    func encode() -> [UInt8] {
        var out = [type, reserved]
        out.append(u16: reserved2)
        return out + data
    }
}

/// [MS-IKEE] §2.2.5; decoded for diagnosis, reassembly is not advertised.
public struct FragmentPayload: Hashable, Sendable {
    public var id: UInt16
    public var number: UInt8
    public var flags: UInt8
    public var data: [UInt8]

    init(_ cursor: inout ByteCursor) throws(WireError) {
        id = try cursor.u16()
        number = try cursor.u8()
        flags = try cursor.u8()
        data = cursor.rest()
    }

    func encode() -> [UInt8] {
        var out: [UInt8] = []
        out.append(u16: id)
        return out + [number, flags] + data
    }
}
