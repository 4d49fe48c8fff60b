import CNDABI
import NDCore

/// The program of a third party's callout: a BPF object file, and which of its programs.
public struct CalloutProgram: Hashable, Sendable, Codable {
    /// The file's path.
    public var object: String
    /// The program's name in it.
    public var entry: String

    public init(object: String, entry: String) {
        self.object = object
        self.entry = entry
    }
}

extension CalloutProgram: CustomStringConvertible {
    public var description: String { "'\(entry)' of \(object)" }
}

/// What a program does to packets, as its instructions tell: who loads it knows.
public struct ProgramTraits: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// It reads beyond the IP header.
    public static let readsPayload = ProgramTraits(rawValue: 1)
    /// It writes to the packet, or makes it longer or shorter.
    public static let changesPackets = ProgramTraits(rawValue: 2)
}

/// Looks into a program's object; nil: nobody can here. What it throws is reported at the callout.
public typealias ProgramReading = (CalloutProgram) throws(NDError) -> ProgramTraits?

extension ExpandedPolicy {
    public static let mostPrograms = Int(ND_CALLOUTS_MAX)

    /// Every program that a callout has, once, in the order of the callouts.
    public var programs: [CalloutProgram] {
        var seen: Set<CalloutProgram> = []
        return callouts.compactMap(\.program).filter { seen.insert($0).inserted }
    }
}
