import Foundation
import NDABI
import NDCore
import NDPolicy

/// xorshift64*: the same numbers from the same seed everywhere.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }

    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_f491_4f6c_dd1d
    }

    mutating func pick<T>(_ items: [T]) -> T { items[Int(next() % UInt64(items.count))] }
    mutating func below(_ n: Int) -> Int { Int(next() % UInt64(n)) }
    mutating func oneIn(_ n: Int) -> Bool { below(n) == 0 }

    static let chosen: UInt64 =
        ProcessInfo.processInfo.environment["ND_SEED"].flatMap { UInt64($0) } ?? UInt64(Date().timeIntervalSince1970)

    static func count(_ name: String, _ standard: Int) -> Int {
        ProcessInfo.processInfo.environment[name].flatMap { Int($0) } ?? standard
    }
}

/// What the random tests draw from: few values, so that they meet.
struct Dice {
    var random: Seeded
    static let contexts: [UInt32] = [0, 0, 0, 7, 70000]
    static let protocols: [UInt8] = [6, 6, 6, 6, 17, 17, 17, 1, 58, 132, 33, 136, 47, 89, 50, 51]
    static let ports: [UInt16] = [500, 4500, 443, 40000, 53, 22]

    mutating func policy() -> CompiledPolicy {
        // Those of the decision tables; the others only let pass or drop.
        let layers = [DatapathLayer.outboundTransport, .inboundTransport, .aleAuthConnect, .aleAuthRecvAccept]
        var rules: [Rule] = []
        for layer in layers {
            for _ in 0..<pick([0, 1, 2, 4, 10]) { rules.append(rule(layer)) }
        }
        // Most policies end as a scenario does.
        if !random.oneIn(4) {
            rules.append(Rules.rule(.outboundTransport, pick([.negotiateDiscover, .negotiateDiscover, .requireOutbound])) {
                $0.context = pick(Self.contexts)
            })
            rules.append(Rules.rule(.inboundTransport, .persistSecurity))
            if random.oneIn(2) { rules.append(Rules.rule(.aleAuthRecvAccept, .initiateSecure)) }
        }
        var policy = CompiledPolicy(filters: rules.rangeFilters)
        policy.exemptsIKE = Set(IPFamily.allCases.filter { _ in random.oneIn(2) })
        policy.ikePort = pick([500, 443])
        policy.grace = .seconds(pick([0, 2, 10]))
        policy.idle = .seconds(pick([5, 60]))
        policy.tcpIdle = .seconds(pick([50, 600]))
        policy.securedIdle = .seconds(pick([35, 600]))
        policy.exemptsICMPErrors = random.oneIn(3)
        policy.askAgain = .seconds(pick([2, 10]))
        return policy
    }

    mutating func rule(_ layer: DatapathLayer) -> Rule {
        let actions: [RuleAction] =
            switch layer {
            case .outboundTransport: [.permit, .block, .negotiateDiscover, .negotiateDiscover, .requireOutbound]
            case .inboundTransport: [.permit, .block, .persistSecurity, .persistSecurity]
            case .aleAuthConnect: [.permit, .block]
            default: [.permit, .block, .initiateSecure, .initiateSecure]
            }
        var rule = Rule(id: UInt32(random.below(1000)), layer: layer, action: pick(actions), context: pick(Self.contexts))
        if random.oneIn(4) { rule.family = pick([.v4, .v6]) }
        if !random.oneIn(3) { rule.proto = pick(Self.protocols) }
        if random.oneIn(4) { rule.local = prefix() }
        if random.oneIn(3) { rule.remote = prefix() }
        if random.oneIn(5) { rule.localPort = range(Self.ports) }
        if random.oneIn(4) { rule.remotePort = range(Self.ports) }
        if random.oneIn(8) { rule.icmpType = range([0, 3, 8, 11, 128, 129, 135]) }
        if random.oneIn(10) { rule.icmpCode = range([0, 1, 3, 4]) }
        return rule
    }

    mutating func pick<T>(_ items: [T]) -> T { random.pick(items) }

    private mutating func range<T: Comparable>(_ values: [T]) -> ClosedRange<T> {
        let (a, b) = (pick(values), random.oneIn(2) ? pick(values) : nil)
        return min(a, b ?? a)...max(a, b ?? a)
    }

    private mutating func prefix() -> IPPrefix? {
        let address = pick([Address.local4, Address.remote4, Address.router4, Address.local6, Address.remote6, Address.router6])
        return IPPrefix(address, length: address.isIPv4 ? pick([0, 7, 24, 30, 31, 32]) : pick([0, 16, 63, 64, 65, 126, 127, 128]))
    }

    mutating func ago(_ now: Instant) -> Instant {
        let seconds = pick([0.1, 1, 3, 8, 30, 40, 100, 1000])
        let span = UInt64(seconds * 1e9)
        return Instant(nanoseconds: now.nanoseconds > span ? now.nanoseconds - span : 1)
    }

