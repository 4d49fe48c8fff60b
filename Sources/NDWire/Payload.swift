/// RFC 2408 §3.1, RFC 3947, [MS-IKEE] §2.2, [MS-AIPS] §2.2.
public struct PayloadType: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    public static let none = PayloadType(rawValue: 0)
    public static let securityAssociation = PayloadType(rawValue: 1)
    public static let proposal = PayloadType(rawValue: 2)
    public static let transform = PayloadType(rawValue: 3)
    public static let keyExchange = PayloadType(rawValue: 4)
    public static let identification = PayloadType(rawValue: 5)
    public static let certificate = PayloadType(rawValue: 6)
    public static let certificateRequest = PayloadType(rawValue: 7)
    public static let hash = PayloadType(rawValue: 8)
    public static let signature = PayloadType(rawValue: 9)
    public static let nonce = PayloadType(rawValue: 10)
    public static let notification = PayloadType(rawValue: 11)
    public static let delete = PayloadType(rawValue: 12)
    public static let vendorID = PayloadType(rawValue: 13)
    public static let natDiscovery = PayloadType(rawValue: 20)
    public static let natOriginalAddress = PayloadType(rawValue: 21)
    public static let natDiscoveryDraft = PayloadType(rawValue: 130)
    public static let natOriginalAddressDraft = PayloadType(rawValue: 131)
    public static let fragment = PayloadType(rawValue: 132)
}

/// A payload with its generic header's reserved byte, so that it can be written back as it came.
public struct Payload: Hashable, Sendable {
    public enum Body: Hashable, Sendable {
        case securityAssociation(SecurityAssociationPayload)
        case keyExchange([UInt8])
        case identification(IdentificationPayload)
        /// CERT and CERTREQ: encoding, then data.
        case certificate(encoding: UInt8, [UInt8])
        case hash([UInt8])
        case signature([UInt8])
        case nonce([UInt8])
        case notification(NotificationPayload)
        case delete(DeletePayload)
        case vendorID([UInt8])
        case natDiscovery([UInt8])
        case natOriginalAddress(NATOriginalAddressPayload)
        case fragment(FragmentPayload)
        /// A type this implementation has no structure for.
        case unknown([UInt8])
    }

    public var type: PayloadType
    public var reserved: UInt8
    public var body: Body

    public init(_ type: PayloadType, _ body: Body, reserved: UInt8 = 0) {
        self.type = type
        self.body = body
        self.reserved = reserved
    }

    public static func securityAssociation(_ value: SecurityAssociationPayload) -> Payload {
        Payload(.securityAssociation, .securityAssociation(value))
    }
    public static func keyExchange(_ value: [UInt8]) -> Payload { Payload(.keyExchange, .keyExchange(value)) }
    public static func identification(_ value: IdentificationPayload) -> Payload {
        Payload(.identification, .identification(value))
    }
    public static func hash(_ value: [UInt8]) -> Payload { Payload(.hash, .hash(value)) }
    public static func nonce(_ value: [UInt8]) -> Payload { Payload(.nonce, .nonce(value)) }
    public static func vendorID(_ value: [UInt8]) -> Payload { Payload(.vendorID, .vendorID(value)) }
    public static func notification(_ value: NotificationPayload) -> Payload {
        Payload(.notification, .notification(value))
    }
    public static func delete(_ value: DeletePayload) -> Payload { Payload(.delete, .delete(value)) }

    init(
        type: PayloadType, reserved: UInt8, _ cursor: inout ByteCursor, limits: WireLimits
    ) throws(WireError) {
        self.type = type
        self.reserved = reserved
        switch type {
        case .securityAssociation:
            body = .securityAssociation(try SecurityAssociationPayload(&cursor, limits: limits))
        case .keyExchange: body = .keyExchange(cursor.rest())
        case .identification: body = .identification(try IdentificationPayload(&cursor))
        case .certificate, .certificateRequest:
            body = .certificate(encoding: try cursor.u8(), cursor.rest())
        case .hash: body = .hash(cursor.rest())
        case .signature: body = .signature(cursor.rest())
        case .nonce: body = .nonce(cursor.rest())
        case .notification: body = .notification(try NotificationPayload(&cursor))
        case .delete: body = .delete(try DeletePayload(&cursor, limits: limits))
        case .vendorID: body = .vendorID(cursor.rest())
        case .natDiscovery, .natDiscoveryDraft: body = .natDiscovery(cursor.rest())
        case .natOriginalAddress, .natOriginalAddressDraft:
            body = .natOriginalAddress(try NATOriginalAddressPayload(&cursor))
        case .fragment: body = .fragment(try FragmentPayload(&cursor))
        default: body = .unknown(cursor.rest())
        }
    }

    /// The payload without its generic header: what RFC 2409 writes as XX_b.
    public func encodeBody() -> [UInt8] {
        switch body {
        case .securityAssociation(let value): value.encode()
        case .identification(let value): value.encode()
        case .certificate(let encoding, let data): [encoding] + data
        case .notification(let value): value.encode()
        case .delete(let value): value.encode()
        case .natOriginalAddress(let value): value.encode()
        case .fragment(let value): value.encode()
        case .keyExchange(let data), .hash(let data), .signature(let data), .nonce(let data),
            .vendorID(let data), .natDiscovery(let data), .unknown(let data):
            data
        }
    }
}
