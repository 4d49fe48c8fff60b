import CNDABI
import NDCore

/// What WFP asks of callouts that live with IPsec ("Developing IPsec-Compatible Callout Drivers"): a program
/// stands where it can't take ESP for the packet, and where it can't break a negotiation.
struct CalloutRules {
    private let callouts: [Callout]
    private let traits: [CalloutProgram: ProgramTraits]
    private let unreadable: [CalloutProgram: NDError]
    private let byKey: [GUID: Callout]
    /// The objects that ALE asks, in a family each.
    private let accepting: Set<Accepting>
    private let weights: [GUID: Sublayer]

    private struct Accepting: Hashable {
        var object: String
        var family: IPFamily
    }

    init(_ policy: ExpandedPolicy, _ reading: ProgramReading) {
        callouts = policy.callouts
        var traits: [CalloutProgram: ProgramTraits] = [:]
        var unreadable: [CalloutProgram: NDError] = [:]
        for program in policy.programs {
            do { traits[program] = try reading(program) } catch { unreadable[program] = error }
        }
        self.traits = traits
        self.unreadable = unreadable
        byKey = Dictionary(callouts.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
        accepting = Set(
            callouts.filter { $0.layer.kind == .aleAuthRecvAccept }
                .compactMap { callout in callout.program.map { Accepting(object: $0.object, family: callout.layer.family) } })
        weights = Dictionary(policy.allSublayers.map { ($0.key, $0) }, uniquingKeysWith: { first, _ in first })
    }

    func problems() -> [Problem] {
        var numbered: Set<CalloutProgram> = []
        var found: [Problem] = []
        for (at, callout) in callouts.enumerated() {
            guard let program = callout.program else { continue }
            func add(_ code: String, _ part: String, _ message: String, _ hint: String?) {
                found.append(Problem(.callout, at, part, code, message, hint: hint))
            }
            if numbered.insert(program).inserted {
                if numbered.count > ExpandedPolicy.mostPrograms {
                    add(
                        "too-many", "program", "its program is number \(numbered.count), the limit is \(ExpandedPolicy.mostPrograms)",
                        "let callouts share programs: one may stand at several layers")
                }
                if let error = unreadable[program] { add("program", "program", error.message, error.hint) }
            }
            if let (message, hint) = placement(program, callout.layer) { add("wrong-layer", "layer", message, hint) }
        }
        return found
    }

    /// Of one packet as many programs are asked as BPF follows; with more the packet would be dropped.
    func crowded(_ filters: [Filter]) -> [Problem] {
        var asking: [Layer: Int] = [:]
        var found: [Problem] = []
        for (at, filter) in filters.enumerated() {
            guard case .callout(_, let key) = filter.action, byKey[key]?.program != nil else { continue }
            asking[filter.layer, default: 0] += 1
            guard asking[filter.layer] == Self.mostAsking + 1 else { continue }
            found.append(
                Problem(
                    .filter, at, "callout", "too-many",
                    "it is filter number \(Self.mostAsking + 1) of \(filter.layer.shortName) that asks a program, the limit is \(Self.mostAsking)",
                    hint: "join filters that ask the same program: conditions of one field are alternatives"))
        }
        return found
    }

    static let mostAsking = Int(ND_CALLOUTS_A_LAYER)

    /// Why the program can't stand at the layer.
    private func placement(_ program: CalloutProgram, _ layer: Layer) -> (message: String, hint: String)? {
        let family = layer.family
        let reads = traits[program]?.contains(.readsPayload) ?? false
        func clear(_ transport: Layer.Kind) -> String {
            let payload = [Layer.Kind.stream, .datagramData].map { Layer($0, family).shortName }.joined(separator: " or ")
            return "\(Layer(transport, family).shortName), or \(payload) for payload alone"
        }
        switch layer.kind {
        case .inboundIPPacket where reads:
            return (
                "\(program) reads payload, and at \(layer.shortName) a packet may be ESP that is not decrypted yet",
                "register it at \(clear(.inboundTransport))"
            )
        case .outboundIPPacket where reads:
            return (
                "\(program) reads payload, and at \(layer.shortName) a packet may be ESP, encrypted already",
                "register it at \(clear(.outboundTransport))"
            )
        case .ipForward where reads:
            return (
                "\(program) reads payload, and at \(layer.shortName) a packet may be ESP between other hosts",
                "on the host that it is for, register it at \(clear(.inboundTransport))"
            )
        case .ipForward:
            return (
                "no program is asked at \(layer.shortName): ndbpf has no say in forwarded packets",
                "register it at a transport or IPPACKET layer of the host that the packets are for"
            )
        case .ikeext, .ipsec:
            return (
                "no program is asked at \(layer.shortName): keying modules look their policy up there, and no packet passes",
                "register it at a transport, ALE_AUTH, STREAM, DATAGRAM_DATA or IPPACKET layer"
            )
        case let kind where kind.isDiscard:
            let shown = kind.shown.map { Layer($0, family).shortName } ?? "its layer"
            return (
                "no program is asked at \(layer.shortName): what \(shown) drops is told as events",
                "`ndbpf monitor` shows every one; to decide, register it at \(shown)"
            )
        case .inboundTransport, .outboundTransport:
            guard !accepting.contains(Accepting(object: program.object, family: family)) else { return nil }
            let accept = Layer(.aleAuthRecvAccept, family).shortName
            return (
                "\(program) stands at \(layer.shortName), and \(program.object) has no callout at \(accept): a packet that ALE must classify can't be blocked before that",
                "add a callout at \(accept) with a program of that object"
            )
        default: return nil
        }
    }

    func problems(_ filter: Filter, _ at: Int) -> [Problem] {
        guard case .callout(let use, let key) = filter.action, let callout = byKey[key], let program = callout.program
        else { return [] }
        var found: [Problem] = []
        if let sublayer = weights[filter.sublayer], sublayer.weight >= Sublayer.universal.weight {
            found.append(
                Problem(
                    .filter, at, "sublayer", "weight",
                    "it asks callout \"\(callout.name)\", which has a program, in sublayer \(sublayer.shortName) of weight \(hex(UInt64(sublayer.weight), 4)): programs are asked below UNIVERSAL, \(hex(UInt64(Sublayer.universal.weight), 4))",
                    hint: "name a sublayer with a lower weight: INSPECTION, or one of your own"))
        }
        if use == .inspection, traits[program]?.contains(.changesPackets) ?? false {
            found.append(
                Problem(
                    .filter, at, "action", "wrong-type", "\(program) changes packets, and \(use.rawValue) looks on only",
                    hint: "write action CALLOUT_TERMINATING or CALLOUT_UNKNOWN"))
        }
        return found
    }
}
