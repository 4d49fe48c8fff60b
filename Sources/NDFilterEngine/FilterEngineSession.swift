@_exported import NDCore
@_exported import NDPolicy
import Synchronization

/// A program's way to the filter engine: begin, add, delete, commit, enumerate. Safe to use from several
/// threads; commits come one after the other.
public final class FilterEngineSession: Sendable {
    private let engine: Mutex<FilterEngine>
    private let apply: @Sendable (ExpandedPolicy) throws -> Void
    private let reading: @Sendable (CalloutProgram) throws(NDError) -> ProgramTraits?

    /// `apply` makes a committed state effective; when it throws, the commit didn't happen. `reading` looks into
    /// the programs of callouts; without it the rules that depend on what a program does are not checked.
    public init(
        _ engine: FilterEngine = FilterEngine(), apply: @escaping @Sendable (ExpandedPolicy) throws -> Void = { _ in },
        reading: @escaping @Sendable (CalloutProgram) throws(NDError) -> ProgramTraits? = { _ in nil }
    ) {
        self.engine = Mutex(engine)
        self.apply = apply
        self.reading = reading
    }

    /// What is in force: enumerate it, or look objects up by key.
    public var state: ExpandedPolicy { engine.withLock { $0.state } }

    public func begin() -> Transaction { engine.withLock { $0.begin() } }

    public func commit(_ transaction: inout Transaction) throws {
        // The lock's closure can't hold an inout of the caller's.
        var ended = transaction
        defer { transaction = ended }
        try engine.withLock { try $0.commit(&ended, apply: apply, reading: reading) }
    }

    public func abort(_ transaction: inout Transaction) { engine.withLock { $0.abort(&transaction) } }

    /// Commits when the body returns, aborts when it throws.
    public func transaction(_ body: (inout Transaction) throws -> Void) throws {
        var changes = begin()
        try body(&changes)
        try commit(&changes)
    }
}
