import CNDABI
import Foundation
import NDABI
import NDCore
import NDDatapath
import NDPolicy
import Testing

/// Small, fast, seedable.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

@Suite("BPF against the executable specification", .serialized)
struct DifferentialTests {
    static func setting(_ name: String, _ fallback: UInt64) -> UInt64 {
        ProcessInfo.processInfo.environment[name].flatMap(UInt64.init) ?? fallback
    }

    @Test("Random policies, entries and packets get the same verdict, entries and event from both")
    func differential() throws {
        let bench = try TestBench()
        let seed = Self.setting("ND_SEED", UInt64.random(in: 0...UInt64.max))
        let count = Int(Self.setting("ND_CASES", 300_000))
        print("differential: ND_SEED=\(seed) ND_CASES=\(count)")
        var random = SplitMix(state: seed)
        var policy = Self.policy(&random)
        var seen: [Decision.Row: Int] = [:]
        var differences = 0
        for index in 0..<count {
            if index % 100 == 0 {
                policy = Self.policy(&random)
                try bench.commit(policy)
            }
            let now = Instant.now()
            let program = [TestBench.Program.egress, .ingress, .decrypted].randomElement(using: &random) ?? .egress
            let (packet, frame) = try Self.packet(&random, outbound: program == .egress)
            let flow = Self.flow(&random, policy, now)
            let peer = Self.peer(&random, policy, now)
            if let flow { try bench.flows.update(nd_flow_key(packet.key), Self.abi(flow)) }
            if let peer { try bench.peers.update(nd_peer_key(packet.key.peer), peer.abi) }
            let outcome = try bench.run(program, frame.bytes)
            let decision: Decision
            switch program {
            case .egress: decision = DecisionTables.outbound(packet, flow: flow, peer: peer, policy: policy, now: now)
            case .ingress: decision = DecisionTables.inbound(packet, flow: flow, peer: peer, policy: policy, now: now)
            case .decrypted: decision = DecisionTables.decrypted(packet, flow: flow, peer: peer, policy: policy, now: now)
            }
            seen[decision.row, default: 0] += 1
            let wanted: Int32
            switch decision.verdict {
            case .pass: wanted = -1
            case .redirect: wanted = 7
            case .drop: wanted = 2
            }
            let flowAfter = bench.flows.lookup(nd_flow_key(packet.key)).map { FlowEntry(abi: $0) }
            let peerAfter = bench.peers.lookup(nd_peer_key(packet.key.peer)).flatMap { PeerEntry(abi: $0) }
            let events = outcome.events.map(\.type)
            var wrong: [String] = []
            if outcome.verdict != wanted { wrong.append("verdict \(outcome.verdict), not \(wanted)") }
            if flowAfter?.flags != decision.flow?.flags || flowAfter?.direction != decision.flow?.direction
                || (flowAfter?.protectedReceivedAt != nil) != (decision.flow?.protectedReceivedAt != nil)
                || (flowAfter?.securedAt != nil) != (decision.flow?.securedAt != nil)
            {
                wrong.append("flow \(String(describing: flowAfter)), not \(String(describing: decision.flow))")
            }
            if peerAfter?.state != decision.peer?.state || peerAfter?.securedUntil != decision.peer?.securedUntil {
                wrong.append("peer \(String(describing: peerAfter)), not \(String(describing: decision.peer))")
            }
            if events != (decision.event.map { [$0.rawValue] } ?? []) {
                wrong.append("events \(events), not \(String(describing: decision.event))")
            }
            if !wrong.isEmpty {
                differences += 1
                if differences <= 5 {
                    Issue.record(
                        "case \(index) of seed \(seed), \(program), \(decision.row): \(wrong.joined(separator: "; ")); packet \(packet); flow before \(String(describing: flow)); peer before \(String(describing: peer)); rules that match \(policy.rules.filter { $0.matches(packet) })")
                }
            }
            bench.forget(packet.key)
        }
        #expect(differences == 0)
        for row in [
            Decision.Row.notOurs, .noFilter, .permitted, .blocked, .peerSecured, .flowSecure, .maybeSecure, .clearAsks,
            .clear, .held, .knownClearFlow, .clearOnSecured, .grace, .newInboundRefused, .newInboundClear, .decrypted,
        ] {
            #expect((seen[row] ?? 0) > count / 10_000, "row '\(row.rawValue)' was met \(seen[row] ?? 0) times")
        }
    }

    // MARK: what is random

