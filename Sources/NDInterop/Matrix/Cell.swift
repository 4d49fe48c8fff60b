import NDCore
import NDLab
import NDPolicy

/// Who starts the negotiation: ndbpf, by a connection that it upgrades, or the peer.
public enum InteropRole: String, Sendable, Codable, CaseIterable {
    case ndbpf, peer
}

/// How ESP travels in a cell.
public enum InteropEncapsulation: String, Sendable, Codable, CaseIterable {
    case native, udp
}

/// One row of the matrix: pair × role × suite, and how it travels.
public struct InteropCell: Sendable, Hashable {
    public var peer: PeerKind
    public var role: InteropRole
    public var suite: InteropSuite
    public var family: Lab.Family
    public var encapsulation: InteropEncapsulation

    public var name: String {
        "\(peer.rawValue) \(role.rawValue) \(suite) \(family.rawValue) \(encapsulation.rawValue)"
    }

    /// With forward secrecy over IPv6, without over IPv4: every peer, role, group and cipher sees both
    /// families. ESP in UDP once for each peer, role and family.
    public static let all: [InteropCell] = PeerKind.allCases.flatMap { peer in
        InteropRole.allCases.flatMap { role in
            InteropSuite.all(peer).map {
                InteropCell(
                    peer: peer, role: role, suite: $0, family: $0.forwardSecrecy == nil ? .ipv4 : .ipv6, encapsulation: .native)
            }
                + Lab.Family.allCases.map {
                    InteropCell(
                        peer: peer, role: role,
                        suite: InteropSuite(group: .ecp256, esp: .aesGCM16(keyBits: 128), forwardSecrecy: nil),
                        family: $0, encapsulation: .udp)
                }
        }
    }

    /// What of ndbpf's policy a cell needs; cells of one variant share a daemon.
    struct Variant: Hashable {
        var forwardSecrecy: DiffieHellmanGroup?
        var encapsulation: InteropEncapsulation

        var name: String { "\(forwardSecrecy?.rawValue ?? "no-pfs")-\(encapsulation.rawValue)" }
    }

    var variant: Variant {
        Variant(forwardSecrecy: suite.forwardSecrecy, encapsulation: encapsulation)
    }
}

/// What became of a step that a cell tried.
public enum StepOutcome: Codable, Sendable, Hashable {
    case passed
    case failed(String)

    public var isFailure: Bool { if case .failed = self { true } else { false } }
    public var mark: String { isFailure ? "NO" : "yes" }
}

/// What the guest saw of one cell; `decrypted` is filled in outside, by tshark.
public struct CellResult: Codable, Sendable {
    public var name: String
    public var peer: PeerKind
    public var role: InteropRole
    public var suite: String
    public var family: String
    public var encapsulation: InteropEncapsulation
    /// In the order of the steps: negotiation, echo, clear, rekeys, deletes.
    public var steps: [String: StepOutcome] = [:]
    public var connectMilliseconds: Double?
    public var espPackets = 0
    /// Of ESP, by IP: the sender believed in a larger packet than the path takes.
    public var fragments = 0
    public var clearAfterUpgrade = 0
    public var spis: [UInt32: Int] = [:]
    public var decrypted: Int?

    public var failures: [String] {
        var found = Step.allCases.compactMap { step -> String? in
            if case .failed(let why)? = steps[step.rawValue] { "\(step.rawValue): \(why)" } else { nil }
        }
        if let decrypted, decrypted < espPackets { found.append("tshark decrypted \(decrypted) of \(espPackets)") }
        return found
    }

    public enum Step: String, CaseIterable, Sendable {
        case negotiation, echo, wire
        case rekeyByNDBPF = "rekey by ndbpf"
        case rekeyByPeer = "rekey by peer"
        case delete
    }
}

/// Everything a guest hands out.
public struct MatrixResult: Codable, Sendable {
    public struct Medians: Codable, Sendable {
        public var name: String
        public var milliseconds: [Double]
        public var median: Double { milliseconds.sorted().dropFirst(milliseconds.count / 2).first ?? .nan }
    }

    public struct Check: Codable, Sendable {
        public var name: String
        public var outcome: StepOutcome
        public var detail: String
    }

    public var kernel: String
    public var engine: String
    public var versions: [String: String]
    public var cells: [CellResult] = []
    public var coldConnects: [Medians] = []
    public var checks: [Check] = []
    public var seconds: Double = 0

    /// One line for everything that is not as it must be.
    public var failures: [String] {
        cells.flatMap { cell in cell.failures.map { "\(kernel) \(cell.name): \($0)" } }
            + checks.compactMap { check in
                if case .failed(let why) = check.outcome { "\(kernel) \(check.name): \(why)" } else { nil }
            }
    }
}