    mutating func flow(_ now: Instant) -> FlowEntry {
        let (a, b) = (ago(now), ago(now))
        var flow = FlowEntry(direction: pick([.outbound, .inbound]), firstSeen: min(a, b), lastSeen: max(a, b), context: pick(Self.contexts))
        if random.oneIn(2) {
            flow.flags.insert(.secure)
            flow.securedAt = ago(now)
            if random.oneIn(2) { flow.protectedReceivedAt = ago(now) }
        }
        for flag: FlowEntry.Flags in [.exempt, .finIn, .finOut, .reset, .trigger, .clearReply, .answer, .accepted] where random.oneIn(4) {
            flow.flags.insert(flag)
        }
        // Its peer's entry is the accepting filter's then, which another one may not be.
        if flow.flags.contains(.answer) { flow.flags.remove(.trigger) }
        return flow
    }

    mutating func peer(_ now: Instant) -> PeerEntry {
        var peer = PeerEntry(pick([.unknown, .negotiating, .secured, .secured, .lost, .clear]), changedAt: ago(now))
        if peer.state == .secured || random.oneIn(2) {
            peer.securedAt = ago(now)
            peer.securedUntil = peer.state == .secured || random.oneIn(4) ? PeerEntry.stillSecured : ago(now)
        }
        peer.isAnswering = random.oneIn(4)
        if random.oneIn(2) { peer.clearUntil = random.oneIn(2) ? ago(now) : now.advanced(by: .seconds(100)) }
        return peer
    }

    /// A packet, and what the specification has to know of it.
    mutating func packet(_ hook: Hook) -> (bytes: [UInt8], packet: Packet) {
        let out = hook.isOutbound
        var talk = Talk(pick([.v4, .v6]), pick(Self.protocols), localPort: pick([40000, 40000, 500, 443]), remotePort: pick([443, 443, 22]))
        var kind = Packet.LocalAddress.unicast
        var broadcast = false
        // A bare packet's source must be in the magic networks (see Hook).
        let bare = !hook.isEthernet
        switch random.below(16) {
        case 0 where hook != .ingressL3 || talk.family == .v4:
            // (A bare IPv6 packet's first bytes, read as a frame's, are another host's address.)
            // Where the kernel forwards nothing, whatever address a packet has is this host's or nobody's.
            talk.local = Address.foreign(talk.family)
            if hook == .decrypted { kind = .foreign }
        case 1: talk.remote = Address.router(talk.family)
        case 2 where !bare || out: talk.remote = Address.linkLocal(talk.family)
        case 3 where !bare || out:
            talk.remote = talk.family == .v4 ? Address.parsed(pick(["224.0.0.1", "255.255.255.255", "0.0.0.0"])) : Address.parsed("ff02::1")
        case 4 where talk.family == .v4:
            talk.remote = Address.broadcast
            broadcast = true
        case 5 where !bare && talk.family == .v4:
            talk.local = Address.broadcast
            kind = .broadcast
        default: break
        }
        let icmp = talk.family == .v4 ? IPProtocol.icmp : IPProtocol.icmpv6
        var packet = Packet(key: talk.key, localAddress: kind, remoteIsBroadcast: broadcast)
        var bytes: [UInt8]
        if talk.proto == icmp {
            let code = pick([0, 1, 3, 4] as [UInt8])
            let type: UInt8 = talk.family == .v4 ? pick([0, 8, 8, 3, 3, 5, 11, 9, 13]) : pick([128, 128, 129, 1, 2, 3, 135, 143])
            (packet.icmpType, packet.icmpCode) = (type, code)
            let isError = talk.family == .v4 ? [3, 4, 5, 11, 12].contains(type) : type < 128
            let hasID = talk.family == .v4 ? [0, 8, 13].contains(type) : type == 128 || type == 129
            var body: [UInt8] = UInt16(77).bytes + [0, 1] + Array(repeating: 3, count: 20)
            if isError {
                let quoted = Talk(talk.family, pick([6, 6, 17, 47]), localPort: 40000, remotePort: 443)
                body = [0, 0, 0, 0] + quoted.data(out: !out).prefix(56)
                packet.quoted = FlowKey(
                    local: Endpoint(quoted.local, quoted.proto == 47 ? 0 : 40000),
                    remote: Endpoint(quoted.remote, quoted.proto == 47 ? 0 : 443), proto: quoted.proto)
            }
            packet.key.local.port = hasID ? 77 : 0
            packet.key.remote.port = hasID ? 77 : UInt16(type)
            bytes = talk.icmp(type, code, body, out: out)
        } else if talk.proto == IPProtocol.tcp {
            packet.tcpFlags = pick([.syn, [.syn, .ack], .ack, .ack, .ack, [.fin, .ack], .rst, [.rst, .ack]])
            bytes = talk.tcp(packet.tcpFlags, out: out, payload: [1, 2, 3])
        } else {
            if !packet.hasPorts { (packet.key.local.port, packet.key.remote.port) = (0, 0) }
            bytes = talk.data(out: out)
        }
        return (bytes, packet)
    }
}

extension Address {
    static func parsed(_ text: String) -> IPAddress { IPAddress(text) ?? .zero }
}
