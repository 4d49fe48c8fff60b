import NDCore

/// The filter engine: a policy and the transactions that change it. A value; who applies it to a datapath
/// gives `commit` the means.
public struct FilterEngine: Hashable, Sendable {
    public private(set) var state: ExpandedPolicy
    /// Counts commits.
    public private(set) var generation: UInt64 = 0
    private var lastFilter: UInt32

    public init() {
        state = ExpandedPolicy()
        lastFilter = 0
    }

    /// Adopts what is already enforced; refuses what no commit would have taken.
    public init(_ state: ExpandedPolicy, reading: ProgramReading = { _ in nil }) throws(EngineErrors) {
        try EngineErrors.check(state, reading: reading)
        self.state = state
        lastFilter = state.filters.map(\.id).max() ?? 0
    }

    public func begin() -> Transaction { Transaction(state, generation: generation, lastFilter: lastFilter) }

    /// Takes the transaction whole or not at all. `reading` looks into the programs of callouts; `apply` makes
    /// the state effective; when it throws, nothing has changed here either.
    public mutating func commit(
        _ transaction: inout Transaction, apply: (ExpandedPolicy) throws -> Void = { _ in },
        reading: ProgramReading = { _ in nil }
    ) throws {
        let changed = try transaction.open()
        guard changed.generation == generation else {
            throw NDError(
                "engine.conflict", "another transaction was committed since this one began",
                hint: "begin again and repeat the changes")
        }
        try EngineErrors.check(changed.state, reading: reading)
        try apply(changed.state)
        transaction.end()
        state = changed.state
        lastFilter = changed.lastFilter
        generation &+= 1
    }

    /// Nothing of the transaction remains.
    public func abort(_ transaction: inout Transaction) { transaction.end() }

    /// One transaction: committed when the body returns, aborted when it throws.
    public mutating func transaction(
        apply: (ExpandedPolicy) throws -> Void = { _ in }, reading: ProgramReading = { _ in nil },
        _ body: (inout Transaction) throws -> Void
    ) throws {
        var changes = begin()
        do { try body(&changes) } catch {
            abort(&changes)
            throw error
        }
        try commit(&changes, apply: apply, reading: reading)
    }
}

/// Why a transaction was refused: every reason, each with its object named.
public struct EngineErrors: Error, Hashable, Sendable, CustomStringConvertible {
    public let errors: [NDError]

    public var description: String { errors.map(\.description).joined(separator: "\n") }

    static func check(_ state: ExpandedPolicy, reading: ProgramReading) throws(EngineErrors) {
        let problems = state.problems(reading: reading)
        guard !problems.isEmpty else { return }
        throw EngineErrors(errors: problems.prefix(50).map { state.error($0) })
    }
}

/// Changes that become effective together. Keys may be named before what they belong to is added: only what
/// stands at the commit counts.
public struct Transaction: Hashable, Sendable {
    struct Changes: Hashable, Sendable {
        var state: ExpandedPolicy
        var generation: UInt64
        var lastFilter: UInt32
        var filterKeys: Set<GUID>
    }

    private var changes: Changes?

    fileprivate init(_ state: ExpandedPolicy, generation: UInt64, lastFilter: UInt32) {
        var state = state
        // From here on it is the caller's, whatever it began as.
        state.scenario = nil
        changes = Changes(
            state: state, generation: generation, lastFilter: lastFilter, filterKeys: Set(state.filters.map(\.key)))
    }

    fileprivate func open() throws(NDError) -> Changes {
        guard let changes else {
            throw NDError("engine.no-transaction", "the transaction has ended", hint: "begin another one")
        }
        return changes
    }

    fileprivate mutating func end() { changes = nil }

    private mutating func change(_ body: (inout Changes) throws(NDError) -> Void) throws(NDError) {
        // Moved out and in, so that the arrays are not copied at every call.
        guard var taken = changes else {
            _ = try open()
            return
        }
        changes = nil
        defer { changes = taken }
        try body(&taken)
    }

