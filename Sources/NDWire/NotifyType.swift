/// RFC 2408 §3.14.1, RFC 2407 §4.6.3, RFC 3706, [MS-IKEE] §2.2.6.
public struct NotifyType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    public static let invalidPayloadType = NotifyType(rawValue: 1)
    public static let invalidCookie = NotifyType(rawValue: 4)
    public static let invalidExchangeType = NotifyType(rawValue: 7)
    public static let noProposalChosen = NotifyType(rawValue: 14)
    public static let payloadMalformed = NotifyType(rawValue: 16)
    public static let invalidKeyInformation = NotifyType(rawValue: 17)
    public static let invalidIDInformation = NotifyType(rawValue: 18)
    public static let invalidHashInformation = NotifyType(rawValue: 23)
    public static let authenticationFailed = NotifyType(rawValue: 24)
    public static let connected = NotifyType(rawValue: 16384)
    public static let responderLifetime = NotifyType(rawValue: 24576)
    public static let replayStatus = NotifyType(rawValue: 24577)
    public static let initialContact = NotifyType(rawValue: 24578)
    public static let rUThere = NotifyType(rawValue: 36136)
    public static let rUThereAck = NotifyType(rawValue: 36137)
    /// IKEv1's numbers; AuthIP uses 40020 and 40021 for the first two.
    public static let microsoftStatus = NotifyType(rawValue: 40003)
    public static let dosCookie = NotifyType(rawValue: 40004)
    public static let exchangeInfo = NotifyType(rawValue: 40005)

    /// Error types are below 16384; the peer's Win32 status is an error by meaning.
    public var isError: Bool { (1..<16384).contains(rawValue) || self == .microsoftStatus }

    public var description: String {
        switch self {
        case .invalidPayloadType: "INVALID-PAYLOAD-TYPE"
        case .invalidCookie: "INVALID-COOKIE"
        case .invalidExchangeType: "INVALID-EXCHANGE-TYPE"
        case .noProposalChosen: "NO-PROPOSAL-CHOSEN"
        case .payloadMalformed: "PAYLOAD-MALFORMED"
        case .invalidKeyInformation: "INVALID-KEY-INFORMATION"
        case .invalidIDInformation: "INVALID-ID-INFORMATION"
        case .invalidHashInformation: "INVALID-HASH-INFORMATION"
        case .authenticationFailed: "AUTHENTICATION-FAILED"
        case .connected: "CONNECTED"
        case .responderLifetime: "RESPONDER-LIFETIME"
        case .replayStatus: "REPLAY-STATUS"
        case .initialContact: "INITIAL-CONTACT"
        case .rUThere: "R-U-THERE"
        case .rUThereAck: "R-U-THERE-ACK"
        case .microsoftStatus: "NOTIFY_STATUS"
        case .dosCookie: "NOTIFY_DOS_COOKIE"
        case .exchangeInfo: "EXCHANGE_INFO"
        default: "notify-\(rawValue)"
        }
    }
}
