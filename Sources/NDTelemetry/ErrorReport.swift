import NDCore

/// The one place that turns errors into text or JSON.
public enum ErrorReport {
    /// "error: FILE:LINE:COLUMN: cause" and, on the next line, the fix.
    public static func text(_ errors: [NDError]) -> String {
        errors.map { error in
            var lines = "error: " + (error.context.map { "\($0): " } ?? "") + error.message + " [\(error.code)]\n"
            if let hint = error.hint { lines += "  fix: \(hint)\n" }
            return TextTable.multiline(lines)
        }.joined()
    }

    public static func json(_ errors: [NDError], pretty: Bool = false) throws -> String {
        try JSONOutput.text(
            "errors",
            errors.map { Item(code: $0.code, message: $0.message, context: $0.context, hint: $0.hint) }, pretty: pretty)
    }

    /// Any error, so that no other place has to decide how a foreign one reads.
    public static func errors(from error: any Error) -> [NDError] {
        if let error = error as? NDError { return [error] }
        return [NDError("internal", "\(error)")]
    }

    private struct Item: Encodable {
        var code: String
        var message: String
        var context: String?
        var hint: String?
    }
}

extension TextTable {
    /// Control characters out, line ends kept.
    static func multiline(_ text: String) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false)
            .map { printable(String($0)) }.joined(separator: "\n")
    }
}
