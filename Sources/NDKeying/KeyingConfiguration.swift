import NDCore
import NDCrypto
import NDWire

/// A phase-1 choice: AES-CBC, pre-shared key.
public struct MainModeSuite: Hashable, Sendable, CustomStringConvertible {
    /// 128 or 256.
    public var keyBits: Int
    public var hash: HashAlgorithm
    public var group: DHGroup

    public init(keyBits: Int, hash: HashAlgorithm, group: DHGroup) {
        self.keyBits = keyBits
        self.hash = hash
        self.group = group
    }

    public var description: String { "aes\(keyBits)-cbc-\(hash)-\(group)" }
}

/// When an initiator sends a message again.
public struct RetransmissionPolicy: Hashable, Sendable {
    public var firstInterval: Span
    public var factor: Double
    /// How often a message leaves in all; after the last interval the exchange fails. The
    /// default, five times from one second doubling, gives up after 31 s.
    public var tries: Int
    /// Tries of a quick mode on a main-mode SA that has been idle: the peer may have lost it, and
    /// a new main mode finds out sooner than the full back-off.
    public var triesOnReusedMainMode: Int

    public init(
        firstInterval: Span = .seconds(1), factor: Double = 2, tries: Int = 5, triesOnReusedMainMode: Int = 2
    ) {
        self.firstInterval = firstInterval
        self.factor = factor
        self.tries = tries
        self.triesOnReusedMainMode = triesOnReusedMainMode
    }
}

/// Where pre-shared keys come from.
public protocol CredentialSource: Sendable {
    /// nil refuses the peer.
    func preSharedKey(local: IPAddress, remote: IPAddress) -> SecretBytes?
}

/// Bounds on what peers, authenticated or not, can make this host keep or send.
public struct KeyingLimits: Hashable, Sendable {
    /// Half-open responder exchanges from which on message 1 must carry a cookie
    /// ([MS-IKEE] §3.9), until they are fewer than `halfOpenRelease`.
    public var halfOpenCookieThreshold = 500
    public var halfOpenRelease = 100
    /// Half-open responder exchanges, cookie or not.
    public var halfOpenMaximum = 2_000
    public var halfOpenPerSource = 35
    /// How long a responder waits for the initiator's next message.
    public var halfOpenTimeout: Span = .seconds(30)
    public var mainModes = 262_144
    public var mainModesPerPeer = 4
    public var pairs = 262_144
    public var pairsPerPeer = 16
    public var negotiations = 65_536
    /// Phase-2 exchanges of one main-mode SA that are not yet forgotten.
    public var quickModesPerMainMode = 32
    /// How long a finished exchange still answers retransmissions.
    public var exchangeRetention: Span = .seconds(30)
    /// How long a pair that its initiator never used outlives the ISAKMP SA that it was made under.
    public var abandonedPair: Span = .seconds(1)
    /// Unauthenticated error replies.
    public var errorRepliesPerSecond = 50
    /// Cookie demands while `halfOpenCookieThreshold` is passed.
    public var cookieRepliesPerSecond = 1_000
    /// Cached replies sent again for one request.
    public var repliesPerRequest = 16
    public var wire = WireLimits()

    public init() {}
}

public struct KeyingConfiguration: Sendable {
    /// In order of preference; a responder takes the first of its own that the peer offers.
    public var mainModeSuites: [MainModeSuite]
    public var quickModeSuites: [ESPSuite]
    /// Diffie-Hellman in quick mode. As responder, nil accepts a peer's PFS with any known group.
    public var pfsGroup: DHGroup?
    /// Offer 64-bit sequence numbers first (IPsec DOI attribute 11); either answer is taken.
    public var extendedSequenceNumbers: Bool
    /// Make both sides believe in a NAT, so that ESP travels in UDP: an engine without access to
    /// IP protocol 50 needs it. Without effect on a peer that knows no NAT traversal.
    public var forceUDPEncapsulation: Bool
    /// The engine tells hosts behind one address apart; otherwise the first one alone is served.
    public var separatesClients = true
    /// NAT-traversal vendor IDs also over IPv6; Windows sends them over IPv4 only.
    public var natTraversalOverIPv6: Bool
    /// Announce that this host accepts clear inbound connections (EXCHANGE_INFO bit 0).
    public var boundary: Bool
    /// Announce that the flow asks for guaranteed encryption (EXCHANGE_INFO bit 1).
    public var guaranteeEncryption: Bool
    public var retransmission: RetransmissionPolicy
    public var mainModeLifetime: Span
    public var quickModeLifetime: Span
    /// Offered, and enforced by what engines count.
    public var quickModeLifetimeKilobytes: UInt32?
    public var rekey = RekeyPolicy()
    public var deadPeerDetection = DeadPeerDetection()
    public var replayWindow: Int
    public var limits: KeyingLimits
    public var isakmpPort: UInt16
    public var natTraversalPort: UInt16
    public var credentials: any CredentialSource
    public var policy: any NegotiationPolicy = EveryPeer()
    /// Called with keys as they come to life. Only for tests and lawful debugging.
    public var keyLog: (@Sendable (KeyLogEntry) -> Void)?

    public init(credentials: any CredentialSource) {
        self.credentials = credentials
        mainModeSuites = [
            MainModeSuite(keyBits: 256, hash: .sha256, group: .ecp256),
            MainModeSuite(keyBits: 256, hash: .sha384, group: .ecp384),
            MainModeSuite(keyBits: 128, hash: .sha256, group: .ecp256),
            MainModeSuite(keyBits: 256, hash: .sha256, group: .modp2048),
            MainModeSuite(keyBits: 256, hash: .sha1, group: .ecp384),
            MainModeSuite(keyBits: 128, hash: .sha1, group: .ecp256),
            MainModeSuite(keyBits: 256, hash: .sha1, group: .modp2048),
        ]
        quickModeSuites = [
            .aesGCM16(keyBits: 128), .aesGCM16(keyBits: 256),
            .aesCBCHMACSHA256(keyBits: 128), .aesCBCHMACSHA256(keyBits: 256),
        ]
        pfsGroup = nil
        extendedSequenceNumbers = true
        forceUDPEncapsulation = false
        natTraversalOverIPv6 = true
        boundary = false
        guaranteeEncryption = false
        retransmission = RetransmissionPolicy()
        mainModeLifetime = .seconds(28_800)
        quickModeLifetime = .seconds(3_600)
        quickModeLifetimeKilobytes = nil
        replayWindow = 4096
        limits = KeyingLimits()
        isakmpPort = 500
        natTraversalPort = 4500
        keyLog = nil
    }
}

/// Keys for a packet dissector.
public enum KeyLogEntry: Sendable {
    /// What tshark's ikev1_decryption_table wants: initiator cookie and Ka.
    case isakmp(initiatorCookie: [UInt8], encryptionKey: SecretBytes)
    case esp(
        source: IPAddress, destination: IPAddress, spi: UInt32, suite: ESPSuite, keymat: SecretBytes)
}
