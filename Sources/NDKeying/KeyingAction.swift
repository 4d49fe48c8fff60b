import NDCore
import NDCrypto
import NDWire

/// What the machine wants done, in this order.
public enum KeyingAction: Sendable {
    /// Towards port 4500 the non-ESP marker is included.
    case send(datagram: [UInt8], from: Endpoint, to: Endpoint)
    /// Inbound is live at once; outbound is prepared but carries nothing yet.
    case install(SecurityAssociationPair)
    /// Start sending on this outbound SPI.
    case activateOutbound(peer: PeerKey, spi: UInt32)
    case established(Established)
    case remove(peer: PeerKey, inboundSPI: UInt32, outboundSPI: UInt32, reason: RemovalReason)
    /// Ends what `negotiate` began; never follows an `established` of the same negotiation.
    case failed(peer: PeerKey, reason: KeyingFailure)
    case event(KeyingEvent)
}

public enum ExchangeRole: String, Sendable, Hashable { case initiator, responder }

/// Whom phase 1 authenticated.
public struct AuthenticatedIdentity: Hashable, Sendable, CustomStringConvertible {
    public enum Name: Hashable, Sendable {
        case address(IPAddress)
        case fqdn(String)
        case userFQDN(String)
        /// Another ID type with its raw data.
        case other(type: UInt8, data: [UInt8])
    }

    public enum Method: String, Hashable, Sendable { case preSharedKey = "psk" }

    public var name: Name
    public var method: Method

    /// The ID type (RFC 2407 §4.6.2.1) and its data.
    public var wireForm: (type: UInt8, data: [UInt8]) {
        switch name {
        case .address(let address):
            let payload = IdentificationPayload(address)
            return (payload.type, payload.data)
        case .fqdn(let text): return (IdentificationPayload.fqdn, Array(text.utf8))
        case .userFQDN(let text): return (IdentificationPayload.userFQDN, Array(text.utf8))
        case .other(let type, let data): return (type, data)
        }
    }

    public var description: String {
        switch name {
        case .address(let address): address.description
        case .fqdn(let text), .userFQDN(let text): text
        case .other(let type, let data):
            "id-\(type):" + data.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        }
    }
}

/// A pair that is now used in both directions.
public struct Established: Sendable {
    public var peer: PeerKey
    public var role: ExchangeRole
    public var mainModeSuite: MainModeSuite
    public var quickModeSuite: ESPSuite
    public var pfsGroup: DHGroup?
    public var encapsulation: ESPEncapsulation
    public var extendedSequenceNumbers: Bool
    public var inboundSPI: UInt32
    public var outboundSPI: UInt32
    /// The inbound SPI of the pair that this one replaces.
    public var rekeyOf: UInt32?
    /// The peer announced Negotiation Discovery.
    public var peerNegotiationDiscovery: Bool
    /// EXCHANGE_INFO: the peer accepts clear inbound connections.
    public var peerBoundary: Bool
    /// EXCHANGE_INFO of either side asked for it.
    public var guaranteeEncryption: Bool
    public var identity: AuthenticatedIdentity
    /// Since `negotiate`, or as responder since the exchange's first message.
    public var elapsed: Span
    public var lifetime: Span
    public var lifetimeKilobytes: UInt64?
}

public enum RemovalReason: String, Sendable, Hashable, CaseIterable {
    case administrative
    case shutdown
    case expired
    case deletedByPeer = "deleted_by_peer"
    /// The peer said that it knows of no SA with us.
    case initialContact = "initial_contact"
    /// As responder: neither message 3 nor a packet came.
    case unconfirmed
    case policyChange = "policy_change"
    /// The oldest of more pairs with one peer than `KeyingLimits.pairsPerPeer`.
    case superseded
    /// Its successor carries the traffic.
    case rekeyed
    /// It does not answer (RFC 3706).
    case deadPeer = "dead_peer"
}

public enum KeyingFailure: Hashable, Sendable, CustomStringConvertible {
    /// No message of the peer's ever came.
    case noAnswer
    /// It answered, then fell silent.
    case timedOut
    case unreachable
    case noProposalChosen
    case authenticationFailed
    case peerRefused(NotifyType)
    case malformed
    case noCredential
    /// No main-mode or no quick-mode filter takes the two addresses.
    case noPolicy
    /// A bound of `KeyingLimits`.
    case limit
    case cancelled
    case cryptography

    /// Stable, for metric labels.
    public var label: String {
        switch self {
        case .noAnswer: "no_answer"
        case .timedOut: "timed_out"
        case .unreachable: "unreachable"
        case .noProposalChosen: "no_proposal_chosen"
        case .authenticationFailed: "authentication_failed"
        case .peerRefused: "peer_refused"
        case .malformed: "malformed"
        case .noCredential: "no_credential"
        case .noPolicy: "no_policy"
        case .limit: "limit"
        case .cancelled: "cancelled"
        case .cryptography: "cryptography"
        }
    }

    public static let labels = [
        "no_answer", "timed_out", "unreachable", "no_proposal_chosen", "authentication_failed",
        "peer_refused", "malformed", "no_credential", "no_policy", "limit", "cancelled", "cryptography",
    ]

    public var description: String {
        if case .peerRefused(let notify) = self { return "peer refused: \(notify)" }
        return label
    }
}

/// A line for the log and for `monitor`.
public struct KeyingEvent: Sendable, CustomStringConvertible {
    public enum Level: String, Sendable { case debug, info, warning }

    public var level: Level
    /// Stable, dotted: "main-mode.established".
    public var code: String
    public var text: String
    public var local: IPAddress?
    public var remote: IPAddress?

    public var description: String { "\(code): \(text)" }
}

public struct MainModeStatus: Sendable {
    public var local: Endpoint
    public var remote: Endpoint
    public var role: ExchangeRole
    /// "proposal-sent" … "established", "closing".
    public var state: String
    public var initiatorCookie: UInt64
    public var responderCookie: UInt64
    public var suite: MainModeSuite?
    public var identity: AuthenticatedIdentity?
    public var peerNegotiationDiscovery: Bool
    public var started: Instant
    public var expires: Instant?
}

public struct QuickModeStatus: Sendable {
    public var peer: PeerKey
    public var role: ExchangeRole
    /// "established", or "unconfirmed" while a responder has not seen the peer use the pair.
    public var state: String
    public var inboundSPI: UInt32
    public var outboundSPI: UInt32
    public var suite: ESPSuite
    public var pfsGroup: DHGroup?
    public var encapsulation: ESPEncapsulation
    public var extendedSequenceNumbers: Bool
    public var peerBoundary: Bool
    public var guaranteeEncryption: Bool
    public var created: Instant
    public var expires: Instant
    public var lifetimeKilobytes: UInt64?
}
