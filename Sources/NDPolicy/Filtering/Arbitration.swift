import NDCore

/// What a callout answers about one packet.
public enum CalloutAnswer: Hashable, Sendable {
    case goOn
    case permit
    /// A block that lighter sublayers may lift.
    case block
    /// A block without FWPS_RIGHT_ACTION_WRITE: final, even against a hard permit.
    case veto
}

/// The filters of one layer, asked about one packet: what came of it and how.
public struct Classification: Hashable, Sendable {
    public struct Decision: Hashable, Sendable {
        public enum Action: Hashable, Sendable { case permit, block }

        public var action: Action
        /// No lighter sublayer may change it.
        public var isHard: Bool
        /// The filter it comes from.
        public var filter: Filter
        /// The IPsec callout that works on a packet that is permitted, and its filter: the heaviest sublayer's.
        public var work: Filter?
        /// A callout blocked what a hard permit let pass: a conflict in the configuration, to be counted.
        public var isVeto: Bool
    }

    public struct Step: Hashable, Sendable {
        public var sublayer: Sublayer
        public var filter: Filter
        public var outcome: Outcome
    }

    public enum Outcome: Hashable, Sendable {
        /// The first condition that didn't hold, and what the packet has there.
        case noMatch(condition: String, found: String)
        /// A heavier filter of the sublayer has decided.
        case notAsked
        /// Matched and left the word to the next one.
        case wentOn(reason: String)
        case decided(Effect)
    }

    /// What a sublayer's word does to what heavier ones said.
    public enum Effect: String, Hashable, Sendable {
        case permits, blocks
        case softBlocks = "blocks unless a lighter sublayer permits"
        case hardPermits = "permits, and no lighter filter blocks"
        case lifts = "permits what a heavier sublayer's callout blocked"
        case vetoes = "blocks by veto what was permitted for good"
        case tooLate = "has no say: a heavier sublayer's word is final"
        case agrees = "says the same as a heavier sublayer"
    }

    public var layer: Layer
    public var steps: [Step]
    /// nil: no filter has a say.
    public var decision: Decision?
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
struct Arbitration {
    private(set) var decision: Classification.Decision?

    enum Word: Hashable { case permit, block }

    mutating func say(
        _ word: Word, hard: Bool, byCallout: Bool, work: Filter?, _ filter: Filter
    ) -> Classification.Effect {
        guard let old = decision else {
            decision = .init(
                action: word == .permit ? .permit : .block, isHard: hard, filter: filter, work: work, isVeto: false)
            if word == .permit { return hard ? .hardPermits : .permits }
            return hard ? .blocks : .softBlocks
        }
        if old.isHard {
            guard old.action == .permit, word == .block, hard, byCallout else { return .tooLate }
            decision = .init(action: .block, isHard: true, filter: filter, work: nil, isVeto: true)
            return .vetoes
        }
        switch (old.action, word) {
        case (.permit, .permit):
            // The first sublayer's filter keeps the name unless work comes, which says more.
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
            decision = .init(action: .block, isHard: hard, filter: filter, work: nil, isVeto: false)
            return hard ? .blocks : .softBlocks
        case (.block, .permit):
            decision = .init(action: .permit, isHard: hard, filter: filter, work: work, isVeto: false)
            return .lifts
        }
    }
}

extension Filter {
    public func matches(_ packet: Packet) -> Bool { matches(packet) { _ in nil } }

    /// `interfaceIndex` resolves the names in conditions.
    public func matches(_ packet: Packet, interfaceIndex: (String) -> UInt32?) -> Bool {
        layer.family == packet.family && failing(packet, interfaceIndex) == nil
    }

    /// The first field whose conditions all fail, and what the packet has there.
    fileprivate func failing(
        _ packet: Packet, _ interfaceIndex: (String) -> UInt32?
    ) -> (condition: String, found: String)? {
        for (field, conditions) in conditionGroups {
            let found: String
            if let tested = field.packetField(layer.kind) {
                let value = packet.value(tested, layer.kind)
                let width = tested.width(layer.family)
                let holds = value.map { value in
                    conditions.contains { condition in
                        condition.values(layer.family, width: width, interfaceIndex: interfaceIndex)
                            .ranges.contains { $0.contains(value) }
                    }
                }
                if holds == true { continue }
                found = value.map { Self.text($0, field, layer.family) } ?? "nothing"
            } else {
                let name = packet.identity(field)
                if let name, conditions.contains(where: { ($0.value == .name(name)) != $0.match.isNegative }) { continue }
                found = name ?? "nothing"
            }
            return (conditions.map(\.text).joined(separator: " or "), found)
        }
        return nil
    }

