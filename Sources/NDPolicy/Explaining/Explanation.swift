import NDCore

/// The whole way of a flow's first packet through the filters, for a person to read. Flow and peer tables
/// have their say after it; what they may make of it is in the verdict's words.
public struct Explanation: Hashable, Sendable, Encodable {
    public struct LayerTrace: Hashable, Sendable, Encodable {
        public struct Step: Hashable, Sendable, Encodable {
            public var filter: UInt32
            public var name: String
            public var sublayer: String
            public var sublayerWeight: UInt16
            public var weight: String
            public var matched: Bool
            public var effect: String
            public var action: String
        }

        private enum CodingKeys: String, CodingKey { case layer, steps, decision, filter }

        public var layer: String
        public var steps: [Step]
        /// Some matching filter asks a program that may decide.
        var asksPrograms = false
        /// "permit", "block", or nil: no filter has a say.
        public var decision: String?
        public var filter: UInt32?
    }

    public var packet: String
    public var layers: [LayerTrace]
    public var mainMode: String?
    public var quickMode: String?
    public var verdict: String
    public var reason: String

    /// `direction` and the packet's own flags say which layers it meets.
    public init(
        _ packet: Packet, _ direction: PacketDirection, in policy: ExpandedPolicy,
        interfaceIndex: (String) -> UInt32? = { _ in nil }
    ) {
        self.packet = Self.describe(packet, direction)
        layers = []
        (verdict, reason) = ("", "")
        var packet = packet
        packet.direction = direction
        let present = Set(policy.filters.map(\.layer))
        var asksPrograms = false
        func ask(_ kind: Layer.Kind) -> Classification.Decision? {
            let classification = policy.classify(
                kind, packet, interfaceIndex: interfaceIndex, answer: { callout, _ in callout.program.map { _ in .goOn } })
            let trace = LayerTrace(classification, policy)
            layers.append(trace)
            asksPrograms = asksPrograms || trace.asksPrograms
            return classification.decision
        }
        /// The filter that blocks at a layer that only few policies use.
        func blocker(_ kind: Layer.Kind) -> Filter? {
            guard present.contains(Layer(kind, packet.family)), let decision = ask(kind), decision.action == .block else { return nil }
            return decision.filter
        }
        func decide() -> (String, String) {
            if direction == .inbound, let filter = blocker(.inboundIPPacket) { return ("drop", "filter \(filter.id) blocks it as it comes") }
            var result: (verdict: String, reason: String)
            if let unasked = Self.unasked(packet, policy) {
                result = ("pass", unasked)
            } else {
                mainMode = Self.context(.ikeext, packet, policy)
                quickMode = Self.context(.ipsec, packet, policy)
                result = direction == .outbound ? Self.outbound(ask) : Self.inbound(packet, ask)
                guard result.verdict != "drop" else { return result }
                if packet.key.proto == IPProtocol.tcp {
                    if let filter = blocker(.stream) { result.reason += "; filter \(filter.id) blocks its payload" }
                } else if let filter = blocker(.datagramData) {
                    return ("drop", "filter \(filter.id) blocks its payload")
                }
            }
            if direction == .outbound, let filter = blocker(.outboundIPPacket) { return ("drop", "filter \(filter.id) blocks it as it goes") }
            return result
        }
        (verdict, reason) = decide()
        if asksPrograms { reason += "; what the programs asked answer is not known here and may change it" }
    }

    private static func context(_ kind: Layer.Kind, _ packet: Packet, _ policy: ExpandedPolicy) -> String? {
        guard let filter = policy.decidingFilter(kind, packet), let context = policy.context(of: filter) else { return nil }
        let flags = context.flags.names.isEmpty ? "" : " [\(context.flags.names.joined(separator: " "))]"
        return "\"\(context.name)\" \(context.kind.rawValue)\(flags), by filter \(filter.id)"
    }

    private static func outbound(_ ask: (Layer.Kind) -> Classification.Decision?) -> (String, String) {
        guard let transport = ask(.outboundTransport) else { return ("pass", "no filter has a say") }
        if transport.action == .block { return ("drop", "filter \(transport.filter.id) blocks it\(transport.isVeto ? ", by veto" : "")") }
        guard let work = transport.work else { return ("pass", "filter \(transport.filter.id) exempts it from protection") }
        if let connect = ask(.aleAuthConnect), connect.action == .block {
            return ("drop", "filter \(connect.filter.id) refuses the connection")
        }
        if work.context.raw == .outboundNegotiateDiscover {
            return (
                "pass", "filter \(work.id): in clear and a negotiation begins; into nd0 as soon as the peer is secured, and never back"
            )
        }
        return ("hold", "filter \(work.id): it waits for an SA, then it goes into nd0")
    }

