import NDPolicy
import Yams

/// Puts variables' values where a file says `${name}`. Works on the parsed text, so that places in it
/// stay what they are.
struct Substitution {
    let values: [String: String]
    let findings: Findings

    func apply(_ node: Node) -> Node {
        switch node {
        case .scalar(let scalar):
            guard scalar.string.contains("${") else { return node }
            return .scalar(.init(text(scalar.string, at: scalar.mark), scalar.tag, scalar.style, scalar.mark))
        case .sequence(let sequence):
            return .sequence(.init(sequence.map(apply), sequence.tag, sequence.style, sequence.mark))
        case .mapping(let mapping):
            return .mapping(.init(mapping.map { ($0.key, apply($0.value)) }, mapping.tag, mapping.style, mapping.mark))
        case .alias:
            return node
        }
    }

    private func text(_ text: String, at mark: Mark?) -> String {
        var result = ""
        var rest = text[...]
        while let open = rest.range(of: "${") {
            result += rest[..<open.lowerBound]
            guard let end = rest[open.upperBound...].firstIndex(of: "}") else {
                findings.add("variable", at: mark, "'${' without '}'", fix: "write ${name}")
                return result
            }
            let name = String(rest[open.upperBound..<end])
            if let value = values[name] {
                result += value
            } else {
                findings.add(
                    "variable", at: mark, "there is no variable '\(clipped(name))'",
                    fix: nearest(to: name, among: Array(values.keys)).map { "did you mean '${\($0)}'?" }
                        ?? "known here: \(values.keys.sorted().joined(separator: ", "))")
            }
            rest = rest[rest.index(after: end)...]
        }
        return result + rest
    }
}
