/// Every failure that reaches an operator: a stable code, what happened, where, and what to do.
public struct NDError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Stable, dotted, lower case: "policy.unknown-key", "load.permission".
    public var code: String
    /// The cause, one sentence without a full stop.
    public var message: String
    /// Where: a file:line:column, an interface, a peer.
    public var context: String?
    /// The next step.
    public var hint: String?

    public init(_ code: String, _ message: String, context: String? = nil, hint: String? = nil) {
        self.code = code
        self.message = message
        self.context = context
        self.hint = hint
    }

    public var description: String {
        (context.map { "\($0): " } ?? "") + message + (hint.map { "\n  fix: \($0)" } ?? "")
    }
}
