import NDCore
import NDPolicy
import Testing

@Suite("Policies in the full WFP form")
struct FullFormTests {
    private static let auth = "authentication: { pre-shared-keys: [ { remote: any, file: /k } ] }\n"

    private static let example = """
        version: 1
        providers:
          - { name: acme, description: "what Acme\\x26Sons brought" }
        provider-contexts:
          - { name: mm, type: IPSEC_IKE_MM_CONTEXT, proposals: [aes256-sha256-ecp256], lifetime: 4h }
          - name: qm
            type: IPSEC_IKE_QM_TRANSPORT_CONTEXT
            flags: [ND_BOUNDARY]
            proposals: [aes256-gcm16]
          - name: qm authip
            type: IPSEC_AUTHIP_QM_TRANSPORT_CONTEXT
            proposals: [aes128-gcm16]
            extended-mode: [kerberos, certificate]
            provider: acme
        sublayers:
          - { name: mine, weight: 0x9000, provider: acme }
          - { name: below, weight: 12, key: 01234567-89ab-cdef-0123-456789abcdef }
        callouts:
          - { name: inspect, layer: STREAM_V4, provider: acme }
          - { name: inspect, layer: STREAM_V6 }
          - { name: guard, layers: [OUTBOUND_TRANSPORT_V4, ALE_AUTH_RECV_ACCEPT_V4], provider: acme, program: { object: "callouts/guard, ours.o", entry: guard } }
          - { name: watch, layer: DATAGRAM_DATA_V6, program: { object: /usr/lib/watch.bpf.o, entry: watch_2 } }
        filters:
          - { name: main mode, layer: IKEEXT_V4, action: PERMIT, provider-context: mm }
          - { name: quick mode, layer: FWPM_LAYER_IPSEC_V4, action: PERMIT, provider-context: qm }
          - name: protect
            layer: OUTBOUND_TRANSPORT_V4
            conditions:
              - { field: IP_LOCAL_ADDRESS_TYPE, value: NlatUnicast }
            action: CALLOUT_TERMINATING
            callout: IPSEC_OUTBOUND_TRANSPORT
            raw-context: OUTBOUND_NEGOTIATE_DISCOVER
          - name: no telnet
            layer: OUTBOUND_TRANSPORT_V4
            sublayer: mine
            weight: 0xff
            provider: acme
            flags: [CLEAR_ACTION_RIGHT]
            conditions:
              - { field: IP_PROTOCOL, value: tcp }
              - { field: IP_REMOTE_PORT, match: LESS, value: 24 }
              - { field: IP_REMOTE_PORT, value: 5000-5010 }
              - { field: IP_REMOTE_ADDRESS, match: NOT_PREFIX, value: 192.0.2.0/24 }
              - { field: IP_LOCAL_ADDRESS, value: 192.0.2.1-192.0.2.9 }
              - { field: INTERFACE_INDEX, value: eth0 }
              - { field: DIRECTION, value: outbound }
              - { field: FLAGS, match: FLAGS_NONE_SET, value: [IS_LOOPBACK, IS_IPSEC_SECURED] }
            action: BLOCK
          - { name: exempt icmp, layer: INBOUND_TRANSPORT_V6, weight: IKE_EXEMPTIONS, conditions: [ { field: IP_PROTOCOL, value: icmpv6 } ], action: PERMIT }
          - { name: look, layer: STREAM_V4, sublayer: below, weight: range 3, action: CALLOUT_INSPECTION, callout: inspect }
          - { name: look, layer: STREAM_V6, sublayer: below, action: CALLOUT_INSPECTION, callout: inspect }
          - { name: guarded, layer: OUTBOUND_TRANSPORT_V4, sublayer: below, action: CALLOUT_UNKNOWN, callout: guard }
        \(auth)
        """

