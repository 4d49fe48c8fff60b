import CNDABI
import NDABI
import NDCore

/// What a policy needs of third parties beside its tables.
public struct CalloutCommit: Sendable {
    /// In the order of their numbers.
    public var programs: [CalloutSlots.Program]
    /// Those that are asked about packets that arrive.
    public var inbound: Set<CalloutSlots.Program>
    /// Some filter can block, or asks a program about, what arrived protected.
    public var asksDecrypted: Bool
    /// Machines that no policy named before.
    public var machines: [(number: UInt32, name: String)] = []

    public init(programs: [CalloutSlots.Program] = [], inbound: Set<CalloutSlots.Program> = [], asksDecrypted: Bool = false) {
        self.programs = programs
        self.inbound = inbound
        self.asksDecrypted = asksDecrypted
    }
}

extension Datapath {
    public var runsKernelEngine: Bool { (state.lookup(0)?.flags ?? 0) & ND_STATE_KERNEL_ENGINE != 0 }

    /// The generation that a next commit has.
    public func nextGeneration() throws -> UInt32 { (try currentPolicy()?.generation ?? 0) &+ 1 }

    /// Puts a policy in place with the programs that it asks: all of it or nothing.
    public func commit(_ policy: PolicyImage, callouts: CalloutCommit) throws {
        let generation = policy.header.generation
        // The user engine's decrypted packets come out of nd0, where TC sees them.
        let atSocket = runsKernelEngine && callouts.asksDecrypted
        let wasAttached = SocketProgram.isAttached(instance)
        do {
            try name(callouts.machines)
            if atSocket { try SocketProgram.load(instance) }
            try CalloutSlots.fill(
                instance, generation: generation, programs: callouts.programs, inbound: callouts.inbound, atSocket: atSocket)
            if atSocket, !wasAttached {
                try SocketProgram.attach(instance)
                try changeState { $0.flags |= ND_STATE_AT_SOCKET }
            }
            try commit(policy)
        } catch {
            if !wasAttached { leaveSocket() }
            throw error
        }
        CalloutSlots.clear(instance, otherThan: generation, keep: callouts.programs)
        if !atSocket { leaveSocket() }
    }

    private func leaveSocket() {
        if (state.lookup(0)?.flags ?? 0) & ND_STATE_AT_SOCKET != 0 {
            try? changeState { $0.flags &= ~ND_STATE_AT_SOCKET }
        }
        SocketProgram.detach(instance)
    }
}