    private static func text(_ value: UInt128, _ field: Condition.Field, _ family: IPFamily) -> String {
        switch field {
        case .localAddress, .remoteAddress:
            let low = UInt64(truncatingIfNeeded: value)
            let address =
                family == .v4
                ? IPAddress(high: 0, low: 0xffff_0000_0000 | low & 0xffff_ffff)
                : IPAddress(high: UInt64(truncatingIfNeeded: value >> 64), low: low)
            return "\(address)"
        case .flags:
            let set = ConditionFlags.named.filter { $0.packetBit.map { value & UInt128($0) != 0 } ?? false }
            return set.isEmpty ? "none" : set.map(\.name).joined(separator: ", ")
        default:
            return Condition(field, .equal, .number(UInt64(truncatingIfNeeded: value))).valueText
        }
    }
}

extension Packet {
    fileprivate func identity(_ field: Condition.Field) -> String? {
        switch field {
        case .remoteMachine: remoteMachine
        case .remoteUser: remoteUser
        case .localUser: localUser
        default: nil
        }
    }
}

extension ExpandedPolicy {
    /// Asks the filters of a layer. `answer` speaks for third parties' callouts that have a program; nil from it
    /// is as if there were none.
    public func classify(
        _ kind: Layer.Kind, _ packet: Packet, interfaceIndex: (String) -> UInt32? = { _ in nil },
        answer: (Callout, Filter) -> CalloutAnswer? = { _, _ in nil }
    ) -> Classification {
        var result = Classification(layer: Layer(kind, packet.family), steps: [], decision: nil)
        var arbitration = Arbitration()
        var decided: GUID?
        for (sublayer, filter) in filters(at: result.layer) {
            guard let sublayer else { continue }
            let outcome: Classification.Outcome
            if let failing = filter.failing(packet, interfaceIndex) {
                outcome = .noMatch(condition: failing.condition, found: failing.found)
            } else if decided == sublayer.key {
                outcome = .notAsked
            } else {
                outcome = ask(filter, &arbitration, answer)
            }
            if case .decided = outcome { decided = sublayer.key }
            result.steps.append(.init(sublayer: sublayer, filter: filter, outcome: outcome))
        }
        result.decision = arbitration.decision
        return result
    }

    private func ask(
        _ filter: Filter, _ arbitration: inout Arbitration, _ answer: (Callout, Filter) -> CalloutAnswer?
    ) -> Classification.Outcome {
        func said(_ word: Arbitration.Word, _ hard: Bool, byCallout: Bool = false, work: Filter? = nil)
            -> Classification.Outcome
        {
            .decided(arbitration.say(word, hard: hard, byCallout: byCallout, work: work, filter))
        }
        switch filter.action {
        case .permit: return said(.permit, filter.isHard)
        case .block: return said(.block, true)
        case .callout(let use, let key):
            if let builtIn = filter.builtInCallout {
                return builtIn == .silentDrop ? said(.block, true) : said(.permit, filter.isHard, byCallout: true, work: filter)
            }
            let spoken = callout(key: key).flatMap { answer($0, filter) }
            if use == .inspection {
                return .wentOn(reason: spoken == nil ? "no program is registered for its callout" : "it only looks on")
            }
            switch spoken {
            case nil: return said(.block, true)
            case .goOn: return .wentOn(reason: "its callout leaves it to the next filter")
            case .permit: return said(.permit, filter.isHard, byCallout: true)
            case .block: return said(.block, filter.isHard, byCallout: true)
            case .veto: return said(.block, true, byCallout: true)
            }
        }
    }

    /// The filter that decides at a layer.
    public func decidingFilter(_ layer: Layer.Kind, _ packet: Packet) -> Filter? {
        classify(layer, packet).decision?.filter
    }

    /// The context that main mode (IKEEXT) or quick mode (IPSEC) takes for a packet's ends.
    public func providerContext(_ layer: Layer.Kind, _ packet: Packet) -> ProviderContext? {
        decidingFilter(layer, packet).flatMap { context(of: $0) }
    }
}
