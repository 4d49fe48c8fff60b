import Foundation
import NDABI
import NDCore
import NDDatapath
import NDPolicy

/// A policy made ready for one generation: compiled, with its callouts' programs looked through and numbered.
public struct PolicyCommit: Sendable {
    public let compiled: CompiledPolicy
    public let image: PolicyImage
    public let callouts: CalloutCommit

    /// What a program's instructions tell. Refuses a program that nobody may register.
    public static func reading(_ program: CalloutProgram) throws(NDError) -> ProgramTraits? {
        let abilities = try CalloutObject(path: program.object).check(program.entry)
        var traits: ProgramTraits = []
        if abilities.contains(.readsPayload) { traits.insert(.readsPayload) }
        if abilities.contains(.changesPackets) { traits.insert(.changesPackets) }
        return traits
    }

    public init(
        _ policy: Policy, generation: UInt32, interfaceIndex: (String) -> UInt32? = Self.interfaceIndex
    ) throws {
        let expanded = policy.expanded
        var programs: [(CalloutProgram, ProgramTraits)] = []
        // Read again: between the check of the policy and now the file may have become another.
        for program in expanded.programs { programs.append((program, try Self.reading(program) ?? [])) }
        compiled = try policy.compiled(
            interfaceIndex: interfaceIndex,
            programs: CalloutNumbers(programs, first: CalloutSlots.first(generation: generation)))
        image = try compiled.image(generation: generation)
        func slot(_ program: CalloutProgram) -> CalloutSlots.Program { .init(object: program.object, entry: program.entry) }
        let inbound: Set<Layer.Kind> = [.inboundTransport, .aleAuthRecvAccept, .stream, .datagramData]
        callouts = CalloutCommit(
            programs: programs.map { slot($0.0) },
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
