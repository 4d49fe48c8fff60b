import NDCore
import NDPolicy

/// What one cell of the matrix negotiates.
public struct InteropSuite: Hashable, Sendable, CustomStringConvertible {
    /// Of main mode, and of quick mode where it has perfect forward secrecy.
    public var group: DiffieHellmanGroup
    public var esp: ESPSuite
    public var forwardSecrecy: Bool

    public init(group: DiffieHellmanGroup, esp: ESPSuite, forwardSecrecy: Bool) {
        self.group = group
        self.esp = esp
        self.forwardSecrecy = forwardSecrecy
    }

    public var description: String { "\(group.rawValue) \(esp)\(forwardSecrecy ? " PFS" : "")" }

    /// In main mode all cells use AES-CBC-256; the hash goes with the group's strength.
    public var mainMode: MainModeProposal {
        MainModeProposal(keyBits: 256, hash: group == .ecp384 ? .sha384 : .sha256, group: group)
    }

    public static let all: [InteropSuite] = DiffieHellmanGroup.allCases.flatMap { group in
        [ESPSuite.aesGCM16(keyBits: 128), .aesCBCHMACSHA256(keyBits: 256)].flatMap { esp in
            [false, true].map { InteropSuite(group: group, esp: esp, forwardSecrecy: $0) }
        }
    }
}
