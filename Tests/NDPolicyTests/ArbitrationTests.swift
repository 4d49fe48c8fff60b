import NDCore
import NDPolicy
import Testing

@Suite("Arbitration as WFP documents it")
struct ArbitrationTests {
    private static let heavy = Sublayer(name: "heavy", weight: 0xff00)
    private static let light = Sublayer(name: "light", weight: 0x10)
    private static let program = Callout(name: "third party", layer: Layer(.outboundTransport, .v4), program: CalloutProgram(object: "/o", entry: "e"))
    private static let nobody = Callout(name: "nobody's", layer: Layer(.outboundTransport, .v4))

    private static func filter(
        _ name: String, _ sublayer: Sublayer, _ action: FilterAction, weight: UInt64 = 5, hard: Bool = false,
        conditions: [Condition] = []
    ) -> Filter {
        Filter(
            id: UInt32(truncatingIfNeeded: name.utf8.reduce(0) { $0 &* 31 &+ UInt64($1) }), name: name,
            layer: Layer(.outboundTransport, .v4), sublayer: sublayer.key, weight: .explicit(weight),
            conditions: conditions, action: action, flags: hard ? .clearActionRight : [])
    }

    private static func ask(_ filters: [Filter], answer: CalloutAnswer? = nil) -> Classification {
        ExpandedPolicy(sublayers: [heavy, light], callouts: [program, nobody], filters: filters)
            .classify(.outboundTransport, World.tcp(.syn), answer: { callout, _ in callout.program == nil ? nil : answer })
    }

    private typealias Result = (action: Classification.Word, name: String)

    private func expect(
        _ filters: [Filter], _ action: Classification.Word?, _ name: String?, answer: CalloutAnswer? = nil,
        _ location: SourceLocation = #_sourceLocation
    ) {
        let decision = Self.ask(filters, answer: answer).decision
        #expect(decision?.action == action && decision?.filter.name == name, sourceLocation: location)
    }

    private static let callsOut = FilterAction.callout(.unknown, program.key)
    private static let ipsec = FilterAction.callout(.outboundTransport, .v4)

    @Test("Inside a sublayer the heaviest match decides and the rest is not asked")
    func firstMatch() {
        let filters = [
            Self.filter("light match", Self.heavy, .block, weight: 1), Self.filter("match", Self.heavy, .permit, weight: 2),
            Self.filter("no match", Self.heavy, .block, weight: 3, conditions: [.proto(IPProtocol.udp)]),
        ]
        expect(filters, .permit, "match")
        let steps = Self.ask(filters).steps
        #expect(steps.map(\.filter.name) == ["no match", "match", "light match"])
        #expect(steps[0].outcome == .noMatch(condition: "IP_PROTOCOL = udp", found: "tcp"))
        #expect(steps[1].outcome == .decided(.permits))
        #expect(steps[2].outcome == .notAsked)
    }

    @Test("Block beats permit, whichever sublayer is the heavier")
    func blockOverPermit() {
        expect([Self.filter("p", Self.heavy, .permit), Self.filter("b", Self.light, .block)], .block, "b")
        expect([Self.filter("b", Self.heavy, .block), Self.filter("p", Self.light, .permit)], .block, "b")
        expect([Self.filter("b", Self.heavy, .block), Self.filter("p", Self.light, .permit, hard: true)], .block, "b")
        expect([], nil, nil)
    }

    @Test("A hard permit stands against a lighter sublayer's block, but not against a heavier one's")
    func hardPermit() {
        expect([Self.filter("p", Self.heavy, .permit, hard: true), Self.filter("b", Self.light, .block)], .permit, "p")
        expect([Self.filter("b", Self.heavy, .block), Self.filter("p", Self.light, .permit, hard: true)], .block, "b")
        // A hard block by a filter is no veto: only callouts have that.
        expect([Self.filter("p", Self.heavy, .permit, hard: true), Self.filter("b", Self.light, .block, hard: true)], .permit, "p")
    }

    @Test("A callout's veto blocks what a hard permit let pass and is marked as a conflict; its plain block doesn't")
    func veto() {
        let filters = [Self.filter("p", Self.heavy, .permit, hard: true), Self.filter("c", Self.light, Self.callsOut)]
        expect(filters, .permit, "p", answer: .block)
        expect(filters, .block, "c", answer: .veto)
        #expect(Self.ask(filters, answer: .veto).decision?.isVeto == true)
        #expect(Self.ask(filters, answer: .veto).steps.last?.outcome == .decided(.vetoes))
        let cleared = [Self.filter("p", Self.heavy, .permit, hard: true), Self.filter("c", Self.light, Self.callsOut, hard: true)]
        expect(cleared, .block, "c", answer: .block)
    }

