import NDCore

/// The filters of one layer, asked about one packet: what came of it and how.
public struct Classification: Hashable, Sendable {
    public typealias Decision = Arbitration<Filter>.Decision
    public typealias Word = Arbitration<Filter>.Word
    public typealias Effect = Arbitration<Filter>.Effect

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

    public var layer: Layer
    public var steps: [Step]
    /// nil: no filter has a say.
    public var decision: Decision?
}

extension ExpandedPolicy {
    /// Asks the filters of a layer. `answer` speaks for third parties' callouts that have a program; nil from it
    /// is as if there were none.
    public func classify(
        _ kind: Layer.Kind, _ packet: Packet, interfaceIndex: (String) -> UInt32? = { _ in nil },
        answer: (Callout, Filter) -> CalloutAnswer? = { _, _ in nil }
    ) -> Classification {
        var result = Classification(layer: Layer(kind, packet.family), steps: [], decision: nil)
        var arbitration = Arbitration<Filter>()
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
        _ filter: Filter, _ arbitration: inout Arbitration<Filter>, _ answer: (Callout, Filter) -> CalloutAnswer?
    ) -> Classification.Outcome {
        switch filter.action {
        case .permit: return .decided(arbitration.say(.init(.permit, hard: filter.isHard), filter))
        case .block: return .decided(arbitration.say(.init(.block, hard: true), filter))
        case .callout(let use, let key):
            if let builtIn = filter.builtInCallout {
                if builtIn == .silentDrop { return .decided(arbitration.say(.init(.block, hard: true), filter)) }
                return .decided(
                    arbitration.say(.init(.permit, hard: filter.isHard, byCallout: true), work: filter, filter))
            }
            let spoken = callout(key: key).flatMap { answer($0, filter) }
            if use == .inspection {
                return .wentOn(reason: spoken == nil ? "no program is registered for its callout" : "it only looks on")
            }
            guard let said = Arbitration<Filter>.Said(spoken, filterIsHard: filter.isHard) else {
                return .wentOn(reason: "its callout leaves it to the next filter")
            }
            return .decided(arbitration.say(said, filter))
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
