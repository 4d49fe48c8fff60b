import Foundation
import NDABI
import NDCore
import NDDatapath
import NDPolicy

/// A policy made ready for one generation: looked through with what its programs can do, compiled, numbered.
public struct PolicyCommit: Sendable {
    public let compiled: CompiledPolicy
    public let image: PolicyImage
    public let callouts: CalloutCommit

    /// What the objects' instructions say. Refuses programs that nobody may register.
    public static func traits(_ policy: ExpandedPolicy) throws -> [(CalloutProgram, ProgramTraits)] {
        try policy.programs.map { program in
            let abilities = try CalloutObject(path: program.object).check(program.entry)
            var traits: ProgramTraits = []
            if abilities.contains(.readsPayload) { traits.insert(.readsPayload) }
            if abilities.contains(.changesPackets) { traits.insert(.changesPackets) }
            return (program, traits)
        }
    }

    public init(
        _ policy: Policy, generation: UInt32, interfaceIndex: (String) -> UInt32? = Self.interfaceIndex
    ) throws {
        let expanded = policy.expanded
        let traits = try Self.traits(expanded)
        try expanded.checkCallouts(traits: Dictionary(traits, uniquingKeysWith: { first, _ in first }))
        compiled = try policy.compiled(
            interfaceIndex: interfaceIndex,
            programs: CalloutNumbers(traits, first: CalloutSlots.first(generation: generation)))
        image = try compiled.image(generation: generation)
        func slot(_ program: CalloutProgram) -> CalloutSlots.Program { .init(object: program.object, entry: program.entry) }
        let inbound: Set<Layer.Kind> = [.inboundTransport, .aleAuthRecvAccept, .stream, .datagramData]
        callouts = CalloutCommit(
            programs: traits.map { slot($0.0) },
            inbound: Set(expanded.callouts.filter { inbound.contains($0.layer.kind) }.compactMap(\.program).map(slot)),
            asksDecrypted: compiled.asksDecrypted)
    }

    /// In this process's network namespace.
    public static func interfaceIndex(_ name: String) -> UInt32? {
        let index = if_nametoindex(name)
        return index == 0 ? nil : index
    }

    public func perform(_ datapath: Datapath) throws { try datapath.commit(image, callouts: callouts) }
}
