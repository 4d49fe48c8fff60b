import NDCore

extension Policy {
    /// What the keying modules may offer and accept.
    public struct Keying: Hashable, Sendable {
        public enum Module: String, Hashable, Sendable, CaseIterable { case ikev1 }

        public var modules: [Module] = [.ikev1]
        public var mainMode: [MainModeProposal] = [
            MainModeProposal(keyBits: 256, hash: .sha256, group: .ecp256),
            MainModeProposal(keyBits: 128, hash: .sha1, group: .modp2048),
        ]
        public var mainModeLifetime: Span = .seconds(8 * 3600)
        public var quickMode: [ESPSuite] = [
            .aesGCM16(keyBits: 128), .aesGCM16(keyBits: 256), .aesCBCHMACSHA256(keyBits: 256),
        ]
        /// nil: no perfect forward secrecy.
        public var quickModeGroup: DiffieHellmanGroup?
        public var quickModeLifetime: Span = .seconds(3600)
        public var extendedSequenceNumbers = true
        public var retransmitFirst: Span = .seconds(1)
        public var retransmitTries = 5

        public init() {}
    }
}

public enum DiffieHellmanGroup: String, Hashable, Sendable, CaseIterable {
    case modp2048, ecp256, ecp384

    /// The number of the IANA registry "Diffie-Hellman Group Transform IDs".
    public var number: UInt16 {
        switch self {
        case .modp2048: 14
        case .ecp256: 19
        case .ecp384: 20
        }
    }
}

/// One main-mode offer: AES-CBC, a hash, a group.
public struct MainModeProposal: Hashable, Sendable, CustomStringConvertible {
    public enum Hash: String, Hashable, Sendable, CaseIterable { case sha1, sha256, sha384 }

    public var keyBits: Int
    public var hash: Hash
    public var group: DiffieHellmanGroup

    public init(keyBits: Int, hash: Hash, group: DiffieHellmanGroup) {
        self.keyBits = keyBits
        self.hash = hash
        self.group = group
    }

    /// "aes256-sha256-ecp256".
    public init?(_ text: String) {
        guard let found = Self.all.first(where: { $0.description == text }) else { return nil }
        self = found
    }

    public var description: String { "aes\(keyBits)-\(hash.rawValue)-\(group.rawValue)" }

    /// How a name is made.
    static let grammar = "aes128|aes192|aes256 - sha1|sha256|sha384 - modp2048|ecp256|ecp384"

    public static let all: [MainModeProposal] = [128, 192, 256].flatMap { bits in
        Hash.allCases.flatMap { hash in
            DiffieHellmanGroup.allCases.map { MainModeProposal(keyBits: bits, hash: hash, group: $0) }
        }
    }
}

extension ESPSuite {
    /// Every suite that a policy may name.
    public static let all: [ESPSuite] =
        [128, 192, 256].map { .aesGCM16(keyBits: $0) }
        + [128, 192, 256].map { .aesCBCHMACSHA256(keyBits: $0) }

    /// "aes128-gcm16".
    public init?(_ text: String) {
        guard let found = Self.all.first(where: { $0.description == text }) else { return nil }
        self = found
    }

    /// What ESP adds to a packet at most: SPI and sequence number, IV, padding up to one less than
    /// the block, pad length and next header, ICV (RFC 4303 §2).
    public var overhead: Int { 8 + ivBytes + (blockBytes - 1) + 2 + icvBytes }
}
