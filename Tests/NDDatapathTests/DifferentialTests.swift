import CNDABI
import Foundation
import NDABI
import NDCore
import Testing

@testable import NDDatapath
@testable import NDPolicy

@Suite("BPF against the decision tables")
struct DifferentialTests {
    static let workers = 4
    /// Packets in a row that one policy and one set of tables sees.
    static let perWorld = 200

    @Test("Verdict, flow, peer and event are those of the specification", arguments: 0..<workers)
    func agrees(_ worker: Int) throws {
        let seed = Seeded.chosen &+ UInt64(worker)
        let worlds = Seeded.count("ND_CASES", 320_000) / Self.workers / Self.perWorld + 1
        print("differential: ND_SEED=\(Seeded.chosen) worker \(worker), \(worlds * Self.perWorld) cases")
        var dice = Dice(random: Seeded(seed))
        let bench = try Bench()
        var differences = 0
        var rows: [Decision.Row: Int] = [:]
        for world in 0..<worlds {
            try bench.forget()
            try bench.commit(dice.policy(), generation: UInt32(world))
            for step in 0..<Self.perWorld {
                let (difference, row) = try compare(bench, &dice)
                rows[row, default: 0] += 1
                guard let difference else { continue }
                differences += 1
                if differences <= 5 {
                    Issue.record("seed \(Seeded.chosen) worker \(worker) world \(world) step \(step): \(difference)")
                }
            }
            if differences > 50 { break }
        }
        #expect(differences == 0)
        // Every row of the tables was reached.
        #expect(differences > 0 || worlds < 200 || rows.count == Decision.Row.allCases.count, "\(rows)")
    }

    private func compare(_ bench: Bench, _ dice: inout Dice) throws -> (String?, Decision.Row) {
        let hook = dice.pick(Hook.allCases)
        var (bytes, packet) = dice.packet(hook)
        if hook == .decrypted { packet.quoted = nil }
        if let quoted = packet.quoted, dice.random.oneIn(2) {
            let now = Bench.now()
            try bench.putFlow(quoted, dice.flow(now))
        }
        if let quoted = packet.quoted, bench.flow(quoted) == nil { packet.quoted = nil }
        // The specification knows nothing of datagrams to groups.
        for key in bench.heard.entries().map(\.key) { bench.heard.delete(key) }
        // Errors have no flow of their own beside the one that they quote.
        if packet.quoted != nil { bench.removeFlow(packet.key) }
        let key = packet.flowKey
        if dice.random.oneIn(3) {
            let now = Bench.now()
            if dice.random.oneIn(4) { bench.removeFlow(key) } else { try bench.putFlow(key, dice.flow(now)) }
            if packet.quoted != nil, bench.flow(key) == nil { packet.quoted = nil }
        }
        if dice.random.oneIn(3) {
            for context in Set(Dice.contexts) where dice.random.oneIn(2) {
                let peerKey = nd_peer_key(PeerKey(local: key.local.address, remote: key.remote.address, context: context))
                if dice.random.oneIn(4) { bench.peers.delete(peerKey) } else { try bench.peers.update(peerKey, dice.peer(Bench.now()).abi) }
            }
            try bench.raiseEpoch()
        }
        // A tick between two readings of the clock: nobody knows which of them BPF saw.
        for _ in 0..<20 {
            let flowKey = packet.flowKey
            try bench.forgetStored(flowKey)
            let before = Bench.now()
            let flow = bench.flow(flowKey)
            let cached = flow != nil
            let context = contextOf(packet, hook, flow, bench.policy, before)
            let peerKey = nd_peer_key(PeerKey(local: flowKey.local.address, remote: flowKey.remote.address, context: context))
            let peer = bench.peers.lookup(peerKey).flatMap { PeerEntry(abi: $0) }
            let outcome = try bench.run(hook, bytes)
            let after = Bench.now()
            let flowAfter = bench.flow(flowKey)
            let peerAfter = bench.peers.lookup(peerKey).flatMap { PeerEntry(abi: $0) }
            let stamps = [flowAfter?.lastSeen, flowAfter?.firstSeen, flowAfter?.securedAt, peerAfter?.changedAt].compactMap { $0 }
            let candidates = before == after ? [before] : [after, before] + stamps.filter { $0 > before && $0 < after }
            let decisions = candidates.map { decide(packet, hook, flow, peer, bench.policy, $0) }
            for decision in decisions
            where matches(decision, outcome, flowAfter, peerAfter) { return (nil, decision.row) }
            let expected = decisions[0]
            return (
                """
                \(hook) \(packet)
                  flow \(cached ? "\(String(describing: flow))" : "none") context \(context) peer \(String(describing: peer)) now \(before)
                  specification: \(expected.verdict) \(expected.row) \(String(describing: expected.event)) flow \(String(describing: expected.flow)) peer \(String(describing: expected.peer))
                  bpf: \(outcome.verdict) \(String(describing: outcome.passed)) \(String(describing: outcome.dropped)) \(outcome.events.map(\.kind.rawValue)) flow \(String(describing: flowAfter)) peer \(String(describing: peerAfter))
                """, expected.row
            )
        }
        return (nil, .notOurs)
    }

