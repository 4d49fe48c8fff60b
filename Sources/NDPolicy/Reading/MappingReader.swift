import NDCore
import Yams

/// One mapping of the file with the keys it may have. Every reading function reports what is
/// wrong and returns the default, so reading goes on.
package struct MappingReader {
    package let findings: Findings
    package let mark: Mark?
    /// Dotted, for messages: "keying.quick-mode".
    package let path: String
    package let isMapping: Bool
    private let values: [String: Node]
    private let marks: [String: Mark]

    package init(_ node: Node, path: String, keys: [String], _ findings: Findings) {
        self.findings = findings
        self.path = path
        mark = node.mark
        var values: [String: Node] = [:]
        var marks: [String: Mark] = [:]
        isMapping = node.mapping != nil
        if case .mapping(let mapping) = node {
            for (key, value) in mapping {
                guard case .scalar(let scalar) = key else {
                    findings.add("type", at: key.mark, "a key must be a word, not a \(kind(of: key))")
                    continue
                }
                let name = scalar.string
                guard keys.contains(name) else {
                    if MappingReader.secretKeys.contains(name) {
                        findings.add(
                            "inline-secret", at: key.mark, "a secret must not stand in the policy ('\(name)')",
                            fix: "put it into a file with mode 0600 and write `file: /etc/ndbpf/psk`")
                        continue
                    }
                    let near = nearest(to: name, among: keys)
                    findings.add(
                        "unknown-key", at: key.mark,
                        "unknown key '\(clipped(name))'\(path.isEmpty ? "" : " in '\(path)'")",
                        fix: near.map { "did you mean '\($0)'?" } ?? "known here: \(keys.joined(separator: ", "))")
                    continue
                }
                values[name] = value
                marks[name] = key.mark
            }
        } else {
            findings.add(
                "type", at: node.mark,
                "\(path.isEmpty ? "a \(findings.subject)" : "'\(path)'") must be a mapping, found a \(kind(of: node))",
                fix: "known here: \(keys.joined(separator: ", "))")
        }
        self.values = values
        self.marks = marks
    }

    private static let secretKeys: Set<String> = ["secret", "psk", "key", "password", "passphrase", "value"]

    package func full(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    package func has(_ key: String) -> Bool { values[key] != nil }

    package func place(_ key: String) -> Mark? { marks[key] ?? mark }

    package func node(_ key: String) -> Node? { values[key] }

    package func require(_ key: String, fix: String) -> Bool {
        if has(key) { return true }
        // What isn't a mapping was refused as such.
        guard isMapping else { return false }
        findings.add("missing-key", at: mark, "'\(full(key))' is missing", fix: fix)
        return false
    }

    package func mapping(_ key: String, keys: [String]) -> MappingReader? {
        values[key].map { MappingReader($0, path: full(key), keys: keys, findings) }
    }

    /// The items of a list; nil when the key is absent or no list.
    package func list(_ key: String, of what: String, most: Int = 1024) -> [Node]? {
        guard let node = values[key] else { return nil }
        guard case .sequence(let sequence) = node else {
            findings.add(
                "type", at: node.mark, "'\(full(key))' must be a list of \(what), found a \(kind(of: node))",
                fix: "write `\(key): [...]`, or one `- ...` a line")
            return nil
        }
        guard sequence.count <= most else {
            findings.add("range", at: node.mark, "'\(full(key))' has \(sequence.count) items, the limit is \(most)")
            return nil
        }
        return Array(sequence)
    }

    package func text(_ key: String, of what: String) -> String? {
        values[key].flatMap { scalarText($0, full(key), of: what, findings) }
    }

    package func choice<T: RawRepresentable & CaseIterable>(_ key: String, default fallback: T) -> T
    where T.RawValue == String {
        guard let node = values[key],
            let word = scalarText(node, full(key), of: "a word", findings)
        else { return fallback }
        if let value = T(rawValue: word) { return value }
        refuse(word, at: node.mark, key: full(key), allowed: T.allCases.map(\.rawValue), findings)
        return fallback
    }

    package func flag(_ key: String, default fallback: Bool) -> Bool {
        guard let node = values[key],
            let word = scalarText(node, full(key), of: "true or false", findings)
        else { return fallback }
        switch word {
        case "true": return true
        case "false": return false
        default:
            refuse(word, at: node.mark, key: full(key), allowed: ["true", "false"], findings)
            return fallback
        }
    }

    package func integer(_ key: String, in range: ClosedRange<Int>, default fallback: Int) -> Int {
        guard let node = values[key],
            let word = scalarText(node, full(key), of: "a number", findings)
        else { return fallback }
        guard let value = Int(word), range.contains(value) else {
            findings.add(
                Int(word) == nil ? "type" : "range", at: node.mark,
                "'\(full(key))' is '\(clipped(word))'",
                fix: range.count == 1
                    ? "this version knows \(range.lowerBound) only"
                    : "a whole number from \(range.lowerBound) to \(range.upperBound)")
            return fallback
        }
        return value
    }

    package func number(_ key: String, in range: ClosedRange<Double>, default fallback: Double) -> Double {
        guard let node = values[key],
            let word = scalarText(node, full(key), of: "a number", findings)
        else { return fallback }
        guard let value = Double(word), range.contains(value) else {
            findings.add(
                Double(word) == nil ? "type" : "range", at: node.mark, "'\(full(key))' is '\(clipped(word))'",
                fix: "a number from \(range.lowerBound) to \(range.upperBound)")
            return fallback
        }
        return value
    }

    /// Range bounds are given as they would be written: "1m", "24h".
    package func span(_ key: String, from low: String, to high: String, default fallback: Span) -> Span {
        guard let node = values[key],
            let word = scalarText(node, full(key), of: "a duration", findings)
        else { return fallback }
        guard let value = DurationText.parse(word) else {
            findings.add(
                "duration", at: node.mark, "'\(full(key))' is '\(clipped(word))', which is no duration",
                fix: UInt64(word) != nil
                    ? "say the unit: \(word)s, \(word)m or \(word)h" : "a whole number and ms, s, m or h: 30s, 8h")
            return fallback
        }
        guard let low = DurationText.parse(low), let high = DurationText.parse(high), (low...high).contains(value) else {
            findings.add(
                "range", at: node.mark, "'\(full(key))' is \(word)", fix: "from \(low) to \(high)")
            return fallback
        }
        return value
    }
}

/// What a policy calls a duration: one whole number with its unit.
package enum DurationText {
    /// With the largest unit that says it exactly; what is finer than a millisecond is dropped.
    package static func text(_ span: Span) -> String {
        let units: [(name: String, nanoseconds: UInt64)] = [
            ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000),
        ]
        let unit = units.first { span.nanoseconds >= $0.nanoseconds && span.nanoseconds % $0.nanoseconds == 0 }
        return unit.map { "\(span.nanoseconds / $0.nanoseconds)\($0.name)" } ?? "\(span.nanoseconds / 1_000_000)ms"
    }

    package static func parse(_ text: String) -> Span? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty, digits.count <= 12, let count = UInt64(digits) else { return nil }
        let unit: UInt64
        switch text.dropFirst(digits.count) {
        case "ms": unit = 1_000_000
        case "s": unit = 1_000_000_000
        case "m": unit = 60_000_000_000
        case "h": unit = 3_600_000_000_000
        default: return nil
        }
        let (nanoseconds, overflow) = count.multipliedReportingOverflow(by: unit)
        return overflow ? nil : Span(nanoseconds: nanoseconds)
    }
}

