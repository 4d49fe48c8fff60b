/// An ESP algorithm choice (isakmp-ikev1 quick-mode transforms 12 and 20).
public enum ESPSuite: Hashable, Sendable, CustomStringConvertible {
    /// AES-GCM with a 16-byte ICV, RFC 4106; KEYMAT is key + 4 bytes of salt.
    case aesGCM16(keyBits: Int)
    /// AES-CBC with HMAC-SHA2-256-128, RFC 3602 and RFC 4868; KEYMAT is key + 32 bytes.
    case aesCBCHMACSHA256(keyBits: Int)

    public var keyBits: Int {
        switch self {
        case .aesGCM16(let bits), .aesCBCHMACSHA256(let bits): bits
        }
    }

    public var encryptionKeyBytes: Int { keyBits / 8 }
    public var ivBytes: Int { isAEAD ? 8 : 16 }
    public var icvBytes: Int { 16 }
    /// What the padded plaintext must be a multiple of (RFC 4303 §2.4: at least 4).
    public var blockBytes: Int { isAEAD ? 4 : 16 }
    public var keymatBytes: Int { encryptionKeyBytes + (isAEAD ? 4 : 32) }

    public var isAEAD: Bool {
        if case .aesGCM16 = self { return true }
        return false
    }

    public var description: String {
        switch self {
        case .aesGCM16(let bits): "aes\(bits)-gcm16"
        case .aesCBCHMACSHA256(let bits): "aes\(bits)-cbc-sha256"
        }
    }
}

/// How ESP travels.
public enum ESPEncapsulation: Hashable, Sendable {
    /// IP protocol 50.
    case native
    /// In UDP between these ports (RFC 3948).
    case udp(localPort: UInt16, remotePort: UInt16)
}

/// One direction of a transport-mode ESP pair, ready for an engine.
public struct SecurityAssociation: Sendable {
    public enum Direction: String, Sendable { case inbound, outbound }

    public var direction: Direction
    public var spi: UInt32
    public var peer: PeerKey
    public var suite: ESPSuite
    /// Exactly `suite.keymatBytes`: encryption key (plus salt), then integrity key.
    public var keymat: SecretBytes
    public var encapsulation: ESPEncapsulation
    /// 64-bit sequence numbers (RFC 4304); negotiated, both directions alike.
    public var extendedSequenceNumbers: Bool
    public var replayWindow: Int
    /// When the SA ends whatever happens, from its installation on; nil: keying ends it.
    public var lifetime: Span?
    /// Bytes in kilobytes of 1,024 (RFC 2407 §4.5), both directions alike; nil: none.
    public var lifetimeKilobytes: UInt64?
    /// The peer's address is a NAT's: others may have it too, told apart by their UDP ports.
    public var sharesAddress: Bool

    public init(
        direction: Direction, spi: UInt32, peer: PeerKey, suite: ESPSuite, keymat: SecretBytes,
        encapsulation: ESPEncapsulation, extendedSequenceNumbers: Bool, replayWindow: Int = 4096,
        lifetime: Span? = nil, lifetimeKilobytes: UInt64? = nil, sharesAddress: Bool = false
    ) {
        self.sharesAddress = sharesAddress
        self.lifetime = lifetime
        self.lifetimeKilobytes = lifetimeKilobytes
        self.direction = direction
        self.spi = spi
        self.peer = peer
        self.suite = suite
        self.keymat = keymat
        self.encapsulation = encapsulation
        self.extendedSequenceNumbers = extendedSequenceNumbers
        self.replayWindow = replayWindow
    }
}

/// The SAs of one quick mode: what we receive on and what we send on.
public struct SecurityAssociationPair: Sendable {
    public var inbound: SecurityAssociation
    public var outbound: SecurityAssociation

    public init(inbound: SecurityAssociation, outbound: SecurityAssociation) {
        self.inbound = inbound
        self.outbound = outbound
    }
}