    @Test("A callout's block is soft: a lighter sublayer may permit; its veto is final")
    func softBlock() {
        let filters = [Self.filter("c", Self.heavy, Self.callsOut), Self.filter("p", Self.light, .permit)]
        expect(filters, .permit, "p", answer: .block)
        #expect(Self.ask(filters, answer: .block).steps.last?.outcome == .decided(.lifts))
        expect(filters, .block, "c", answer: .veto)
        expect([filters[0]], .block, "c", answer: .block)
    }

    @Test("A callout that goes on leaves the word to the next filter, an inspection always does")
    func goOn() {
        let filters = [Self.filter("c", Self.heavy, Self.callsOut, weight: 9), Self.filter("b", Self.heavy, .block)]
        expect(filters, .block, "b", answer: .goOn)
        expect(filters, .permit, "c", answer: .permit)
        let inspection = [
            Self.filter("i", Self.heavy, .callout(.inspection, Self.program.key), weight: 9), Self.filter("p", Self.heavy, .permit),
        ]
        expect(inspection, .permit, "p", answer: .veto)
    }

    @Test("A callout that nobody registered blocks for good where it may decide, and is left out where it looks on")
    func unregistered() {
        for use in [CalloutUse.terminating, .unknown] {
            let filters = [Self.filter("n", Self.heavy, .callout(use, Self.nobody.key)), Self.filter("p", Self.light, .permit)]
            expect(filters, .block, "n", answer: .permit)
        }
        let looks = [Self.filter("n", Self.heavy, .callout(.inspection, Self.nobody.key), weight: 9), Self.filter("p", Self.heavy, .permit)]
        expect(looks, .permit, "p")
        #expect(Self.ask(looks).steps.first?.outcome == .wentOn(reason: "no program is registered for its callout"))
    }

    @Test("An IPsec callout permits and keeps its work under lighter permits; a lighter block undoes it, a heavier hard permit forestalls it")
    func work() {
        let protect = Self.filter("protect", Self.heavy, Self.ipsec)
        let lighter = [protect, Self.filter("p", Self.light, .permit)]
        #expect(Self.ask(lighter).decision?.work?.name == "protect")
        expect([protect, Self.filter("b", Self.light, .block)], .block, "b")
        #expect(Self.ask([protect, Self.filter("b", Self.light, .block)]).decision?.work == nil)
        let below = Self.filter("protect", Self.light, Self.ipsec)
        #expect(Self.ask([Self.filter("p", Self.heavy, .permit), below]).decision?.work?.name == "protect")
        #expect(Self.ask([Self.filter("p", Self.heavy, .permit, hard: true), below]).decision?.work == nil)
    }

    @Test("Every sublayer is asked, even after the last word")
    func allAsked() {
        let filters = [
            Self.filter("b", Self.heavy, .block), Self.filter("i", Self.light, .callout(.inspection, Self.program.key), weight: 9),
            Self.filter("p", Self.light, .permit),
        ]
        #expect(Self.ask(filters, answer: .goOn).steps.map(\.outcome) == [.decided(.blocks), .wentOn(reason: "it only looks on"), .decided(.tooLate)])
    }

    /// The documentation's tables, written as a fold over (action, may be overridden).
    private static func documented(_ words: [(block: Bool, hard: Bool, callout: Bool)]) -> Bool? {
        var current: (block: Bool, overridable: Bool)?
        for word in words {
            if let now = current, !now.overridable {
                if !now.block, word.block, word.hard, word.callout { current = (true, false) }
                continue
            }
            current = (word.block, !word.hard)
        }
        return current?.block
    }

