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
        try traits(program, in: CalloutObject(path: program.object))
    }

    private static func traits(_ program: CalloutProgram, in object: CalloutObject) throws(NDError) -> ProgramTraits {
        let abilities = try object.check(program.entry)
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
        var programs: [(program: CalloutProgram, object: CalloutObject, traits: ProgramTraits)] = []
        var objects = CalloutObjects()
        // Read again: between the check of the policy and now a file may have become another.
        for program in expanded.programs {
            let object = try objects.object(program.object)
            programs.append((program, object, try Self.traits(program, in: object)))
        }
        let first = CalloutSlots.first(generation: generation)
        var machines = MachineNumbers(known)
        let new = machines.add(expanded.machines)
        guard machines.numbers.count <= MachineNumbers.most else {
            throw NDError(
                "policy.too-many", "filters have named more than \(MachineNumbers.most) machines since the load",
                hint: "ndbpf unload, then load again; nothing was changed")
        }
        compiled = try policy.compiled(
            interfaceIndex: interfaceIndex, programs: CalloutNumbers(programs.map { ($0.program, $0.traits) }, first: first),
            machines: machines)
        image = try compiled.image(generation: generation)
        let inbound = compiled.programsForDecrypted
        callouts = CalloutCommit(
            programs: zip(first..., programs).map { number, it in
                .init(object: it.object, entry: it.program.entry, isInbound: inbound.contains(number))
            },
            asksDecrypted: compiled.asksDecrypted, machines: new)
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

    /// Reads what is loaded and puts the policy in its place, while no other process does.
    @discardableResult
    public static func apply(_ policy: Policy, to datapath: Datapath) throws -> PolicyCommit {
        try datapath.exclusively {
            let ready = try PolicyCommit(policy, next: datapath)
            try ready.perform(datapath)
            return ready
        }
    }
}

extension Policy.Tables {
    public var choice: TableSizeChoice { TableSizeChoice(flows: flows, secured: secured, peers: peers) }
}
