import NDCore

/// A claim about what a host's wire carried.
public struct PacketExpectation: Sendable {
    public var capture: String
    public var predicate: PacketPredicate
    public var count: CountRange?
    /// Counts the values of this instead of packets.
    public var distinct: Distinct?
    /// Packets beyond the first of each distinct value.
    public var repeated: CountRange?
    /// The first of them, this near to the reference.
    public var near: (limit: Span, to: Reference)?
    /// Each gap between first packets of distinct values is longer than the last, by this factor.
    public var growingGaps: Double?

    public enum Distinct: String, Sendable, CaseIterable { case initiatorCookie = "initiator-cookie" }

    /// An instant of the run.
    public indirect enum Reference: Sendable {
        /// connect() was called.
        case connect(String)
        /// The first packet of this kind.
        case packet(PacketPredicate)
    }
}

/// Which packets. Every part that is given must hold.
public struct PacketPredicate: Sendable {
    public enum Direction: String, Sendable, CaseIterable { case incoming = "in", outgoing = "out" }
    public enum Kind: String, Sendable, CaseIterable { case clear, esp, ike, icmp, other }
    public enum Proto: String, Sendable, CaseIterable { case tcp, udp, icmp, esp }

    public var kind: Kind?
    public var direction: Direction?
    public var proto: Proto?
    /// Of this connection, in clear.
    public var flow: String?
    public var from: String?
    public var to: String?
    public var syn: Bool?
    public var rst: Bool?
    /// Main mode message 1.
    public var firstIKEMessage: Bool?
    /// ICMP destination unreachable.
    public var unreachable: Bool?
    /// Frames longer than this.
    public var longer: Int?
    /// Later than this after the connection's connect().
    public var after: (span: Span, of: String)?
    /// Earlier than this after the connection's connect().
    public var before: (span: Span, of: String)?

    public init() {}

    /// What the names in a predicate stand for.
    struct Names {
        var flows: [String: FlowKey]
        var begins: [String: UInt64]
        var addresses: [String: IPAddress]
    }

    /// nil when a name stands for nothing.
    func matcher(_ names: Names) -> ((WirePacket) -> Bool)? {
        var tests: [(WirePacket) -> Bool] = []
        if let kind { tests.append { $0.kind.rawValue == kind.rawValue } }
        if let direction { tests.append { $0.outgoing == (direction == .outgoing) } }
        if let proto { tests.append { proto.numbers.contains($0.proto) } }
        if let flow {
            guard let key = names.flows[flow] else { return nil }
            tests.append { $0.belongs(to: key) }
        }
        if let from {
            guard let address = names.addresses[from] else { return nil }
            tests.append { $0.source == address }
        }
        if let to {
            guard let address = names.addresses[to] else { return nil }
            tests.append { $0.destination == address }
        }
        if let syn { tests.append { $0.isSYN == syn } }
        if let rst { tests.append { $0.isRST == rst } }
        if let firstIKEMessage { tests.append { $0.isFirstIKEMessage == firstIKEMessage } }
        if let unreachable { tests.append { $0.isUnreachable == unreachable } }
        if let longer { tests.append { $0.length > longer } }
        if let after {
            guard let begin = names.begins[after.of] else { return nil }
            let instant = begin &+ after.span.nanoseconds
            tests.append { $0.time > instant }
        }
        if let before {
            guard let begin = names.begins[before.of] else { return nil }
            let instant = begin &+ before.span.nanoseconds
            tests.append { $0.time < instant }
        }
        return { packet in tests.allSatisfy { $0(packet) } }
    }
}

extension PacketPredicate.Proto {
    var numbers: [UInt8] {
        switch self {
        case .tcp: [IPProtocol.tcp]
        case .udp: [IPProtocol.udp]
        case .icmp: [IPProtocol.icmp, IPProtocol.icmpv6]
        case .esp: [IPProtocol.esp]
        }
    }
}

extension PacketExpectation {
    /// Holds or not, and what was seen. `references` resolves `near`.
    func verdict(_ matching: [WirePacket], of all: [WirePacket], reference: UInt64?) -> (Bool, String) {
        var holds = true
        var seen: [String] = []
        var firsts: [UInt64] = matching.map(\.time)
        if distinct != nil {
            var byCookie: [UInt64: UInt64] = [:]
            for packet in matching where byCookie[packet.ikeInitiatorCookie] == nil {
                byCookie[packet.ikeInitiatorCookie] = packet.time
            }
            firsts = byCookie.values.sorted()
        }
        if let count {
            holds = holds && count.contains(firsts.count)
            seen.append(distinct == nil ? "\(firsts.count) of \(all.count) packets" : "\(firsts.count) of \(matching.count) messages")
        }
        if let repeated {
            let more = matching.count - firsts.count
            holds = holds && repeated.contains(more)
            seen.append("\(more) repeated")
        }
        if let near {
            if let first = matching.first, let reference {
                let gap = Double(Int64(bitPattern: first.time &- reference)) / 1e6
                holds = holds && abs(gap) <= near.limit.milliseconds
                seen.append("\((gap * 100).rounded() / 100) ms")
            } else {
                holds = false
                seen.append(matching.isEmpty ? "no such packet" : "nothing to compare with")
            }
        }
        if let growingGaps {
            let gaps = zip(firsts.dropFirst(), firsts).map { Double($0 &- $1) / 1e9 }
            holds = holds && zip(gaps.dropFirst(), gaps).allSatisfy { $0 > $1 * growingGaps }
            seen.append("gaps \(gaps.map { "\(($0 * 100).rounded() / 100)" }.joined(separator: ", ")) s")
        }
        return (holds, seen.joined(separator: ", "))
    }
}
