import NDCore
import Yams

/// From text to YAML nodes within bounds.
package enum YAMLText {
    /// Room for ten thousand filters written out.
    package static let mostBytes = 8 << 20
    static let mostNodes = 400_000
    static let mostDepth = 16

    /// nil when an error was reported.
    package static func root(of text: String, _ findings: Findings) -> Node? {
        guard text.utf8.count <= mostBytes else {
            findings.add(
                "too-large", at: nil, "the \(findings.subject) has \(text.utf8.count) bytes, the limit is \(mostBytes)",
                fix: "a \(findings.subject) is a few kilobytes as a rule; is this the right file?")
            return nil
        }
        if let place = firstNestingBeyond(mostDepth * 4, in: text) {
            findings.add(
                "too-deep", at: place, "nested too deeply", fix: "the deepest \(findings.subject) has \(mostDepth) levels")
            return nil
        }
        if let (place, character) = firstAnchorOrAlias(in: text) {
            findings.add(
                "anchor", at: place, "YAML anchors and aliases are not supported (found '\(character)')",
                fix: "write the value out where it is needed")
            return nil
        }
        do {
            guard let node = try Parser(yaml: text, encoding: .utf8).singleRoot() else {
                findings.add(
                    "empty", at: nil, "the \(findings.subject) is empty",
                    fix: findings.subject == "policy" ? "start with `version: 1` and `scenario: negotiation-discovery`" : nil)
                return nil
            }
            return isBounded(node, findings) ? node : nil
        } catch {
            report(error, findings)
            return nil
        }
    }

    /// libyaml's composer recurses per level; flow brackets and compact block sequences are the
    /// cheap ways to many levels.
    private static func firstNestingBeyond(_ most: Int, in text: String) -> TextPlace? {
        var open = 0
        var line = 1
        var column = 0
        var leading = true
        var dashes = 0
        for byte in text.utf8 {
            column += 1
            switch byte {
            case UInt8(ascii: "\n"), UInt8(ascii: "\r"):
                line += 1
                (column, leading, dashes) = (0, true, 0)
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                open += 1
                leading = false
            case UInt8(ascii: "]"), UInt8(ascii: "}"):
                open = max(0, open - 1)
                leading = false
            case UInt8(ascii: "-"), UInt8(ascii: "?"), UInt8(ascii: ":"):
                if leading { dashes += 1 }
            case UInt8(ascii: " "), UInt8(ascii: "\t"):
                // 16 levels of 4 columns: deeper indentation can't be a policy's.
                if leading && column > 256 { return TextPlace(line: line, column: column) }
            default:
                leading = false
            }
            if open > most || dashes > most { return TextPlace(line: line, column: column) }
        }
        return nil
    }

    /// An alias costs nothing to write and everything to walk ("billion laughs"). Refused before
    /// parsing, since the parser itself hashes the keys that aliases can blow up.
    private static func firstAnchorOrAlias(in text: String) -> (TextPlace, Character)? {
        let mayPrecede: [UInt8] = Array(" \t[{,:-?".utf8)
        for (index, line) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            .enumerated()
        {
            var previous = UInt8(ascii: " ")
            var quotes = 0
            let hasEscapes = line.contains(UInt8(ascii: "\\"))
            for (column, byte) in line.enumerated() {
                // Only a '#' that can't be inside quotes ends the search.
                if byte == UInt8(ascii: "#"), previous == UInt8(ascii: " "), quotes % 2 == 0, !hasEscapes { break }
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") { quotes += 1 }
                if byte == UInt8(ascii: "*") || byte == UInt8(ascii: "&"), mayPrecede.contains(previous) {
                    return (TextPlace(line: index + 1, column: column + 1), Character(Unicode.Scalar(byte)))
                }
                previous = byte
            }
        }
        return nil
    }

    private static func isBounded(_ root: Node, _ findings: Findings) -> Bool {
        var stack = [(node: root, depth: 1)]
        var count = 0
        while let (node, depth) = stack.popLast() {
            count += 1
            if count > mostNodes || depth > mostDepth {
                findings.add(
                    "too-large", at: node.mark, "more than \(mostNodes) values or \(mostDepth) levels",
                    fix: findings.subject == "policy" ? "split the policy or use wider prefixes" : "split it")
                return false
            }
            switch node {
            case .mapping(let mapping):
                for (key, value) in mapping { stack += [(key, depth + 1), (value, depth + 1)] }
            case .sequence(let sequence):
                stack += sequence.map { ($0, depth + 1) }
            case .scalar, .alias:
                break
            }
        }
        return true
    }

    private static func report(_ error: any Error, _ findings: Findings) {
        guard let error = error as? YamlError else {
            findings.add("syntax", at: nil, "not YAML")
            return
        }
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            findings.add(
                "syntax", at: mark, "not YAML: \(problem)",
                fix: "check indentation, quotes and brackets here and on the line above")
        case .reader(let problem, let offset, _, _):
            findings.add("syntax", at: nil, "not YAML text: \(problem)\(offset.map { " at byte \($0)" } ?? "")")
        case .duplicatedKeysInMapping(let duplicates, let context):
            findings.add(
                "duplicate-key", at: context.mark,
                "given twice: \(duplicates.map { "'\($0)'" }.joined(separator: ", "))", fix: "keep one of them")
        default:
            findings.add("syntax", at: nil, "not YAML")
        }
    }
}
