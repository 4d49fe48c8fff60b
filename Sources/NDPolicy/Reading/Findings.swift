import NDCore
import Yams

/// Everything that is wrong with a policy, at once.
public struct PolicyErrors: Error, Hashable, Sendable, CustomStringConvertible {
    public let errors: [NDError]

    public init(_ errors: [NDError]) { self.errors = errors }

    public var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// Where in a text, counted from 1.
package struct TextPlace {
    package var line: Int
    package var column: Int

    /// The whole file.
    package static let none = TextPlace(line: 0, column: 0)
}

/// Collects errors during one reading, so that an operator mends a file in one go.
package final class Findings {
    /// A file that is nothing of the kind must not bury its reader.
    static let most = 50

    let file: String
    /// What the file should be: "policy". Begins the codes of its errors.
    let subject: String
    private var found: [(place: TextPlace, error: NDError)] = []

    package init(file: String, subject: String = "policy") {
        self.file = file
        self.subject = subject
    }

    /// In the order of the text.
    package var errors: [NDError] {
        found.enumerated()
            .sorted { a, b in
                (a.element.place.line, a.element.place.column, a.offset)
                    < (b.element.place.line, b.element.place.column, b.offset)
            }
            .map(\.element.error)
    }

    package func add(_ code: String, at mark: Mark?, _ message: String, fix: String? = nil) {
        add(code, at: mark.map { TextPlace(line: $0.line, column: $0.column) } ?? .none, message, fix: fix)
    }

    package func add(_ code: String, at place: TextPlace, _ message: String, fix: String? = nil) {
        guard found.count < Self.most else { return }
        let context = place.line == 0 ? file : "\(file):\(place.line):\(place.column)"
        let error = NDError("\(subject).\(code)", message, context: context, hint: fix)
        // A text that is read several times, with other variables, is wrong once.
        guard !found.contains(where: { $0.error == error }) else { return }
        found.append((place, error))
    }
}

/// The candidate that a misspelling most likely meant.
package func nearest(to word: String, among candidates: [String]) -> String? {
    let scored = candidates.map { (name: $0, distance: editDistance(word.lowercased(), $0)) }
    guard let best = scored.min(by: { $0.distance < $1.distance }),
        best.distance <= max(2, word.count / 3)
    else { return nil }
    return best.name
}

/// Levenshtein's distance; long words are cut, since the text is outside data.
func editDistance(_ a: String, _ b: String) -> Int {
    let a = Array(a.utf8.prefix(64))
    let b = Array(b.utf8.prefix(64))
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, y) in b.enumerated() {
            let substituted = diagonal + (x == y ? 0 : 1)
            diagonal = row[j + 1]
            row[j + 1] = min(substituted, diagonal + 1, row[j] + 1)
        }
    }
    return row[b.count]
}