    private func decide(
        _ packet: Packet, _ hook: Hook, _ flow: FlowEntry?, _ peer: PeerEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> Decision {
        if hook.isOutbound { return DecisionTables.outbound(packet, flow: flow, peer: peer, policy: policy, now: now) }
        if hook == .decrypted { return DecisionTables.decrypted(packet, flow: flow, peer: peer, policy: policy, now: now) }
        return DecisionTables.inbound(packet, flow: flow, peer: peer, policy: policy, now: now)
    }

    /// The specification is given the one peer entry that matters; this says which.
    private func contextOf(
        _ packet: Packet, _ hook: Hook, _ flow: FlowEntry?, _ policy: CompiledPolicy, _ now: Instant
    ) -> UInt32 {
        if hook.isOutbound {
            let rule = policy.decide(.outboundTransport, packet)
            if let rule, rule.action != .permit { return rule.context }
            return flow?.context ?? 0
        }
        // A clear SYN ends nothing of a secured flow.
        if hook != .decrypted, let flow, flow.isSecure, !flow.isOver(packet.following(), policy, now) { return flow.context }
        if let flow = flow?.alive(for: packet.following(), policy, now), hook == .decrypted || !flow.flags.contains(.answer) {
            return flow.context
        }
        let rule = policy.decide(.aleAuthRecvAccept, packet.following())
        return hook != .decrypted && rule?.action != .permit ? 0 : rule?.context ?? 0
    }

    private func matches(_ decision: Decision, _ outcome: Bench.Outcome, _ flow: FlowEntry?, _ peer: PeerEntry?) -> Bool {
        switch decision.verdict {
        case .redirect: guard outcome.verdict == .redirect, outcome.passed == .outProtected else { return false }
        case .wait(let reason): guard outcome.verdict == .redirect, outcome.dropped == reason, outcome.passed == nil else { return false }
        case .drop(let reason): guard outcome.verdict == .drop, outcome.dropped == reason else { return false }
        case .pass(let kind): guard outcome.verdict == .pass, outcome.passed == kind else { return false }
        }
        return decision.flow == flow && decision.peer == peer
            && outcome.events.map { DecisionEvent(rawValue: $0.kind.rawValue) } == (decision.event.map { [$0] } ?? [])
    }
}

extension Bench {
    /// No entry, no cached verdict; policy and addresses stay.
    func forget() throws {
        for key in flows.entries().map(\.key) { flows.delete(key) }
        for key in secured.entries().map(\.key) { secured.delete(key) }
        for key in peers.entries().map(\.key) { peers.delete(key) }
    }

    /// An entry without a cached verdict.
    func putFlow(_ key: FlowKey, _ entry: FlowEntry) throws {
        var flow = nd_flow()
        flow.first_seen = entry.firstSeen.nanoseconds
        flow.last_seen = entry.lastSeen.nanoseconds
        flow.secured_at = entry.securedAt?.nanoseconds ?? 0
        flow.protected_rx_at = entry.protectedReceivedAt?.nanoseconds ?? 0
        flow.flags = entry.flags.rawValue
        flow.context = entry.context
        flow.direction = entry.direction.rawValue
        try put(key, flow)
    }

    /// A latched flow gives its packet to the daemon at most every 67 ms; here each time.
    func forgetStored(_ key: FlowKey) throws {
        guard var flow = secured.lookup(nd_flow_key(key)), flow.stored != 0 else { return }
        flow.stored = 0
        try secured.update(nd_flow_key(key), flow)
    }
}
