import NDCore

/// What a filter at IKEEXT or IPSEC points to.
public struct ProviderContext: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable, CaseIterable {
        case ikeMainMode = "IPSEC_IKE_MM_CONTEXT"
        case authIPMainMode = "IPSEC_AUTHIP_MM_CONTEXT"
        case ikeQuickModeTransport = "IPSEC_IKE_QM_TRANSPORT_CONTEXT"
        case authIPQuickModeTransport = "IPSEC_AUTHIP_QM_TRANSPORT_CONTEXT"

        /// The one layer whose filters may name it.
        public var layer: Layer.Kind {
            switch self {
            case .ikeMainMode, .authIPMainMode: .ikeext
            case .ikeQuickModeTransport, .authIPQuickModeTransport: .ipsec
            }
        }

        public var isAuthIP: Bool { self == .authIPMainMode || self == .authIPQuickModeTransport }
    }

    /// IPSEC_POLICY_FLAG_*, of quick-mode contexts.
    public struct Flags: OptionSet, Hashable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        /// "Do negotiation discovery in secure ring."
        public static let ndSecure = Flags(rawValue: 0x2)
        /// "Do negotiation discovery in the untrusted perimeter zone."
        public static let ndBoundary = Flags(rawValue: 0x4)

        static let named: [(name: String, flag: Flags)] = [("ND_SECURE", .ndSecure), ("ND_BOUNDARY", .ndBoundary)]

        public var names: [String] { Self.named.filter { contains($0.flag) }.map(\.name) }
    }

    /// AuthIP's extended mode: how the second, user, authentication is done (IKEEXT_EM_POLICY0).
    public struct ExtendedMode: Hashable, Sendable {
        public enum Method: String, Hashable, Sendable, CaseIterable {
            case kerberos, certificate, ntlm, anonymous
        }

        /// In order of preference.
        public var methods: [Method]

        public init(methods: [Method]) { self.methods = methods }
    }

    public var key: GUID
    public var name: String
    public var provider: GUID?
    public var kind: Kind
    /// For quick mode the number that rules and peers carry; 0 is the scenario's.
    public var id: UInt32
    public var flags: Flags
    public var proposals: [String]
    /// Of the SAs made by it; nil: `keying` says.
    public var lifetime: Span?
    public var extendedMode: ExtendedMode?

    public init(
        key: GUID? = nil, name: String? = nil, provider: GUID? = nil, kind: Kind, id: UInt32 = 0, flags: Flags = [],
        proposals: [String], lifetime: Span? = nil, extendedMode: ExtendedMode? = nil
    ) {
        let name = name ?? kind.rawValue
        self.key = key ?? GUID(named: name, kind: "provider-context")
        self.name = name
        self.provider = provider
        self.kind = kind
        self.id = id
        self.flags = flags
        self.proposals = proposals
        self.lifetime = lifetime
        self.extendedMode = extendedMode
    }
}
