import CNDABI

/// The field `flags`: FWP_CONDITION_FLAG_*, those that a packet's way through the host tells.
public struct PacketFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    private init(_ bit: UInt32) { rawValue = UInt8(truncatingIfNeeded: bit) }

    /// FWP_CONDITION_FLAG_IS_LOOPBACK: by the loopback interface.
    public static let isLoopback = PacketFlags(ND_FLAG_IS_LOOPBACK)
    /// FWP_CONDITION_FLAG_IS_IPSEC_SECURED: it came out of nd0, so it was authenticated.
    public static let isIPsecSecured = PacketFlags(ND_FLAG_IS_IPSEC_SECURED)
    /// FWP_CONDITION_FLAG_IS_FRAGMENT: the first of a datagram's; of later ones filters see nothing.
    public static let isFragment = PacketFlags(ND_FLAG_IS_FRAGMENT)
}
