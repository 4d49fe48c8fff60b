import NDCore
import NDPolicy

/// One policy, one clock, and what the tables hold: the least that the decision tables need.
struct World {
    var policy: CompiledPolicy
    var now = Instant(nanoseconds: 1_000_000_000_000)
    var flow: FlowEntry?
    var peer: PeerEntry?

    static let local = Endpoint(address("192.0.2.1"), 40000)
    static let remote = Endpoint(address("192.0.2.2"), 443)

    init(_ scenario: Scenario, _ change: (inout Policy) -> Void = { _ in }) throws {
        policy = try Examples.policy(scenario, change).compiled()
    }

    static func tcp(_ flags: TCPFlags) -> Packet {
        Packet(key: FlowKey(local: local, remote: remote, proto: IPProtocol.tcp), tcpFlags: flags)
    }

    static func udp(_ remote: Endpoint = World.remote, localPort: UInt16 = 40000) -> Packet {
        Packet(key: FlowKey(local: Endpoint(local.address, localPort), remote: remote, proto: IPProtocol.udp))
    }

    static func proto(_ number: UInt8) -> Packet {
        Packet(key: FlowKey(local: Endpoint(local.address, 0), remote: Endpoint(remote.address, 0), proto: number))
    }

    mutating func wait(_ seconds: Double) { now = now.advanced(by: .seconds(seconds)) }

    mutating func out(_ packet: Packet) -> Decision {
        keep(DecisionTables.outbound(packet, flow: flow, peer: peer, policy: policy, now: now))
    }

    mutating func `in`(_ packet: Packet) -> Decision {
        keep(DecisionTables.inbound(packet, flow: flow, peer: peer, policy: policy, now: now))
    }

    mutating func decrypted(_ packet: Packet) -> Decision {
        keep(DecisionTables.decrypted(packet, flow: flow, peer: peer, policy: policy, now: now))
    }

    mutating func secured() {
        peer = PeerEntry(.secured, changedAt: now, securedAt: now, securedUntil: PeerEntry.stillSecured)
    }

    mutating func lost() {
        peer?.state = .lost
        peer?.changedAt = now
        peer?.securedUntil = now
    }

    mutating func failed(clearFor seconds: Double) {
        peer?.state = .clear
        peer?.changedAt = now
        peer?.clearUntil = now.advanced(by: .seconds(seconds))
    }

    private mutating func keep(_ decision: Decision) -> Decision {
        flow = decision.flow
        peer = decision.peer
        return decision
    }
}

extension CompiledPolicy {
    /// A filter that is asked before all others.
    mutating func ask(first layer: DatapathLayer, _ verdict: RangeFilter.Verdict, proto: UInt8? = nil) {
        filters += IPFamily.allCases.map { family in
            RangeFilter(
                id: 99, layer: layer, family: family, sublayer: 0, weight: .max,
                fields: proto.map { [.proto: [UInt128($0)...UInt128($0)]] } ?? [:], verdict: verdict, isHard: verdict == .block)
        }
    }
}
