import NDCore
import NDPolicy

/// What one cell of the matrix negotiates.
public struct InteropSuite: Hashable, Sendable, CustomStringConvertible {
    /// Of main mode.
    public var group: DiffieHellmanGroup
    public var esp: ESPSuite
    /// The group of quick mode, where it has one.
    public var forwardSecrecy: DiffieHellmanGroup?

    public init(group: DiffieHellmanGroup, esp: ESPSuite, forwardSecrecy: DiffieHellmanGroup?) {
        self.group = group
        self.esp = esp
        self.forwardSecrecy = forwardSecrecy
    }

    public var description: String { "\(group.rawValue) \(esp)\(forwardSecrecy.map { " PFS-\($0.rawValue)" } ?? "")" }

    /// In main mode all cells use AES-CBC-256; the hash goes with the group's strength.
    public var mainMode: MainModeProposal {
        MainModeProposal(keyBits: 256, hash: group == .ecp384 ? .sha384 : .sha256, group: group)
    }

    /// libreswan 4.10 has no elliptic curves for quick mode in IKEv1 ("not supported by IKEv1").
    public static func all(_ peer: PeerKind) -> [InteropSuite] {
        DiffieHellmanGroup.allCases.flatMap { group in
            [ESPSuite.aesGCM16(keyBits: 128), .aesCBCHMACSHA256(keyBits: 256)].flatMap { esp in
                [nil, peer == .libreswan ? .modp2048 : group].map {
                    InteropSuite(group: group, esp: esp, forwardSecrecy: $0)
                }
            }
        }
    }
}
