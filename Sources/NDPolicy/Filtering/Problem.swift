import NDCore

/// What is wrong with one object of the filter engine.
public struct Problem: Hashable, Sendable {
    /// Which of the policy's lists it is in.
    public enum Kind: String, Hashable, Sendable {
        case provider, sublayer, callout
        case providerContext = "provider context"
        case filter
    }

    public var kind: Kind
    public var index: Int
    /// Where in the object, as a policy file calls it.
    public var part: String
    /// Which of the conditions.
    public var item: Int?
    public var code: String
    public var message: String
    public var hint: String?

    public init(
        _ kind: Kind, _ index: Int, _ part: String, item: Int? = nil, _ code: String, _ message: String, hint: String? = nil
    ) {
        self.kind = kind
        self.index = index
        self.part = part
        self.item = item
        self.code = code
        self.message = message
        self.hint = hint
    }
}

extension ExpandedPolicy {
    /// Bounds of what one policy may hold.
    public static let mostFilters = 65_536
    public static let mostOthers = 4_096
    public static let mostConditions = 1_024

    /// Everything that a commit refuses but for what only a look into the programs tells.
    public var problems: [Problem] { problems { _ in nil } }

    /// Everything that a commit refuses. Each program is read once.
    public func problems(reading: ProgramReading) -> [Problem] {
        var found: [Problem] = []
        let index = References(self)
        let rules = CalloutRules(self, reading)
        found += Self.duplicates(.provider, providers.map { ($0.key, $0.name) }, Provider.builtIn.map(\.key))
        found += Self.duplicates(.sublayer, sublayers.map { ($0.key, $0.name) }, Sublayer.builtIn.map(\.key))
        found += Self.duplicates(.callout, callouts.map { ($0.key, $0.name) }, Self.builtInCalloutKeys)
        found += Self.duplicates(.providerContext, providerContexts.map { ($0.key, $0.name) }, [])
        found += Self.duplicates(.filter, filters.map { ($0.key, $0.name) }, [])
        for (at, sublayer) in sublayers.enumerated() { found += index.owner(sublayer.provider, .sublayer, at) }
        for (at, callout) in callouts.enumerated() { found += index.owner(callout.provider, .callout, at) }
        for (at, context) in providerContexts.enumerated() {
            found += index.owner(context.provider, .providerContext, at) + context.problems(at)
        }
        found += rules.problems() + rules.crowded(filters)
        for (at, filter) in filters.enumerated() { found += index.problems(filter, at) + rules.problems(filter, at) }
        for (kind, count, most) in [
            (Problem.Kind.filter, filters.count, Self.mostFilters), (.sublayer, sublayers.count, Self.mostOthers),
            (.callout, callouts.count, Self.mostOthers), (.providerContext, providerContexts.count, Self.mostOthers),
            (.provider, providers.count, Self.mostOthers),
        ] where count > most {
            found.append(Problem(kind, most, "name", "too-many", "\(count) \(kind.rawValue)s, the limit is \(most)"))
        }
        return found
    }

    private static let builtInCalloutKeys = BuiltInCallout.allCases.flatMap { callout in IPFamily.allCases.map { callout.key($0) } }

    private static func duplicates(_ kind: Problem.Kind, _ objects: [(key: GUID, name: String)], _ builtIn: [GUID]) -> [Problem] {
        var first: [GUID: String] = [:]
        let taken = Set(builtIn)
        var found: [Problem] = []
        for (at, object) in objects.enumerated() {
            if object.name.isEmpty || object.name.utf8.count > 256 || object.name.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) {
                found.append(Problem(kind, at, "name", "name", "a \(kind.rawValue)'s name is 1 to 256 printable bytes"))
            }
            if taken.contains(object.key) {
                found.append(
                    Problem(kind, at, "key", "built-in", "the key {\(object.key)} is a built-in \(kind.rawValue)'s", hint: "built-in objects are always there; leave it out"))
            } else if let before = first.updateValue(object.name, forKey: object.key) {
                let same = before == object.name
                found.append(
                    Problem(
                        kind, at, same ? "name" : "key", "already-exists",
                        same ? "there are two \(kind.rawValue)s \"\(object.name)\"" : "\(kind.rawValue) \"\(before)\" has the same key",
                        hint: "give one of them another name, or a key of its own"))
            }
        }
        return found
    }

    /// A problem as a program is told it: with the object named.
    public func error(_ problem: Problem) -> NDError {
        func name<T>(_ objects: [T], _ name: (T) -> String) -> String {
            objects.indices.contains(problem.index) ? " \"\(name(objects[problem.index]))\"" : ""
        }
        let subject: String
        switch problem.kind {
        case .provider: subject = name(providers) { $0.name }
        case .sublayer: subject = name(sublayers) { $0.name }
        case .callout: subject = name(callouts) { $0.name }
        case .providerContext: subject = name(providerContexts) { $0.name }
        case .filter:
            subject =
                name(filters) { $0.name }
                + (filters.indices.contains(problem.index) ? " at \(filters[problem.index].layer.shortName)" : "")
        }
        return NDError("engine.\(problem.code)", "\(problem.kind.rawValue)\(subject): \(problem.message)", hint: problem.hint)
    }
}

extension ProviderContext {
    fileprivate func problems(_ at: Int) -> [Problem] {
        var found: [Problem] = []
        let isQuick = kind.layer == .ipsec
        let known = isQuick ? ESPSuite.all.map(\.description) : MainModeProposal.all.map(\.description)
        if proposals.isEmpty {
            found.append(Problem(.providerContext, at, "proposals", "value", "it offers nothing", hint: "name at least one proposal, such as \(known.first ?? "")"))
        }
        for (item, proposal) in proposals.enumerated() where !known.contains(proposal) {
            let near = nearest(to: proposal, among: known).map { "did you mean '\($0)'? " } ?? ""
            found.append(
                Problem(
                    .providerContext, at, "proposals", item: item, "value", "'\(clipped(proposal))' is no \(isQuick ? "quick" : "main")-mode proposal",
                    hint: near + (isQuick ? "known: \(known.joined(separator: ", "))" : "written \(MainModeProposal.grammar)")))
        }
        if !isQuick, !flags.isEmpty {
            found.append(
                Problem(.providerContext, at, "flags", "value", "\(flags.names.joined(separator: ", ")) is a flag of quick-mode contexts", hint: "move it to the quick-mode context"))
        }
        if flags.isSuperset(of: [.ndSecure, .ndBoundary]) {
            found.append(
                Problem(.providerContext, at, "flags", "value", "ND_SECURE and ND_BOUNDARY exclude each other", hint: "ND_SECURE refuses clear inbound, ND_BOUNDARY accepts it"))
        }
        if let extendedMode, kind != .authIPQuickModeTransport || extendedMode.methods.isEmpty {
            found.append(
                Problem(
                    .providerContext, at, "extended-mode", "value",
                    extendedMode.methods.isEmpty ? "the extended mode names no method" : "\(kind.rawValue) has no extended mode",
                    hint: "extended mode belongs to an IPSEC_AUTHIP_QM_TRANSPORT_CONTEXT and names how the user authenticates"))
        }
        return found
    }
}
