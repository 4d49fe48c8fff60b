import NDCore
import NDPolicy
import Testing

@Suite("Explaining and comparing policies")
struct ExplanationTests {
    private static func explain(
        _ scenario: Scenario, _ packet: Packet, _ direction: PacketDirection = .outbound, _ change: (inout Policy) -> Void = { _ in }
    ) -> Explanation {
        Explanation(packet, direction, in: Examples.policy(scenario, change).expanded) { ["eth0": 2][$0] }
    }

    @Test("The whole way is printed: layers, sublayers, filters with weight, why not, effect, contexts, verdict")
    func golden() {
        #expect(
            Self.explain(.negotiationDiscovery, World.tcp(.syn)).text() == """
                packet      tcp 192.0.2.1:40000 > 192.0.2.2:443, outbound, clear

                FWPM_LAYER_OUTBOUND_TRANSPORT_V4
                  FWPM_SUBLAYER_UNIVERSAL (0x8000)
                    filter 11 "exempt icmp" 0xc0000010fffffff4: no match: IP_PROTOCOL = icmp, the packet has tcp
                    filter 9 "protect" 0x00000008fffffff6: permits
                      CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 OUTBOUND_NEGOTIATE_DISCOVER
                  decision  permit, by filter 9

                FWPM_LAYER_ALE_AUTH_CONNECT_V4
                  no filter
                  decision  none

                main mode   "main mode" IPSEC_IKE_MM_CONTEXT, by filter 1
                quick mode  "quick mode" IPSEC_IKE_QM_TRANSPORT_CONTEXT [ND_SECURE], by filter 3
                verdict     pass: filter 9: in clear and a negotiation begins; into nd0 as soon as the peer is secured, and never back

                """)
    }

    @Test("Verdicts are those of the decision tables for a new flow of an unknown peer")
    func verdicts() throws {
        for scenario in Scenario.allCases {
            for packet in [World.tcp(.syn), World.udp(), World.proto(IPProtocol.icmp), World.proto(47), World.proto(IPProtocol.esp)] {
                var world = try World(scenario)
                let out = world.out(packet)
                let expected: String =
                    switch out.verdict {
                    case .pass: "pass"
                    case .wait: "hold"
                    default: "drop"
                    }
                #expect(Self.explain(scenario, packet).verdict == expected)
                world = try World(scenario)
                let arrived = world.in(packet)
                let isDropped = if case .drop = arrived.verdict { true } else { false }
                #expect(Self.explain(scenario, packet, .inbound).verdict == (isDropped ? "drop" : "pass"))
            }
        }
        var secured = World.tcp(.syn)
        secured.flags = .isIPsecSecured
        #expect(Self.explain(.secure, secured, .inbound).verdict == "pass")
        // Exempt at one layer only.
        var policy = Examples.policy(.negotiationDiscovery).expanded
        policy.filters.removeAll { $0.layer.kind == .aleAuthRecvAccept && $0.action == .permit }
        var ping = World.proto(IPProtocol.icmp)
        ping.icmpType = 8
        #expect(Explanation(ping, .inbound, in: policy).verdict == "drop")
        ping.icmpType = 3
        #expect(Explanation(ping, .inbound, in: policy).verdict == "pass")
    }

    @Test("Of thousands that don't match some are shown and the rest is counted")
    func many() {
        let exemptions = (1...100).map { Exemption(proto: IPProtocol.tcp, remotePorts: [UInt16($0)...UInt16($0)]) }
        let explanation = Self.explain(.negotiationDiscovery, World.tcp(.syn)) { $0.exemptions = exemptions }
        #expect(explanation.text().contains("93 more filters don't match"))
        #expect(!explanation.text(most: nil).contains("more filters"))
    }

    @Test("What nobody asks filters about is said so")
    func unasked() {
        #expect(Self.explain(.secure, World.udp(World.remote, localPort: 500)).reason.contains("keying modules"))
        #expect(Self.explain(.secure, World.udp(Endpoint(address("224.0.0.251"), 5353))).reason.contains("not unicast"))
    }

    @Test("A comparison names what was added, removed and changed, and how; the same policy has no difference")
    func difference() throws {
        let old = Examples.policy(.negotiationDiscovery)
        #expect(PolicyDifference(from: old, to: old).text == "no difference\n")
        let new = Examples.policy(.negotiationDiscovery) {
            $0.exemptions = [Exemption(proto: IPProtocol.tcp, localPorts: [22...22], direction: .outbound)]
            $0.exemptsICMP = false
            $0.keying.quickMode = [.aesGCM16(keyBits: 256)]
            $0.interfaces = ["eth0"]
        }
        let text = PolicyDifference(from: old, to: new).text
        #expect(text.contains("~ provider context \"quick mode\"\n    proposals aes128-gcm16, aes256-gcm16, aes256-cbc-sha256 -> aes256-gcm16\n"))
        #expect(
            text.contains(
                """
                + filter "exempt 1" at OUTBOUND_TRANSPORT_V6
                    sublayer UNIVERSAL
                    weight range EXEMPTIONS
                    when IP_LOCAL_ADDRESS_TYPE = NlatUnicast and IP_PROTOCOL = tcp and IP_LOCAL_PORT = 22
                    action PERMIT
                    context none
                """))
        #expect(text.contains("- filter \"exempt icmp\" at ALE_AUTH_RECV_ACCEPT_V4"))
        #expect(text.contains("~ settings interfaces\n") && text.contains("~ settings keying\n"))
        // Renumbered filters are no change.
        #expect(!text.contains("\"protect\""))
        let secure = PolicyDifference(from: Examples.policy(.secure), to: Examples.policy(.secure) { $0.exemptsDHCP = false })
        #expect(secure.changes.allSatisfy { $0.change == .removed && $0.name == "exempt dhcp" } && secure.changes.count == 6)
        let scenario = PolicyDifference(from: old, to: Examples.policy(.secure) { $0.exemptsDHCP = false }).text
        #expect(scenario.contains("~ filter \"protect\" at OUTBOUND_TRANSPORT_V4\n    context OUTBOUND_NEGOTIATE_DISCOVER -> none\n"))
    }
}
