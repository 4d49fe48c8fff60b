import CNDABI
import NDCore
import NDPolicy
import Testing

@Suite("Filters, arbitration and rules")
struct ClassifierTests {
    private static let addresses = ["192.0.2.1", "192.0.2.130", "198.51.100.9", "2001:db8::1", "2001:db8:1::1"]
    private static let prefixes = ["192.0.2.0/24", "192.0.2.128/25", "198.51.100.9", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1", "::/0"]

    static func randomPacket(_ random: inout Seeded) -> Packet {
        let v4 = Bool.random(using: &random)
        func pick() -> IPAddress {
            address(addresses.filter { $0.contains(":") != v4 }.randomElement(using: &random) ?? "")
        }
        let proto = [v4 ? 1 : 58, 6, 17, 132, 47].randomElement(using: &random) ?? 6
        let isICMP = proto == 1 || proto == 58
        let hasType = proto == (v4 ? 1 : 58)
        func port() -> UInt16 { isICMP || proto == 47 ? 0 : .random(in: 1...40, using: &random) }
        return Packet(
            key: FlowKey(local: Endpoint(pick(), port()), remote: Endpoint(pick(), port()), proto: UInt8(proto)),
            icmpType: hasType ? .random(in: 0...20, using: &random) : 0,
            icmpCode: hasType ? .random(in: 0...3, using: &random) : 0)
    }

    static func randomConditions(_ random: inout Seeded) -> [Condition] {
        var result: [Condition] = []
        func port() -> ClosedRange<UInt16> {
            let low = UInt16.random(in: 1...40, using: &random)
            return low...(low + UInt16.random(in: 0...10, using: &random))
        }
        for _ in 0..<Int.random(in: 0...5, using: &random) {
            let prefix = prefixes.randomElement(using: &random).flatMap { IPPrefix($0) }
            switch Int.random(in: 0..<7, using: &random) {
            case 0: result.append(.localAddressIsUnicast)
            case 1: result.append(.proto([1, 6, 17, 58].randomElement(using: &random) ?? 6))
            case 2: if let prefix { result.append(.localAddress(prefix)) }
            case 3: if let prefix { result.append(.remoteAddress(prefix)) }
            case 4: result.append(.localPort(port()))
            case 5: result.append(.remotePort(port()))
            default: result.append(.icmpType(3...UInt8.random(in: 3...20, using: &random)))
            }
        }
        return result
    }

    /// Asks filters one by one in the order of their weights, written without the module's own
    /// matching. With one sublayer the first match is what arbitration comes to.
    static func naive(_ filters: [Filter], _ kind: Layer.Kind, _ packet: Packet) -> Filter? {
        var best: Filter?
        for filter in filters where filter.layer.kind == kind {
            guard (filter.layer.family == .v4) == packet.key.remote.address.isIPv4 else { continue }
            var fields: [Condition.Field: Bool] = [:]
            for condition in filter.conditions {
                fields[condition.field] = (fields[condition.field] ?? false) || holds(condition, packet)
            }
            guard !fields.values.contains(false) else { continue }
            if best.map({ filter.effectiveWeight > $0.effectiveWeight }) ?? true { best = filter }
        }
        return best
    }

    private static func holds(_ condition: Condition, _ packet: Packet) -> Bool {
        func counted(_ value: some BinaryInteger) -> Bool {
            switch condition.value {
            case .number(let number): UInt64(value) == number
            case .numbers(let range): range.contains(UInt64(value))
            default: false
            }
        }
        func located(_ address: IPAddress) -> Bool {
            switch condition.value {
            case .address(let one): address == one
            case .prefix(let prefix): inside(address, prefix)
            default: false
            }
        }
        let ports = [6, 17, 132, 33, 136].contains(packet.key.proto)
        let icmp = packet.key.proto == (packet.key.remote.address.isIPv4 ? 1 : 58)
        switch condition.field {
        case .localAddressType: return packet.localAddress == .unicast
        case .proto: return counted(packet.key.proto)
        case .localAddress: return located(packet.key.local.address)
        case .remoteAddress: return located(packet.key.remote.address)
        case .localPort: return ports && counted(packet.key.local.port)
        case .remotePort: return ports && counted(packet.key.remote.port)
        case .icmpType: return icmp && counted(packet.icmpType)
        case .icmpCode: return icmp && counted(packet.icmpCode)
        default: return false
        }
    }

    private static func inside(_ address: IPAddress, _ prefix: IPPrefix) -> Bool {
        guard address.isIPv4 == prefix.address.isIPv4 else { return false }
        let bits = address.bytes.flatMap { byte in (0..<8).map { byte >> (7 - $0) & 1 } }
        let wanted = prefix.address.bytes.flatMap { byte in (0..<8).map { byte >> (7 - $0) & 1 } }
        return bits.prefix(prefix.length) == wanted.prefix(prefix.length)
    }

    @Test("Arbitration and compiled rules decide as a naive classifier does, on random filters and packets")
    func property() throws {
        var random = Seeded(42)
        let actions: [(IPFamily) -> (FilterAction, FilterContext)] = [
            { _ in (.permit, .none) }, { _ in (.block, .none) },
            { (.callout(.outboundTransport, $0), .raw(.outboundNegotiateDiscover)) },
            { (.callout(.inboundTransport, $0), .raw(.inboundPersistConnectionSecurity)) },
            { (.callout(.inboundInitiateSecure, $0), .none) },
        ]
        var decided = 0
        for _ in 0..<300 {
            var filters: [Filter] = []
            // Weights are unique, so that exactly one filter is first.
            for (id, weight) in (1...UInt64(14)).shuffled(using: &random).enumerated() {
                let kind = [Layer.Kind.outboundTransport, .aleAuthRecvAccept].randomElement(using: &random) ?? .ipsec
                let action = actions.randomElement(using: &random) ?? { _ in (.permit, .none) }
                let conditions = Self.randomConditions(&random)
                let both = Bool.random(using: &random)
                for family in both ? IPFamily.allCases : [IPFamily.allCases.randomElement(using: &random) ?? .v4] {
                    filters.append(
                        Filter(
                            id: UInt32(id * 2) + (family == .v4 ? 1 : 2), name: "f", layer: Layer(kind, family),
                            weight: FilterWeight(weight), conditions: conditions, action: action(family).0,
                            context: action(family).1))
                }
            }
            let expanded = ExpandedPolicy(filters: filters.shuffled(using: &random))
            let compiled: CompiledPolicy?
            do { compiled = CompiledPolicy(filters: try expanded.rangeFilters()) } catch { compiled = nil }
            for _ in 0..<60 {
                let packet = Self.randomPacket(&random)
                for (kind, layer) in [
                    (Layer.Kind.outboundTransport, DatapathLayer.outboundTransport),
                    (.aleAuthRecvAccept, .aleAuthRecvAccept),
                ] {
                    let expected = Self.naive(filters, kind, packet)
                    #expect(expanded.decidingFilter(kind, packet) == expected)
                    guard let compiled else { continue }
                    let rule = compiled.decide(layer, packet)
                    if let expected {
                        decided += 1
                        #expect(rule?.filter == UInt64(expected.id))
                    } else {
                        #expect(rule == nil)
                    }
                }
            }
        }
        #expect(decided > 3000)
    }

    @Test("A scenario's tables come back as the same filters and times")
    func policyRoundTrip() throws {
        for scenario in Scenario.allCases {
            let compiled = try Examples.policy(scenario).compiled()
            let image = try compiled.image(generation: 7)
            let header = image.header
            #expect(header.abi == ND_ABI_VERSION && header.generation == 7 && header.banks == 1)
            #expect(header.flags == ND_POLICY_IKE_EXEMPT_V4 | ND_POLICY_IKE_EXEMPT_V6)
            #expect(header.ike_port == 500 && header.natt_port == 4500)
            #expect(header.grace_ns == 10_000_000_000 && header.idle_ns == 60_000_000_000)
            var back = try #require(CompiledPolicy(image))
            #expect(back.filters.map(\.plain) == compiled.filters.map(\.plain))
            back.filters = compiled.filters
            #expect(back == compiled)
        }
    }

    @Test("A port list is one filter whatever its length, and more filters than a table holds are refused with the limit")
    func tooMany() throws {
        let ports = (1...300).map { UInt16($0 * 2)...UInt16($0 * 2) }
        let some = Examples.policy(.boundary) {
            $0.exemptions = [Exemption(proto: IPProtocol.tcp, localPorts: ports, remotePorts: ports, direction: .outbound)]
        }
        #expect(try some.compiled().classifier.filters(.outboundTransport, .v4).count == 3)
        let filters = (1...UInt64(16385)).map {
            RangeFilter(id: $0, layer: .outboundTransport, family: .v6, sublayer: 0, weight: $0, fields: [:], verdict: .permit)
        }
        do {
            _ = try CompiledPolicy(filters: filters).image(generation: 1)
            Issue.record("compiled")
        } catch {
            #expect(error.code == "policy.too-many-filters")
            #expect(error.message == "layer OUTBOUND_TRANSPORT_V6 has 16385 filters, the limit is 16384")
        }
    }

    @Test("The overhead is that of the worst suite, with UDP only where it is used")
    func overhead() throws {
        #expect(ESPSuite.aesGCM16(keyBits: 128).overhead == 37)
        #expect(ESPSuite.aesCBCHMACSHA256(keyBits: 256).overhead == 57)
        #expect(try Examples.policy(.boundary).compiled().overheadV4 == 65)
        let native = Examples.policy(.boundary) {
            $0.keying.quickMode = [.aesGCM16(keyBits: 256)]
            $0.engine.encapsulation = .native
        }
        #expect(try native.compiled().overheadV6 == 45)
    }

    @Test("Every label of nd.h's lists reaches Swift")
    func labels() {
        #expect(
            DatapathLayer.all.map(\.description) == [
                "OUTBOUND_TRANSPORT", "INBOUND_TRANSPORT", "ALE_AUTH_CONNECT", "ALE_AUTH_RECV_ACCEPT", "STREAM", "DATAGRAM_DATA",
                "INBOUND_IPPACKET", "OUTBOUND_IPPACKET",
            ])
        for layer in Layer.all {
            guard let served = layer.datapathLayer else { continue }
            #expect(served.description == layer.kind.rawValue)
        }
        #expect(Layer.all.compactMap(\.datapathLayer).count == DatapathLayer.all.count * 2)
        #expect(RuleAction.all.map(\.description).contains("negotiate_discover"))
        #expect(PeerEntry.State.allCases.map(\.label) == ["unknown", "negotiating", "secured", "lost", "clear"])
        #expect(PeerEntry.State.allCases.count == Int(ND_PEER_STATE_COUNT.rawValue))
        #expect(PassKind.allCases.map(\.label) == ["out_clear", "out_protected", "out_exempt", "in_clear", "in_protected", "in_exempt", "out_not_unicast", "out_forwarded", "out_unaddressed", "out_ipsec", "out_ike", "out_fragment", "in_not_unicast", "in_forwarded", "in_ipsec", "in_ike", "in_fragment", "in_grace"])
        #expect(DecisionEvent.allCases.map(\.label) == ["negotiate", "stash", "clear_reply", "latched", "wait"])
        #expect(DropReason.clearOnSecured.description == "clear_on_secured")
        #expect(DropReason(rawValue: 999) == nil)
    }
}
