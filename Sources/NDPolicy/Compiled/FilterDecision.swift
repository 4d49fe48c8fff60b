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

/// What a third party's program, asked about a packet, answers.
public enum ProgramAnswer: Hashable, Sendable {
    case goOn, permit, block
}

/// The rules by which filters that match become one decision; `nd_arbitrate` of bpf/classify.h is the
/// same in C.
///
/// 1. Sublayers are asked from heavy to light. In each, matching filters are asked in their order until
///    one says permit, block or an IPsec callout's action: that is the sublayer's word. Inspection,
///    a program that answers "go on", and an inspection callout that nobody registered leave the
///    word to the next filter; a terminating callout that nobody registered is a block.
/// 2. A block beats a permit, whichever sublayer is the heavier; the heaviest block names the filter.
/// 3. An IPsec callout's action is a permit that carries work: it takes the place of a plain permit
///    of any sublayer, and of several the heaviest sublayer's holds.
/// 4. A hard permit (or callout action) is final but for a veto: a block that a program gives through a
///    hard filter.
/// 5. A hard block, and a veto, end the matter; after a soft block lighter sublayers are still asked, so that
///    what inspects sees the packet, but none changes it.
struct RangeArbitration {
    enum Step { case nextFilter, nextSublayer, end }

    private(set) var decision: FilterDecision?
    private var isHard = false

    mutating func consider(
        _ id: UInt64, _ verdict: RangeFilter.Verdict, isHard hard: Bool, callout: (UInt32) -> ProgramAnswer?
    ) -> Step {
        switch verdict {
        case .permit: return word(FilterDecision(.permit, filter: id), hard)
        case .block: return word(FilterDecision(.block, filter: id), hard)
        case .callout(let action, let context):
            return word(FilterDecision(action, context: context, filter: id), hard)
        case .unregistered(let terminating):
            return terminating ? word(FilterDecision(.block, filter: id), hard) : .nextFilter
        case .program(let number, inspection: true):
            _ = callout(number)
            return .nextFilter
        case .program(let number, inspection: false):
            switch callout(number) {
            case .goOn: return .nextFilter
            case .permit: return word(FilterDecision(.permit, filter: id), hard)
            case .block: return word(FilterDecision(.block, filter: id), hard, isVeto: hard)
            case nil: return word(FilterDecision(.block, filter: id), hard)
            }
        }
    }

    private mutating func word(_ new: FilterDecision, _ hard: Bool, isVeto: Bool = false) -> Step {
        if new.action == .block {
            guard !isHard || isVeto else { return .nextSublayer }
            if decision?.action != .block { decision = new }
            return hard ? .end : .nextSublayer
        }
        guard !isHard, decision?.action != .block else { return .nextSublayer }
        if decision == nil || (decision?.action == .permit && new.action != .permit) { decision = new }
        isHard = hard
        return .nextSublayer
    }
}