    @Test("The example says what it says")
    func reading() throws {
        let policy = try Policy.parse(Self.example, file: "/etc/nd/p.yaml")
        #expect(policy.scenario == nil && policy.scenarioName == "filters" && policy.isBoundary)
        let state = policy.expanded
        #expect(state.providers.map(\.name) == ["acme"] && state.providers[0].description == "what Acme&Sons brought")
        #expect(state.providerContexts.map(\.kind) == [.ikeMainMode, .ikeQuickModeTransport, .authIPQuickModeTransport])
        #expect(state.providerContexts[2].extendedMode == .init(methods: [.kerberos, .certificate]))
        #expect(state.sublayers.map(\.weight) == [0x9000, 12])
        #expect(state.sublayers[1].key == GUID("01234567-89ab-cdef-0123-456789abcdef"))
        #expect(state.filters.map(\.id) == [1, 2, 3, 4, 5, 6, 7, 8])
        #expect(state.filters[2].action == .callout(.outboundTransport, .v4) && state.filters[2].context == .raw(.outboundNegotiateDiscover))
        let telnet = state.filters[3]
        #expect(telnet.isHard && telnet.weight == .explicit(255) && telnet.action == .block && telnet.sublayer == state.sublayers[0].key)
        #expect(
            telnet.conditions == [
                .proto(IPProtocol.tcp), Condition(.remotePort, .less, .number(24)), .remotePort(5000...5010),
                Condition(.remoteAddress, .notPrefix, .prefix(try prefix("192.0.2.0/24"))),
                Condition(.localAddress, .range, .addresses(address("192.0.2.1")...address("192.0.2.9"))), .interface("eth0"),
                .direction(.outbound), .flags(.flagsNoneSet, [.isLoopback, .isIPsecSecured]),
            ])
        #expect(state.filters[4].weight == .range(.ikeExemptions))
        // Each names the callout of its own layer.
        #expect(state.filters[5].action == .callout(.inspection, state.callouts[0].key))
        #expect(state.filters[6].action == .callout(.inspection, state.callouts[1].key))
        // A relative path begins in the policy file's folder.
        let guards = state.callouts.filter { $0.name == "guard" }
        #expect(guards.map(\.layer.shortName) == ["OUTBOUND_TRANSPORT_V4", "ALE_AUTH_RECV_ACCEPT_V4"] && guards.allSatisfy { $0.provider == state.providers[0].key })
        #expect(guards.allSatisfy { $0.program == CalloutProgram(object: "/etc/nd/callouts/guard, ours.o", entry: "guard") })
        #expect(state.filters[7].action == .callout(.unknown, guards[0].key))
        #expect(state.programs.map(\.description) == ["'guard' of /etc/nd/callouts/guard, ours.o", "'watch_2' of /usr/lib/watch.bpf.o"])
        // The contexts say what is offered.
        #expect(policy.keying.mainMode.map(\.description) == ["aes256-sha256-ecp256"])
        #expect(policy.keying.mainModeLifetime == .seconds(4 * 3600))
        #expect(policy.keying.quickMode == [.aesGCM16(keyBits: 256)])
        #expect(try policy.expanded.rangeFilters { _ in 2 }.count == 6)
    }

    private static func roundTrip(_ policy: Policy, _ location: SourceLocation = #_sourceLocation) throws {
        let text = policy.wfpText
        let back = try Policy.parse(text, file: "written")
        var expected = policy.expanded
        expected.scenario = nil
        #expect(back.expanded == expected, sourceLocation: location)
        #expect(back.wfpText == text, sourceLocation: location)
        var settings = policy
        (settings.scenario, settings.objects, settings.exemptions) = (back.scenario, back.objects, [])
        (settings.exemptsICMP, settings.exemptsDHCP) = (back.exemptsICMP, back.exemptsDHCP)
        #expect(settings == back, sourceLocation: location)
    }

    @Test("What is written reads back as the same objects and settings: scenarios, the example, every other example")
    func roundTrips() throws {
        for scenario in Scenario.allCases { try Self.roundTrip(Examples.policy(scenario)) }
        for text in [Self.example, Examples.full, Examples.boundary, Examples.secure, Examples.smallest] {
            try Self.roundTrip(try Policy.parse(text, file: "x"))
        }
    }

    @Test("Random conditions, names and weights survive the way to text and back")
    func randomRoundTrip() throws {
        var random = Seeded(21)
        let words = ["plain", "two words", "quo\"te", "back\\slash", "a & b", "*", "true", "12", "- x", "#", "é", "{", "ends ", "a: b", "~", "'", "any"]
        for round in 0..<200 {
            var policy = Examples.policy(.boundary) { $0.scenario = nil }
            var objects = ExpandedPolicy(sublayers: [Sublayer(name: words.randomElement(using: &random) ?? "s", weight: 3)])
            for index in 0..<5 {
                let family = IPFamily.allCases.randomElement(using: &random) ?? .v4
                var conditions: [Condition] = []
                var negative: Set<Condition.Field> = []
                for _ in 0..<Int.random(in: 0...5, using: &random) {
                    let next = RandomConditions.next(family, &random)
                    if !next.match.isNegative || negative.insert(next.field).inserted { conditions.append(next) }
                }
                let weights: [FilterWeight] = [.automatic, .explicit(.random(in: 0...(.max), using: &random)), .range(.exemptions), FilterWeight.Range(rawValue: 5).map { .range($0) } ?? .automatic]
                objects.filters.append(
                    Filter(
                        name: "\(words.randomElement(using: &random) ?? "") \(index)", layer: Layer(.outboundTransport, family),
                        sublayer: Bool.random(using: &random) ? objects.sublayers[0].key : Sublayer.universal.key,
                        weight: weights.randomElement(using: &random) ?? .automatic, conditions: conditions,
                        action: Bool.random(using: &random) ? .permit : .block, flags: Bool.random(using: &random) ? .clearActionRight : []))
            }
            policy.objects = objects
            #expect(policy.expanded.problems.isEmpty)
            try Self.roundTrip(policy)
            if round == 0 { #expect(policy.wfpText.contains("conditions:")) }
        }
    }

    @Test("A scenario and filters may stand together, and filters may name the scenario's contexts")
    func both() throws {
        let policy = try Policy.parse(
            Examples.smallest + """
                filters:
                  - { name: main mode for one, layer: IKEEXT_V4, action: PERMIT, provider-context: main mode, conditions: [ { field: IP_REMOTE_ADDRESS, value: 192.0.2.1 } ] }
                """, file: "p.yaml")
        #expect(policy.scenario == .negotiationDiscovery)
        let expanded = policy.expanded
        #expect(expanded.filters.count == 17 && expanded.filters.last?.id == 17)
        #expect(expanded.filters.last?.context.providerKey == expanded.providerContexts.first?.key)
    }

    @Test("Thousands of filters are read in a moment")
    func many() throws {
        var text = "version: 1\n" + Self.auth + "filters:\n"
        for port in 1...2000 {
            text += "  - { name: p\(port), layer: OUTBOUND_TRANSPORT_V4, conditions: [ { field: IP_PROTOCOL, value: tcp }, { field: IP_REMOTE_PORT, value: \(port) } ], action: BLOCK }\n"
        }
        #expect(try Policy.parse(text, file: "x").expanded.filters.count == 2000)
    }

    @Test("Filters that offer AuthIP alone are refused, since nothing of what is written would be offered")
    func authIPOnly() {
        let text = "version: 1\n" + Self.auth + """
            provider-contexts: [ { name: mm, type: IPSEC_AUTHIP_MM_CONTEXT, proposals: [aes256-sha256-ecp256] } ]
            filters:
              - { name: main mode, layer: IKEEXT_V4, action: PERMIT, provider-context: mm }
            """
        #expect(
            MalformedTests.report(text) == """
                p.yaml:4:1: at IKEEXT only AuthIP is offered, which this version can't negotiate yet
                  fix: add an IPSEC_IKE_MM_CONTEXT and a filter that names it
                """)
    }

    @Test("Random damage to a policy in full form gives errors or a policy, never a trap")
    func damage() {
        var random = Seeded(13)
        let original = Array(Self.example.utf8)
        let marks: [UInt8] = Array("[]{}:,-#!|>'\"%@` \n\t0129/.xfV".utf8) + [0, 0xff, 0xc3]
        var accepted = 0
        for _ in 0..<1500 {
            var bytes = original
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                let mark = marks.randomElement(using: &random) ?? 0
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] = mark
                case 1: bytes.remove(at: at)
                default: bytes.insert(mark, at: at)
                }
            }
            do {
                let policy = try Policy.parse(String(decoding: bytes, as: UTF8.self), file: "x")
                accepted += 1
                // What was taken can be written, read back, asked and compiled.
                #expect(try Policy.parse(policy.wfpText, file: "y").expanded == policy.expanded)
                _ = policy.expanded.classify(.outboundTransport, World.tcp(.syn))
                do { _ = try policy.expanded.rangeFilters { _ in 2 } } catch { #expect(error.code == "policy.unsupported") }
            } catch {
                #expect(!error.errors.isEmpty && error.errors.allSatisfy { $0.code.hasPrefix("policy.") })
            }
        }
        #expect(accepted > 10)
    }
}
