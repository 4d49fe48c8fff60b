import CNDABI
import NDCore

/// What the filters of a layer come to for one packet.
public struct FilterDecision: Hashable, Sendable {
    public var action: RuleAction
    /// The quick-mode context of a callout action; 0 for permit and block.
    public var context: UInt32
    /// The filter it comes from.
    public var filter: UInt64

    public init(_ action: RuleAction, context: UInt32 = 0, filter: UInt64) {
        self.action = action
        self.context = context
        self.filter = filter
    }
}

/// Filters as tables have them, put to `Arbitration`.
struct RangeArbitration {
    enum Step { case nextFilter, nextSublayer, end }

    private var arbitration = Arbitration<FilterDecision>()
    /// What the words did to each other.
    private(set) var effects: [Arbitration<FilterDecision>.Effect] = []

    var decision: FilterDecision? { arbitration.decision?.filter }

    /// A filter that matches. After a hard block nobody is asked any more: a packet that is dropped for good is
    /// not shown to programs.
    mutating func consider(
        _ id: UInt64, _ verdict: RangeFilter.Verdict, isHard: Bool, callout: (UInt32) -> CalloutAnswer?
    ) -> Step {
        switch verdict {
        case .permit: return say(.init(.permit, hard: isHard), .permit, id)
        case .block: return say(.init(.block, hard: isHard), .block, id)
        case .callout(let action, let context):
            return say(.init(.permit, hard: isHard, byCallout: true), action, context: context, id)
        case .unregistered(let terminating):
            return terminating ? say(.init(.block, hard: isHard), .block, id) : .nextFilter
        case .program(let number, let inspection, _):
            let answer = callout(number)
            guard !inspection, let said = Arbitration<FilterDecision>.Said(answer, filterIsHard: isHard) else {
                return .nextFilter
            }
            return say(said, said.word == .permit ? .permit : .block, id)
        }
    }

    private mutating func say(
        _ said: Arbitration<FilterDecision>.Said, _ action: RuleAction, context: UInt32 = 0, _ id: UInt64
    ) -> Step {
        let decision = FilterDecision(action, context: context, filter: id)
        let isWork = action != .permit && action != .block
        effects.append(arbitration.say(said, work: isWork ? decision : nil, decision))
        return arbitration.isClosed ? .end : .nextSublayer
    }
}
