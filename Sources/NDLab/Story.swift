import NDCore

/// The demo: scenario files told as a story, each claim checked on captured packets.
public struct Story {
    private let conditions: RunConditions
    private let logs: String?
    private let say: @Sendable (String) -> Void

    public init(conditions: RunConditions, logs: String? = nil, say: @escaping @Sendable (String) -> Void) {
        self.conditions = conditions
        self.logs = logs
        self.say = say
    }

    /// `firstCaseOnly` leaves variations to the tests.
    public func tell(_ scenarios: [Scenario], firstCaseOnly: Bool) -> [Check] {
        let say = say
        let runner = ScenarioRunner(conditions: conditions, logs: logs) { event in
            switch event {
            case .check(let check): say("  \(check.passed ? "ok  " : "FAIL") \(check.claim): \(check.detail)")
            case .shown(let line): say("  \(line)")
            }
        }
        var checks: [Check] = []
        for scenario in scenarios {
            say("")
            say(scenario.chapter.map { "\($0.number). \($0.heading)" } ?? scenario.title)
            if scenario.cases.isEmpty { say("  not for this engine") }
            checks += runner.run(scenario, firstCaseOnly: firstCaseOnly)
        }
        return checks
    }
}