    static func policy(_ random: inout SplitMix) -> CompiledPolicy {
        var rules: [Rule] = []
        let actions: [DatapathLayer: [RuleAction]] = [
            DatapathLayer.all[0]: [.permit, .block, .negotiateDiscover, .negotiateDiscover, .requireOutbound],
            DatapathLayer.all[1]: [.permit, .block, .persistSecurity, .persistSecurity],
            DatapathLayer.all[2]: [.permit, .block],
            DatapathLayer.all[3]: [.permit, .block, .initiateSecure],
        ]
        var id: UInt32 = 1
        for layer in DatapathLayer.all {
            let choices = actions[layer] ?? [.permit]
            for _ in 0..<Int.random(in: 0...8, using: &random) {
                rules.append(rule(id, layer, choices.randomElement(using: &random) ?? .permit, &random))
                id += 1
            }
            // Most policies end in a callout for everything.
            if layer != DatapathLayer.all[2], Int.random(in: 0..<10, using: &random) < 8 {
                let last = layer == DatapathLayer.all[0]
                    ? (Int.random(in: 0..<4, using: &random) == 0 ? RuleAction.requireOutbound : .negotiateDiscover)
                    : layer == DatapathLayer.all[1] ? .persistSecurity : .initiateSecure
                if layer != DatapathLayer.all[3] || Bool.random(using: &random) {
                    rules.append(Rule(id: id, layer: layer, action: last))
                    id += 1
                }
            }
        }
        var policy = CompiledPolicy(rules: rules)
        policy.exemptsIKE = Bool.random(using: &random)
        policy.grace = .seconds(10)
        return policy
    }

    static let remotes = ["10.1.0.2", "10.9.8.7", "192.0.2.55", "fd01::2", "2001:db8::9", "169.254.3.3", "fe80::77"]

    private static func rule(_ id: UInt32, _ layer: DatapathLayer, _ action: RuleAction, _ random: inout SplitMix) -> Rule {
        var rule = Rule(id: id, layer: layer, action: action)
        if Int.random(in: 0..<3, using: &random) == 0 { rule.family = Bool.random(using: &random) ? .v4 : .v6 }
        if Int.random(in: 0..<2, using: &random) == 0 { rule.proto = [6, 17, 1, 58, 47].randomElement(using: &random) }
        if Int.random(in: 0..<4, using: &random) == 0, let text = remotes.randomElement(using: &random),
            let address = IPAddress(text)
        {
            rule.remote = IPPrefix(address, length: Int.random(in: 0...(address.isIPv4 ? 32 : 128), using: &random))
        }
        if Int.random(in: 0..<6, using: &random) == 0, let address = IPAddress(TestBench.local4) {
            rule.local = IPPrefix(address, length: Int.random(in: 0...32, using: &random))
        }
        if Int.random(in: 0..<4, using: &random) == 0 {
            let low = UInt16.random(in: 0...600, using: &random)
            rule.remotePort = low...UInt16.random(in: low...700, using: &random)
        }
        if Int.random(in: 0..<6, using: &random) == 0 {
            let low = UInt16.random(in: 39_000...40_100, using: &random)
            rule.localPort = low...UInt16.random(in: low...41_000, using: &random)
        }
        if rule.proto == 1 || rule.proto == 58, Bool.random(using: &random) {
            let low = UInt8.random(in: 0...200, using: &random)
            rule.icmpType = low...UInt8.random(in: low...255, using: &random)
        }
        return rule
    }