    @Test("Random sublayers, actions and rights come to what the documented tables say")
    func property() {
        var random = Seeded(11)
        var outcomes: [Bool?: Int] = [:]
        for _ in 0..<20_000 {
            let sublayers = (0..<Int.random(in: 0...5, using: &random)).map { Sublayer(name: "s\($0)", weight: .random(in: 0...999, using: &random)) }
            var words: [GUID: (block: Bool, hard: Bool, callout: Bool)] = [:]
            var answers: [String: CalloutAnswer] = [:]
            var filters: [Filter] = []
            for sublayer in sublayers {
                let hard = Bool.random(using: &random)
                switch Int.random(in: 0..<5, using: &random) {
                case 0:
                    filters.append(Self.filter(sublayer.name, sublayer, .permit, hard: hard))
                    words[sublayer.key] = (false, hard, false)
                case 1:
                    filters.append(Self.filter(sublayer.name, sublayer, .block, hard: hard))
                    words[sublayer.key] = (true, true, false)
                case 2:
                    filters.append(Self.filter(sublayer.name, sublayer, .callout(.terminating, Self.nobody.key), hard: hard))
                    words[sublayer.key] = (true, true, false)
                case 3:
                    let answer = [CalloutAnswer.goOn, .permit, .block, .veto].randomElement(using: &random) ?? .goOn
                    filters.append(Self.filter(sublayer.name, sublayer, Self.callsOut, hard: hard))
                    answers[sublayer.name] = answer
                    switch answer {
                    case .goOn: break
                    case .permit: words[sublayer.key] = (false, hard, true)
                    case .block: words[sublayer.key] = (true, hard, true)
                    case .veto: words[sublayer.key] = (true, true, true)
                    }
                default:
                    filters.append(Self.filter(sublayer.name, sublayer, .block, conditions: [.proto(IPProtocol.udp)]))
                }
            }
            let policy = ExpandedPolicy(
                sublayers: sublayers, callouts: [Self.program, Self.nobody], filters: filters.shuffled(using: &random))
            let decision = policy.classify(
                .outboundTransport, World.tcp(.syn),
                answer: { callout, filter in callout.program == nil ? nil : answers[filter.name] }
            ).decision
            let expected = Self.documented(policy.allSublayers.compactMap { words[$0.key] })
            #expect(decision.map { $0.action == .block } == expected)
            outcomes[expected, default: 0] += 1
        }
        #expect(outcomes.count == 3 && outcomes.values.allSatisfy { $0 > 500 })
    }

    @Test("Compiled filters come to the same word, work and filter as the policy itself")
    func compiled() throws {
        var random = Seeded(12)
        let answers: [CalloutAnswer?] = [.goOn, .permit, .block, .veto, nil]
        let programs = answers.indices.map { CalloutProgram(object: "/o", entry: "answer\($0)") }
        let callouts = programs.map { Callout(name: $0.entry, layer: Layer(.outboundTransport, .v4), program: $0) } + [Self.nobody]
        let numbers = CalloutNumbers(programs.map { ($0, []) }, first: 64)
        let sublayers = (0..<5).map { Sublayer(name: "s\($0)", weight: UInt16($0 * 100)) }
        var seen: [String: Int] = [:]
        for _ in 0..<20_000 {
            let filters = (0..<Int.random(in: 1...8, using: &random)).map { index in
                let use = CalloutUse.allCases.randomElement(using: &random) ?? .unknown
                let actions: [FilterAction] = [.permit, .block, Self.ipsec] + callouts.map { .callout(use, $0.key) }
                return Filter(
                    id: UInt32(index + 1), name: "f\(index)", layer: Layer(.outboundTransport, .v4),
                    sublayer: sublayers.randomElement(using: &random)?.key ?? Sublayer.universal.key,
                    weight: .explicit(.random(in: 0...3, using: &random)), action: actions.randomElement(using: &random) ?? .block,
                    flags: Bool.random(using: &random) ? .clearActionRight : [])
            }
            let policy = ExpandedPolicy(sublayers: sublayers, callouts: callouts, filters: filters)
            let said = policy.classify(
                .outboundTransport, World.tcp(.syn),
                answer: { callout, _ in callout.program.flatMap { programs.firstIndex(of: $0) }.flatMap { answers[$0] } }
            ).decision
            let compiled = CompiledPolicy(filters: try policy.rangeFilters(programs: numbers))
                .decide(.outboundTransport, World.tcp(.syn), callout: { answers[Int($0) - 64] })
            #expect(compiled?.filter == said.map { UInt64($0.filter.id) })
            let action: RuleAction? = said.map { $0.action == .block ? .block : $0.work == nil ? .permit : .requireOutbound }
            #expect(compiled?.action == action)
            seen["\(action.map { "\($0)" } ?? "none")\(said?.isVeto == true ? " by veto" : "")", default: 0] += 1
        }
        #expect(seen.count == 5 && seen.values.allSatisfy { $0 > 100 }, "\(seen)")
    }
}
