import CNDABI
import Foundation
import NDABI
import NDCore

/// What a policy needs of third parties beside its tables.
public struct CalloutCommit: Sendable {
    /// In the order of their numbers.
    public var programs: [CalloutSlots.Program]
    /// Some filter can block, or asks a program about, what arrived protected.
    public var asksDecrypted: Bool
    /// Machines that no policy named before.
    public var machines: [(number: UInt32, name: String)]

    public init(
        programs: [CalloutSlots.Program] = [], asksDecrypted: Bool = false,
        machines: [(number: UInt32, name: String)] = []
    ) {
        self.programs = programs
        self.asksDecrypted = asksDecrypted
        self.machines = machines
    }
}

extension Datapath {
    public var runsKernelEngine: Bool { hasState(ND_STATE_KERNEL_ENGINE) }

    private func hasState(_ flag: UInt32) -> Bool { (state.lookup(0)?.flags ?? 0) & flag != 0 }

    /// The generation that a next commit has.
    public func nextGeneration() throws -> UInt32 { (try currentPolicy()?.generation ?? 0) &+ 1 }

    /// Puts a policy in place with the programs that it asks: all of it or nothing.
    public func commit(_ policy: PolicyImage, callouts: CalloutCommit) throws {
        let generation = policy.header.generation
        // The user engine's decrypted packets come out of nd0, where TC sees them.
        let atSocket = runsKernelEngine && callouts.asksDecrypted
        let wasAttached = SocketProgram.isAttached(instance)
        let pinned = CalloutSlots.pins(instance)
        do {
            try name(callouts.machines)
            if atSocket { try SocketProgram.load(instance) }
            try CalloutSlots.fill(instance, generation: generation, callouts.programs, atSocket: atSocket)
            if atSocket {
                try SocketProgram.attach(instance)
                if !hasState(ND_STATE_AT_SOCKET) {
                    try changeState { $0.flags |= ND_STATE_AT_SOCKET }
                }
            }
            try commit(policy)
        } catch {
            CalloutSlots.clear(instance, generation: generation)
            CalloutSlots.unpin(instance, otherThan: pinned)
            if !wasAttached { try? leaveSocket() }
            throw error
        }
        // After the commit nobody is in the generation before it any more.
        CalloutSlots.clear(instance, generation: generation &+ 1)
        CalloutSlots.unpin(instance, otherThan: CalloutSlots.pins(instance, of: callouts.programs))
        if !atSocket { try leaveSocket() }
    }

    /// Where no filter needs what arrives protected, or another engine shows it.
    public func leaveSocket() throws {
        if hasState(ND_STATE_AT_SOCKET) {
            try changeState { $0.flags &= ~ND_STATE_AT_SOCKET }
        }
        SocketProgram.detach(instance)
    }
}