/// Outside text in a message stays short and on its line.
package func clipped(_ text: String) -> String {
    let safe = String(text.unicodeScalars.prefix(48).map { $0.value < 0x20 || $0.value == 0x7f ? "?" : Character($0) })
    return safe.count < text.count ? safe + "..." : safe
}

package func kind(of node: Node) -> String {
    switch node {
    case .mapping: "mapping"
    case .sequence: "list"
    case .alias: "alias"
    case .scalar(let scalar): isNull(scalar) ? "blank" : "single value"
    }
}

private func isNull(_ scalar: Node.Scalar) -> Bool {
    scalar.style == .plain && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
}

package func scalarText(_ node: Node, _ path: String, of what: String, _ findings: Findings) -> String? {
    guard case .scalar(let scalar) = node, !isNull(scalar) else {
        findings.add(
            "type", at: node.mark, "'\(path)' must be \(what), found a \(kind(of: node))",
            fix: "give one value")
        return nil
    }
    return scalar.string
}

/// `listed` replaces a list of allowed words that is too long to read.
package func refuse(
    _ word: String, at mark: Mark?, key: String, allowed: [String], listed: String? = nil, _ findings: Findings
) {
    let near = nearest(to: word, among: allowed).map { "did you mean '\($0)'? " } ?? ""
    findings.add(
        "value", at: mark, "'\(key)' can't be '\(clipped(word))'",
        fix: near + "allowed: \(listed ?? allowed.joined(separator: ", "))")
}
