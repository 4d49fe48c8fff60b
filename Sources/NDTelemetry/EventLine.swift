import NDCore

/// One line of `ndbpf monitor`.
public struct EventLine: Hashable, Sendable {
    /// Seconds since 1970.
    public var time: Double
    /// A label of enum nd_event_type or of the peer machine: "negotiate", "drop", "secured".
    public var type: String
    public var flow: FlowKey?
    public var peer: PeerKey?
    public var reason: String?
    public var inbound: Bool?
    public var length: Int?
    public var note: String?

    public init(
        time: Double, type: String, flow: FlowKey? = nil, peer: PeerKey? = nil, reason: String? = nil,
        inbound: Bool? = nil, length: Int? = nil, note: String? = nil
    ) {
        self.time = time
        self.type = type
        self.flow = flow
        self.peer = peer
        self.reason = reason
        self.inbound = inbound
        self.length = length
        self.note = note
    }

    /// "04:05:06.123456 drop         in  tcp 192.0.2.1:443 < 192.0.2.2:5000 clear_inbound 60 bytes"
    public var text: String {
        let type = self.type + String(repeating: " ", count: max(0, 12 - self.type.count))
        let direction = inbound.map { $0 ? "in " : "out" } ?? "   "
        var parts = [clock, type, direction]
        if let flow {
            let arrow = inbound == true ? "<" : ">"
            parts.append("\(IPProtocol.name(flow.proto)) \(flow.local) \(arrow) \(flow.remote)")
        } else if let peer {
            parts.append(peer.description)
        }
        if let reason { parts.append(reason) }
        if let length { parts.append("\(length) bytes") }
        if let note { parts.append(note) }
        return TextTable.printable(parts.joined(separator: " "))
    }

    public func json() throws -> String {
        try JSONOutput.text(
            "event",
            Form(
                time: time, type: type, direction: inbound.map { $0 ? "in" : "out" },
                local: (flow?.local.address ?? peer?.local)?.description,
                remote: (flow?.remote.address ?? peer?.remote)?.description,
                localPort: flow?.local.port, remotePort: flow?.remote.port,
                proto: flow.map { IPProtocol.name($0.proto) }, reason: reason, length: length, note: note))
    }

    private var clock: String {
        // UTC; a day has 86,400 s in Unix time.
        let microseconds = Int64(max(0, min(time, 1e11)) * 1e6)
        let seconds = microseconds / 1_000_000 % 86_400
        func two(_ n: Int64) -> String { n < 10 ? "0\(n)" : "\(n)" }
        let fraction = String(microseconds % 1_000_000)
        return two(seconds / 3600) + ":" + two(seconds / 60 % 60) + ":" + two(seconds % 60) + "."
            + String(repeating: "0", count: 6 - fraction.count) + fraction
    }

    private struct Form: Encodable {
        var time: Double
        var type: String
        var direction: String?
        var local: String?
        var remote: String?
        var localPort: UInt16?
        var remotePort: UInt16?
        var proto: String?
        var reason: String?
        var length: Int?
        var note: String?
    }
}
