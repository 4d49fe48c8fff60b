/// What a callout answers about one packet (enum nd_callout_answer of bpf/nd_callout.h).
public enum CalloutAnswer: Hashable, Sendable {
    case goOn
    case permit
    /// A block that lighter sublayers may lift.
    case block
    /// A block without FWPS_RIGHT_ACTION_WRITE: final, even against a hard permit.
    case veto
}

/// WFP's "Filter Arbitration":
///
/// 1. Sublayers are asked from heavy to light. In each, matching filters are asked from heavy to light until
///    one says permit or block: that is the sublayer's word. All sublayers are asked, whatever was said.
/// 2. A word is soft or hard. A filter's permit is soft, a filter's block hard, a callout's answers are soft;
///    FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT makes any of them hard.
/// 3. A soft word gives way to the next sublayer's, a hard one to nothing; but a veto, a hard block by a
///    callout, blocks what a hard permit let pass. So block beats permit unless the permit is hard, and only a
///    callout's soft block can be lifted.
/// 4. A callout that nobody registered blocks, as a block filter would, where the filter says that it decides
///    or may decide; an inspection by it is left out.
/// 5. ndbpf's IPsec callouts permit and say what is to be done with the packet. A lighter soft permit leaves
///    that work standing; of several the heaviest sublayer's holds.
/// 6. A decision has the name of the filter that first said it: of permits the heaviest, unless a lighter one
///    brings work, which says more; of blocks the heaviest.
///
/// `nd_arbitrate` of bpf/match.h is the same in C. `Source` is what stands for a filter there.
public struct Arbitration<Source: Hashable & Sendable>: Hashable, Sendable {
    public enum Word: Hashable, Sendable { case permit, block }

    public struct Decision: Hashable, Sendable {
        public var action: Word
        /// No lighter sublayer may change it.
        public var isHard: Bool
        /// The filter it comes from.
        public var filter: Source
        /// The IPsec callout that works on a packet that is permitted, and its filter: the heaviest sublayer's.
        public var work: Source?
        /// A callout blocked what a hard permit let pass: a conflict in the configuration, to be counted.
        public var isVeto: Bool
    }

    /// What a sublayer's word does to what heavier ones said.
    public enum Effect: String, Hashable, Sendable, CaseIterable {
        case permits, blocks
        case softBlocks = "blocks unless a lighter sublayer permits"
        case hardPermits = "permits, and no lighter filter blocks"
        case lifts = "permits what a heavier sublayer's callout blocked"
        case vetoes = "blocks by veto what was permitted for good"
        case tooLate = "has no say: a heavier sublayer's word is final"
        case agrees = "says the same as a heavier sublayer"
    }

    public private(set) var decision: Decision?

    init() {}

    /// Nothing can change it any more, not even a veto.
    var isClosed: Bool { decision.map { $0.isHard && $0.action == .block } ?? false }

    mutating func say(_ said: Said, work: Source? = nil, _ filter: Source) -> Effect {
        let (word, hard) = (said.word, said.hard)
        guard let old = decision else {
            decision = Decision(action: word, isHard: hard, filter: filter, work: work, isVeto: false)
            if word == .permit { return hard ? .hardPermits : .permits }
            return hard ? .blocks : .softBlocks
        }
        if old.isHard {
            guard old.action == .permit, word == .block, hard, said.byCallout else { return .tooLate }
            decision = Decision(action: .block, isHard: true, filter: filter, work: nil, isVeto: true)
            return .vetoes
        }
        switch (old.action, word) {
        case (.permit, .permit):
            decision?.isHard = hard
            if old.work == nil, let work {
                decision?.filter = filter
                decision?.work = work
            }
            return hard ? .hardPermits : .agrees
        case (.block, .block):
            decision?.isHard = hard
            return .agrees
        case (.permit, .block):
            decision = Decision(action: .block, isHard: hard, filter: filter, work: nil, isVeto: false)
            return hard ? .blocks : .softBlocks
        case (.block, .permit):
            decision = Decision(action: .permit, isHard: hard, filter: filter, work: work, isVeto: false)
            return .lifts
        }
    }

    /// A filter's word.
    struct Said {
        var word: Word
        var hard: Bool
        var byCallout = false

        init(_ word: Word, hard: Bool, byCallout: Bool = false) {
            (self.word, self.hard, self.byCallout) = (word, hard, byCallout)
        }

        /// What a callout that may decide says; `answer` is nil where nobody registered it. Nothing where it
        /// goes on.
        init?(_ answer: CalloutAnswer?, filterIsHard hard: Bool) {
            switch answer {
            case nil: self.init(.block, hard: true)
            case .goOn: return nil
            case .permit: self.init(.permit, hard: hard, byCallout: true)
            case .block: self.init(.block, hard: hard, byCallout: true)
            case .veto: self.init(.block, hard: true, byCallout: true)
            }
        }
    }
}
