import NDCore

/// What changes from one policy to another, object by object. Filters are compared by key; their numbers
/// don't count.
public struct PolicyDifference: Hashable, Sendable, Encodable {
    public struct Change: Hashable, Sendable, Encodable {
        public enum Kind: String, Hashable, Sendable, Encodable { case added, removed, changed }

        public var change: Kind
        /// "filter", "sublayer", ..., or "settings".
        public var object: String
        public var name: String
        public var layer: String?
        public var details: [String]
    }

    public var changes: [Change]

    public init(from old: Policy, to new: Policy) {
        let (a, b) = (old.expanded, new.expanded)
        changes = Self.compare("provider", a.providers, b.providers, \.key, \.name) { ["description \($0.description)"] }
        changes += Self.compare("provider context", a.providerContexts, b.providerContexts, \.key, \.name) { context in
            [
                "type \(context.kind.rawValue)", "flags \(Self.list(context.flags.names))", "proposals \(Self.list(context.proposals))",
                "lifetime \(context.lifetime.map(DurationText.text) ?? "of keying")",
                "extended-mode \(Self.list(context.extendedMode?.methods.map(\.rawValue) ?? []))",
            ]
        }
        changes += Self.compare("sublayer", a.sublayers, b.sublayers, \.key, \.name) { ["weight \(hex(UInt64($0.weight), 4))"] }
        changes += Self.compare("callout", a.callouts, b.callouts, \.key, \.name, layer: { $0.layer.shortName }) { callout in
            ["layer \(callout.layer.shortName)", "program \(callout.program.map { "\($0.entry) of \($0.object)" } ?? "none")"]
        }
        let before = Self.filters(a)
        let after = Self.filters(b)
        changes += Self.compare("filter", before, after, \.filter.key, \.filter.name, layer: { $0.filter.layer.shortName }) { $0.details }
        changes += new.settings(otherThan: old).map { Change(change: .changed, object: "settings", name: $0, layer: nil, details: []) }
    }

    /// One line for each change, more where something changed in place; like `diff`'s.
    public var text: String {
        guard !changes.isEmpty else { return "no difference\n" }
        return changes.map { change in
            let sign = ["added": "+", "removed": "-"][change.change.rawValue] ?? "~"
            let place = change.layer.map { " at \($0)" } ?? ""
            let name = change.object == "settings" ? change.name : "\"\(change.name)\""
            return ([("\(sign) \(change.object) \(name)\(place)")] + change.details.map { "    \($0)" }).joined(separator: "\n")
        }.joined(separator: "\n") + "\n"
    }

    private static func list(_ words: [String]) -> String { words.isEmpty ? "none" : words.joined(separator: ", ") }

    private struct Described: Hashable {
        var filter: Filter
        var details: [String]
    }

    private static func filters(_ policy: ExpandedPolicy) -> [Described] {
        let sublayers = Dictionary(
            (Sublayer.builtIn + policy.sublayers).map { ($0.key, $0.shortName) }, uniquingKeysWith: { first, _ in first })
        return policy.filters.map { filter in
            let weight: String
            if case .explicit(let value) = filter.weight { weight = hex(value, 16) } else { weight = filter.weightText }
            return Described(
                filter: filter,
                details: [
                    "sublayer \(sublayers[filter.sublayer] ?? "\(filter.sublayer)")", "weight \(weight)", "when \(filter.conditionText)",
                    "action \(policy.actionText(filter))",
                    "context \(filter.context.raw.name(for: filter.builtInCallout) ?? policy.context(of: filter).map { "\"\($0.name)\"" } ?? "none")",
                ])
        }
    }

    private static func compare<T>(
        _ object: String, _ old: [T], _ new: [T], _ key: (T) -> GUID, _ name: (T) -> String,
        layer: (T) -> String? = { _ in nil }, _ details: (T) -> [String]
    ) -> [Change] {
        let before = Dictionary(old.map { (key($0), $0) }, uniquingKeysWith: { first, _ in first })
        let after = Set(new.map(key))
        let removed = old.filter { !after.contains(key($0)) }.map {
            Change(change: .removed, object: object, name: name($0), layer: layer($0), details: details($0))
        }
        return removed
            + new.compactMap { one in
                guard let other = before[key(one)] else {
                    return Change(change: .added, object: object, name: name(one), layer: layer(one), details: details(one))
                }
                let pairs = zip(details(other), details(one)).filter { $0.0 != $0.1 }
                guard !pairs.isEmpty else { return nil }
                return Change(
                    change: .changed, object: object, name: name(one), layer: layer(one),
                    details: pairs.map { was, now in "\(was) -> \(now.split(separator: " ", maxSplits: 1).last ?? "")" })
            }
    }
}
