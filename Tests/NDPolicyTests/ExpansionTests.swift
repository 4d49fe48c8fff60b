import Foundation
import NDCore
import NDPolicy
import Testing

@Suite("Expansion into WFP filters")
struct ExpansionTests {
    static func policy(_ scenario: Scenario) throws -> Policy {
        switch scenario {
        case .negotiationDiscovery:
            Examples.policy(scenario)
        case .boundary:
            // ICMP and DHCP protected, one suite, native ESP.
            try Policy.parse(Examples.boundary, file: "boundary.yaml")
        case .secure:
            Examples.policy(scenario) {
                $0.exemptions = [
                    Exemption(
                        remote: IPPrefix("192.0.2.0/24"), proto: IPProtocol.tcp,
                        localPorts: [22...22, 8000...8010], direction: .inbound)
                ]
            }
        }
    }

    @Test(
        "Each scenario becomes the filters of its WFP configuration",
        arguments: [
            (Scenario.negotiationDiscovery, ExpansionGolden.negotiationDiscovery),
            (.boundary, ExpansionGolden.boundary), (.secure, ExpansionGolden.secure),
        ])
    func golden(_ scenario: Scenario, _ expected: String) throws {
        #expect(try Self.policy(scenario).expanded.listing == expected)
    }

    @Test("Only boundary goes without INITIATE_SECURE, only secure without NEGOTIATE_DISCOVER")
    func differences() throws {
        for scenario in Scenario.allCases {
            let filters = Examples.policy(scenario).expanded.filters
            let initiates = filters.filter { $0.builtInCallout == .inboundInitiateSecure }
            #expect(initiates.count == (scenario == .boundary ? 0 : 2))
            let discovers = filters.filter {
                $0.builtInCallout == .outboundTransport && $0.context == .raw(.outboundNegotiateDiscover)
            }
            #expect(discovers.count == (scenario == .secure ? 0 : 2))
            let accepts = filters.filter { $0.layer.kind == .aleAuthRecvAccept }
            #expect(accepts.isEmpty == (scenario == .boundary))
        }
    }

    @Test("The ICMP exemption outweighs the callout at every layer, in the IKE_EXEMPTIONS range")
    func weights() throws {
        let expanded = Examples.policy(.secure).expanded
        for kind in [Layer.Kind.inboundTransport, .outboundTransport, .aleAuthRecvAccept] {
            let decided = expanded.decidingFilter(kind, World.proto(IPProtocol.icmp))
            #expect(decided?.name == "exempt icmp" && decided?.weight == .range(.ikeExemptions))
            #expect(expanded.decidingFilter(kind, World.tcp(.syn))?.name == "protect")
        }
    }

    @Test("Filter numbers and weights are unique at a layer, and names come from the file's order")
    func unique() throws {
        let expanded = try Policy.parse(Examples.full, file: "x").expanded
        #expect(Set(expanded.filters.map(\.id)).count == expanded.filters.count)
        for layer in Set(expanded.filters.map(\.layer)) {
            let weights = expanded.filters.filter { $0.layer == layer }.map(\.effectiveWeight)
            #expect(Set(weights).count == weights.count)
        }
        #expect(expanded.filters.contains { $0.name == "exempt 3" })
        #expect(expanded.filter(id: 1)?.name == "main mode")
    }

    @Test("Without the ICMP exemption neighbour discovery stays exempt and nothing else of ICMP does")
    func neighbourDiscovery() throws {
        let compiled = try Examples.policy(.secure) { $0.exemptsICMP = false }.compiled()
        var packet = Packet(
            key: FlowKey(
                local: Endpoint(address("2001:db8::1"), 0), remote: Endpoint(address("2001:db8::2"), 0),
                proto: IPProtocol.icmpv6), icmpType: 135)
        #expect(compiled.decide(.outboundTransport, packet)?.action == .permit)
        packet.icmpType = 128
        #expect(compiled.decide(.outboundTransport, packet)?.action == .requireOutbound)
    }

    @Test("DHCP of a client is exempt both ways")
    func dhcp() throws {
        let compiled = try Examples.policy(.secure).compiled()
        for (local, remote, from, to) in [("192.0.2.1", "192.0.2.9", 68, 67), ("2001:db8::1", "2001:db8::9", 546, 547)] {
            let packet = Packet(
                key: FlowKey(
                    local: Endpoint(address(local), UInt16(from)), remote: Endpoint(address(remote), UInt16(to)),
                    proto: IPProtocol.udp))
            #expect(compiled.decide(.outboundTransport, packet)?.action == .permit)
            #expect(compiled.decide(.inboundTransport, packet)?.action == .permit)
        }
    }

    @Test("The JSON form has names and GUIDs")
    func json() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let expanded = Examples.policy(.negotiationDiscovery).expanded
        let text = String(decoding: try encoder.encode(FilterRecord(expanded.filters[8], in: expanded)), as: UTF8.self)
        #expect(
            text
                == #"{"action":"CALLOUT_TERMINATING","callout":"FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4","calloutKey":"4b46bf0a-4523-4e57-aa38-a87987c910d9","conditions":[{"field":"IP_LOCAL_ADDRESS_TYPE","match":"EQUAL","value":"NlatUnicast"}],"id":9,"isHard":false,"key":"\#(expanded.filters[8].key)","layer":"FWPM_LAYER_OUTBOUND_TRANSPORT_V4","layerKey":"09e61aea-d214-46e2-9b21-b26b0b2f28c8","name":"protect","rawContext":"OUTBOUND_NEGOTIATE_DISCOVER","sublayer":"FWPM_SUBLAYER_UNIVERSAL","sublayerKey":"eebecc03-ced4-4380-819a-2734397b2b74","sublayerWeight":32768,"weight":"0x00000008fffffff6","weightForm":"automatic"}"#
        )
    }
}
