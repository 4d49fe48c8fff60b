import CNDABI
import NDCore

extension RangeFilter {
    /// next: the first filter of the next sublayer.
    func abi(next: Int) -> nd_filter {
        var filter = nd_filter()
        filter.id = id
        filter.next = UInt32(clamping: next)
        filter.flags = UInt8(truncatingIfNeeded: isHard ? ND_FILTER_HARD : 0)
        func says(_ kind: nd_filter_kind) { filter.kind = UInt8(truncatingIfNeeded: kind.rawValue) }
        switch verdict {
        case .permit: filter.action = RuleAction.permit.rawValue
        case .block: filter.action = RuleAction.block.rawValue
        case .callout(let action, let context):
            filter.action = action.rawValue
            filter.context = context
        case .program(let number, let inspection, let changes):
            says(inspection ? ND_SAYS_INSPECTION : ND_SAYS_PROGRAM)
            if changes { filter.flags |= UInt8(truncatingIfNeeded: ND_FILTER_CHANGES) }
            filter.context = number
        case .unregistered(let terminating):
            filter.flags |= UInt8(truncatingIfNeeded: ND_FILTER_UNREGISTERED)
            if terminating { filter.action = RuleAction.block.rawValue } else { says(ND_SAYS_NOTHING) }
        }
        return filter
    }

    /// nil for what this module can't have written.
    static func verdict(_ filter: nd_filter) -> Verdict? {
        let isUnregistered = UInt32(filter.flags) & ND_FILTER_UNREGISTERED != 0
        let changes = UInt32(filter.flags) & ND_FILTER_CHANGES != 0
        switch UInt32(filter.kind) {
        case ND_SAYS_PROGRAM.rawValue: return .program(filter.context, inspection: false, changes: changes)
        case ND_SAYS_INSPECTION.rawValue: return .program(filter.context, inspection: true, changes: changes)
        case ND_SAYS_NOTHING.rawValue: return .unregistered(terminating: false)
        case ND_SAYS_ACTION.rawValue:
            guard let action = RuleAction(rawValue: filter.action) else { return nil }
            if isUnregistered { return .unregistered(terminating: true) }
            switch action {
            case .permit: return .permit
            case .block: return .block
            default: return .callout(action, context: filter.context)
            }
        default: return nil
        }
    }
}