    private static func inbound(_ packet: Packet, _ ask: (Layer.Kind) -> Classification.Decision?) -> (String, String) {
        let transport = ask(.inboundTransport)
        let secured = packet.flags.contains(.isIPsecSecured)
        if let transport, transport.action == .block {
            return ("drop", "filter \(transport.filter.id) blocks it\(transport.isVeto ? ", by veto" : "")")
        }
        let exempt = transport.flatMap { $0.work == nil ? "filter \($0.filter.id) exempts it from protection" : nil }
        // An error belongs to the connection that it quotes, which is not a new one.
        guard !packet.isICMPError || exempt == nil, let accept = ask(.aleAuthRecvAccept) else {
            return ("pass", exempt ?? (secured ? "it came protected" : "no filter asks new inbound connections for protection"))
        }
        if accept.action == .block { return ("drop", "filter \(accept.filter.id) refuses the connection") }
        guard let work = accept.work else { return ("pass", exempt ?? "filter \(accept.filter.id) accepts the connection") }
        return secured
            ? ("pass", "filter \(work.id): the connection came protected")
            : ("drop", "filter \(work.id): a new inbound connection must come protected")
    }

    /// Row 1 of the decision tables.
    private static func unasked(_ packet: Packet, _ policy: ExpandedPolicy) -> String? {
        let proto = packet.key.proto
        if proto == IPProtocol.esp || proto == IPProtocol.ah { return "\(IPProtocol.name(proto)) is protection itself: no filter is asked" }
        if packet.key.remote.address.isMulticast || packet.remoteIsBroadcast || packet.localAddress != .unicast {
            return "it is not unicast at both ends: no filter is asked"
        }
        let isIKE = proto == IPProtocol.udp && [500, 4500].contains(packet.key.local.port)
        if isIKE, policy.familiesWithIKE.contains(packet.family) {
            return "the keying modules' own port, and a main-mode filter exists: no filter is asked"
        }
        return nil
    }

    private static func describe(_ packet: Packet, _ direction: PacketDirection) -> String {
        let key = packet.key
        func end(_ endpoint: Endpoint) -> String { packet.hasPorts ? "\(endpoint)" : "\(endpoint.address)" }
        let ends = direction == .outbound ? "\(end(key.local)) > \(end(key.remote))" : "\(end(key.remote)) > \(end(key.local))"
        let icmp = packet.isICMP ? " type \(packet.icmpType) code \(packet.icmpCode)" : ""
        let secured = packet.flags.contains(.isIPsecSecured) ? "protected" : "clear"
        return "\(IPProtocol.name(key.proto))\(icmp) \(ends), \(direction), \(secured)"
    }

    /// `most`: of the filters that don't match, so many are shown at a layer; nil shows all.
    public func text(most: Int? = 8) -> String {
        var lines = ["packet      \(packet)"]
        for layer in layers {
            lines += ["", layer.layer]
            var hidden = 0
            var shown = 0
            var sublayer: String?
            for step in layer.steps {
                if !step.matched {
                    shown += 1
                    if let most, shown > most {
                        hidden += 1
                        continue
                    }
                }
                if sublayer != step.sublayer {
                    lines.append("  \(step.sublayer) (\(hex(UInt64(step.sublayerWeight), 4)))")
                    sublayer = step.sublayer
                }
                lines.append("    filter \(step.filter) \"\(step.name)\" \(step.weight): \(step.effect)")
                if step.matched { lines.append("      \(step.action)") }
            }
            if layer.steps.isEmpty { lines.append("  no filter") }
            if hidden > 0 { lines.append("    \(hidden) more filters don't match") }
            lines.append("  decision  \(layer.decision ?? "none")\(layer.filter.map { ", by filter \($0)" } ?? "")")
        }
        lines.append("")
        if let mainMode { lines.append("main mode   \(mainMode)") }
        if let quickMode { lines.append("quick mode  \(quickMode)") }
        lines.append("verdict     \(verdict): \(reason)")
        return lines.joined(separator: "\n") + "\n"
    }
}

extension Explanation.LayerTrace {
    fileprivate init(_ classification: Classification, _ policy: ExpandedPolicy) {
        layer = classification.layer.name
        var asksPrograms = false
        decision = classification.decision.map { $0.action == .permit ? "permit" : "block" }
        filter = classification.decision?.filter.id
        steps = classification.steps.map { step in
            let matched: Bool
            let effect: String
            switch step.outcome {
            case .noMatch(let condition, let found): (matched, effect) = (false, "no match: \(condition), the packet has \(found)")
            case .notAsked: (matched, effect) = (true, "matches, but a heavier filter of the sublayer has decided")
            case .wentOn(let reason):
                matched = true
                if case .callout(let use, let key) = step.filter.action, let program = policy.callout(key: key)?.program {
                    let looksOn = use == .inspection
                    asksPrograms = asksPrograms || !looksOn
                    effect = looksOn
                        ? "matches and shows the packet to \(program), which looks on only"
                        : "matches and asks \(program); taken here as if it leaves the word to the next filter"
                } else {
                    effect = "matches and goes on: \(reason)"
                }
            case .decided(let what): (matched, effect) = (true, what.rawValue)
            }
            let raw = step.filter.context.raw.name(for: step.filter.builtInCallout).map { " \($0)" } ?? ""
            return Step(
                filter: step.filter.id, name: step.filter.name, sublayer: step.sublayer.name, sublayerWeight: step.sublayer.weight,
                weight: hex(step.filter.effectiveWeight, 16), matched: matched, effect: effect,
                action: policy.actionText(step.filter) + raw)
        }
        self.asksPrograms = asksPrograms
    }
}
