/// RFC 2408 §3.1. Exchange types beyond IKEv1's own are AuthIP's ([MS-AIPS] §2.2.1).
public struct ExchangeType: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let base = ExchangeType(rawValue: 1)
    public static let mainMode = ExchangeType(rawValue: 2)
    public static let authenticationOnly = ExchangeType(rawValue: 3)
    public static let aggressive = ExchangeType(rawValue: 4)
    public static let informational = ExchangeType(rawValue: 5)
    public static let transaction = ExchangeType(rawValue: 6)
    public static let quickMode = ExchangeType(rawValue: 32)
    public static let newGroup = ExchangeType(rawValue: 33)
    public static let authIPMainMode = ExchangeType(rawValue: 243)
    public static let authIPQuickMode = ExchangeType(rawValue: 244)
    public static let authIPExtendedMode = ExchangeType(rawValue: 245)
    public static let authIPNotify = ExchangeType(rawValue: 246)
}

public struct ISAKMPHeader: Hashable, Sendable {
    public static let byteCount = 28

    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt8
        public init(rawValue: UInt8) { self.rawValue = rawValue }
        public static let encryption = Flags(rawValue: 1)
        public static let commit = Flags(rawValue: 2)
        public static let authenticationOnly = Flags(rawValue: 4)
    }

    public var initiatorCookie: UInt64
    public var responderCookie: UInt64
    public var nextPayload: PayloadType
    /// Major in the high nibble, minor in the low one; IKEv1 is 0x10.
    public var version: UInt8
    public var exchangeType: ExchangeType
    public var flags: Flags
    public var messageID: UInt32
    /// Of the whole message; the encoder writes the true one.
    public var length: UInt32

    public init(
        initiatorCookie: UInt64, responderCookie: UInt64, nextPayload: PayloadType = .none,
        version: UInt8 = 0x10, exchangeType: ExchangeType, flags: Flags = [], messageID: UInt32 = 0,
        length: UInt32 = 0
    ) {
        self.initiatorCookie = initiatorCookie
        self.responderCookie = responderCookie
        self.nextPayload = nextPayload
        self.version = version
        self.exchangeType = exchangeType
        self.flags = flags
        self.messageID = messageID
        self.length = length
    }

    init(_ cursor: inout ByteCursor) throws(WireError) {
        initiatorCookie = try cursor.u64()
        responderCookie = try cursor.u64()
        nextPayload = PayloadType(rawValue: try cursor.u8())
        version = try cursor.u8()
        exchangeType = ExchangeType(rawValue: try cursor.u8())
        flags = Flags(rawValue: try cursor.u8())
        messageID = try cursor.u32()
        length = try cursor.u32()
    }

    func encode(length: Int, into out: inout [UInt8]) {
        out.append(u64: initiatorCookie)
        out.append(u64: responderCookie)
        out.append(nextPayload.rawValue)
        out.append(version)
        out.append(exchangeType.rawValue)
        out.append(flags.rawValue)
        out.append(u32: messageID)
        out.append(u32: UInt32(truncatingIfNeeded: length))
    }
}