    static func packet(_ random: inout SplitMix, outbound: Bool) throws -> (Packet, Frame) {
        let v4 = Bool.random(using: &random)
        var remote = try ip((v4 ? ["10.1.0.2", "10.9.8.7", "192.0.2.55"] : ["fd01::2", "2001:db8::9"]).randomElement(using: &random) ?? "")
        if Int.random(in: 0..<20, using: &random) == 0 {
            remote = try ip((v4 ? ["169.254.3.3", "224.0.0.1", "10.1.0.255", "255.255.255.255"] : ["fe80::77", "ff02::1"]).randomElement(using: &random) ?? "")
        }
        var local = try ip(v4 ? TestBench.local4 : TestBench.local6)
        var kind = Packet.LocalAddress.unicast
        if Int.random(in: 0..<20, using: &random) == 0 {
            local = try ip(v4 ? "10.200.0.1" : "2001:db8:f::1")
            kind = .foreign
        }
        var frame = outbound ? Frame(local, remote) : Frame(remote, local)
        frame.proto = [6, 6, 6, 17, 17, v4 ? 1 : 58, 47, 50, 51].randomElement(using: &random) ?? 6
        let localPorts: [UInt16] = [500, 4500] + [UInt16](repeating: 40_000, count: 12)
        let localPort = localPorts.randomElement(using: &random) ?? 40_000
        let remotePorts: [UInt16] = [443, 53, 500, 80]
        let remotePort = remotePorts.randomElement(using: &random) ?? 443
        (frame.sourcePort, frame.destinationPort) = outbound ? (localPort, remotePort) : (remotePort, localPort)
        frame.flags = [0x02, 0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x14].randomElement(using: &random) ?? 0x10
        frame.icmpType = (v4 ? [8, 0, 13] : [128, 129, 135]).randomElement(using: &random) ?? 8
        if Int.random(in: 0..<8, using: &random) == 0 { frame.vlan = [100] }
        let ports = [6, 17].contains(frame.proto)
        let icmp = frame.proto == 1 || frame.proto == 58
        let identified = icmp && frame.icmpType != 135
        let key = FlowKey(
            local: Endpoint(local, ports ? localPort : identified ? frame.sourcePort : 0),
            remote: Endpoint(remote, ports ? remotePort : identified ? frame.sourcePort : 0), proto: frame.proto)
        return (
            Packet(
                key: key, localAddress: kind, remoteIsBroadcast: remote == (try ip("10.1.0.255")),
                tcpFlags: frame.proto == 6 ? TCPFlags(rawValue: frame.flags) : [],
                icmpType: icmp ? frame.icmpType : 0, icmpCode: 0), frame
        )
    }

    /// Times keep a second's distance from every limit, because BPF reads its own, coarse clock.
    static func flow(_ random: inout SplitMix, _ policy: CompiledPolicy, _ now: Instant) -> FlowEntry? {
        guard Int.random(in: 0..<5, using: &random) > 1 else { return nil }
        func ago(_ seconds: Double) -> Instant { Instant(nanoseconds: now.nanoseconds &- UInt64(seconds * 1e9)) }
        var flags: FlowEntry.Flags = []
        if Bool.random(using: &random) { flags.insert(.secure) }
        for flag in [FlowEntry.Flags.finOut, .finIn, .trigger, .clearReply] where Int.random(in: 0..<4, using: &random) == 0 {
            flags.insert(flag)
        }
        if Int.random(in: 0..<8, using: &random) == 0 { flags.insert(.reset) }
        if Int.random(in: 0..<8, using: &random) == 0 { flags.insert(.exempt) }
        let idles: [Double] = [0.5, 5, 50, 70, 100]
        let idle = idles.randomElement(using: &random) ?? 0.5
        let secured = flags.contains(.secure) ? ago(([2, 8, 15, 300] as [Double]).randomElement(using: &random) ?? 2) : nil
        return FlowEntry(
            direction: Bool.random(using: &random) ? .outbound : .inbound, firstSeen: ago(idle + 100), lastSeen: ago(idle),
            securedAt: secured, protectedReceivedAt: secured != nil && Bool.random(using: &random) ? secured : nil,
            flags: flags)
    }

    static func peer(_ random: inout SplitMix, _ policy: CompiledPolicy, _ now: Instant) -> PeerEntry? {
        guard Int.random(in: 0..<5, using: &random) > 0 else { return nil }
        func ago(_ seconds: Double) -> Instant { Instant(nanoseconds: now.nanoseconds &- UInt64(seconds * 1e9)) }
        let state = PeerEntry.State.allCases.randomElement(using: &random) ?? .clear
        var peer = PeerEntry(state, changedAt: ago([1, 5, 15].randomElement(using: &random) ?? 1))
        if state == .secured {
            peer.securedAt = ago([50, 200].randomElement(using: &random) ?? 50)
            peer.securedUntil = PeerEntry.stillSecured
        } else if Bool.random(using: &random) {
            peer.securedAt = ago(200)
            peer.securedUntil = ago([5, 50, 70, 500].randomElement(using: &random) ?? 5)
        }
        if state == .clear {
            peer.clearUntil = Bool.random(using: &random) ? ago(2) : now.advanced(by: .seconds(30))
        }
        return peer
    }

    static func abi(_ flow: FlowEntry) -> nd_flow {
        var value = nd_flow()
        value.first_seen = flow.firstSeen.nanoseconds
        value.last_seen = flow.lastSeen.nanoseconds
        value.secured_at = flow.securedAt?.nanoseconds ?? 0
        value.protected_rx_at = flow.protectedReceivedAt?.nanoseconds ?? 0
        value.flags = flow.flags.rawValue
        value.direction = flow.direction.rawValue
        value.context = flow.context
        return value
    }
}
