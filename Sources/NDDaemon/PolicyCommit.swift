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
        _ policy: Policy, generation: UInt32, machines known: [String: UInt32] = [:],
        interfaceIndex: (String) -> UInt32? = Self.interfaceIndex
    ) throws {
        let expanded = policy.expanded
        var programs: [(CalloutProgram, ProgramTraits)] = []
        // Read again: between the check of the policy and now the file may have become another.
        for program in expanded.programs { programs.append((program, try Self.reading(program) ?? [])) }
        var machines = MachineNumbers(known)
        let new = machines.add(expanded.machines)
        guard machines.numbers.count <= MachineNumbers.most else {
            throw NDError(
                "policy.too-many", "filters have named more than \(MachineNumbers.most) machines since the load",
                hint: "ndbpf unload, then load again; nothing was changed")
        }
        compiled = try policy.compiled(
            interfaceIndex: interfaceIndex,
            programs: CalloutNumbers(programs, first: CalloutSlots.first(generation: generation)),
            machines: machines)
        image = try compiled.image(generation: generation)
        func slot(_ program: CalloutProgram) -> CalloutSlots.Program { .init(object: program.object, entry: program.entry) }
        let inbound: Set<Layer.Kind> = [.inboundTransport, .aleAuthRecvAccept, .stream, .datagramData]
        var callouts = CalloutCommit(
            programs: programs.map { slot($0.0) },
            inbound: Set(expanded.callouts.filter { inbound.contains($0.layer.kind) }.compactMap(\.program).map(slot)),
            asksDecrypted: compiled.asksDecrypted)
        callouts.machines = new
        self.callouts = callouts
    }

    /// In this process's network namespace.
    public static func interfaceIndex(_ name: String) -> UInt32? {
        let index = if_nametoindex(name)
        return index == 0 ? nil : index
    }

    /// The next generation of what is loaded.
    public init(_ policy: Policy, next datapath: Datapath) throws {
        try self.init(policy, generation: try datapath.nextGeneration(), machines: datapath.machineNumbers())
    }

    public func perform(_ datapath: Datapath) throws { try datapath.commit(image, callouts: callouts) }
}