    private static func exists(_ what: String, _ name: String, _ key: GUID) -> NDError {
        NDError(
            "engine.already-exists", "a \(what) with the key {\(key)} exists, \"\(name)\" can't be added",
            hint: "delete the old one first, or choose another key")
    }

    private static func missing(_ what: String, _ key: GUID) -> NDError {
        NDError("engine.not-found", "there is no \(what) {\(key)}", hint: "enumerate them to see which there are")
    }

    private static func builtIn(_ what: String, _ key: GUID) -> NDError {
        NDError("engine.built-in", "the \(what) {\(key)} is built in and stays")
    }
}

extension Transaction {
    public mutating func add(_ provider: Provider) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            guard held.state.provider(key: provider.key) == nil else { throw Self.exists("provider", provider.name, provider.key) }
            held.state.providers.append(provider)
        }
    }

    public mutating func add(_ sublayer: Sublayer) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            guard held.state.sublayer(key: sublayer.key) == nil else { throw Self.exists("sublayer", sublayer.name, sublayer.key) }
            held.state.sublayers.append(sublayer)
        }
    }

    public mutating func add(_ callout: Callout) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            guard held.state.callout(key: callout.key) == nil, BuiltInCallout.find(callout.key) == nil else {
                throw Self.exists("callout", callout.name, callout.key)
            }
            held.state.callouts.append(callout)
        }
    }

    public mutating func add(_ context: ProviderContext) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            guard held.state.providerContext(key: context.key) == nil else {
                throw Self.exists("provider context", context.name, context.key)
            }
            held.state.providerContexts.append(context)
        }
    }

    /// The number by which traces and counters name the filter.
    @discardableResult
    public mutating func add(_ filter: Filter) throws(NDError) -> UInt32 {
        var id: UInt32 = 0
        try change { (held: inout Changes) throws(NDError) in
            guard held.filterKeys.insert(filter.key).inserted else { throw Self.exists("filter", filter.name, filter.key) }
            guard held.lastFilter < .max else {
                throw NDError("engine.too-many", "every filter number was given once", hint: "start anew")
            }
            held.lastFilter += 1
            id = held.lastFilter
            var numbered = filter
            numbered.id = id
            held.state.filters.append(numbered)
        }
        return id
    }

    public mutating func deleteProvider(key: GUID) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            if Provider.builtIn.contains(where: { $0.key == key }) { throw Self.builtIn("provider", key) }
            guard let at = held.state.providers.firstIndex(where: { $0.key == key }) else { throw Self.missing("provider", key) }
            held.state.providers.remove(at: at)
        }
    }

    public mutating func deleteSublayer(key: GUID) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            if Sublayer.builtIn.contains(where: { $0.key == key }) { throw Self.builtIn("sublayer", key) }
            guard let at = held.state.sublayers.firstIndex(where: { $0.key == key }) else { throw Self.missing("sublayer", key) }
            held.state.sublayers.remove(at: at)
        }
    }

    public mutating func deleteCallout(key: GUID) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            if BuiltInCallout.find(key) != nil { throw Self.builtIn("callout", key) }
            guard let at = held.state.callouts.firstIndex(where: { $0.key == key }) else { throw Self.missing("callout", key) }
            held.state.callouts.remove(at: at)
        }
    }

    public mutating func deleteProviderContext(key: GUID) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            guard let at = held.state.providerContexts.firstIndex(where: { $0.key == key }) else {
                throw Self.missing("provider context", key)
            }
            held.state.providerContexts.remove(at: at)
        }
    }

    public mutating func deleteFilter(key: GUID) throws(NDError) {
        try change { (held: inout Changes) throws(NDError) in
            guard held.filterKeys.remove(key) != nil, let at = held.state.filters.firstIndex(where: { $0.key == key })
            else { throw Self.missing("filter", key) }
            held.state.filters.remove(at: at)
        }
    }

    /// What would stand after the commit: to enumerate and to look up by key.
    public var state: ExpandedPolicy { changes?.state ?? ExpandedPolicy() }
}
