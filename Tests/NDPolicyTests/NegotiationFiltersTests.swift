import NDCore
import NDPolicy
import Testing

@Suite("With whom main mode and quick mode are spoken")
struct NegotiationFiltersTests {
    private static let (here, there) = (address("192.0.2.1"), address("198.51.100.7"))

    private func policy(_ filters: String) throws -> Policy {
        try Policy.parse(
            """
            version: 1
            authentication: { pre-shared-keys: [ { remote: any, file: /k } ] }
            provider-contexts:
              - { name: mm, type: IPSEC_IKE_MM_CONTEXT, proposals: [aes256-sha256-ecp256] }
              - { name: qm, type: IPSEC_IKE_QM_TRANSPORT_CONTEXT, proposals: [aes128-gcm16] }
              - { name: authip, type: IPSEC_AUTHIP_MM_CONTEXT, proposals: [aes256-sha256-ecp256] }
            filters:
              - { name: qm, layer: IPSEC_V4, action: PERMIT, provider-context: qm }
            \(filters)
            """, file: "p.yaml")
    }

    private func mainMode(_ filters: String, _ local: IPAddress = here, _ remote: IPAddress = there) throws -> String? {
        NegotiationFilters(try policy(filters).expanded).context(.ikeext, local: local, remote: remote)?.name
    }

    @Test("A scenario's filters take every peer, each family its own")
    func scenario() throws {
        var policy = Examples.policy(.negotiationDiscovery).expanded
        let (local, remote) = (address("fd00::1"), address("fd00::2"))
        for kind in [Layer.Kind.ikeext, .ipsec] {
            let all = NegotiationFilters(policy)
            #expect(all.context(kind, local: Self.here, remote: Self.there) != nil)
            #expect(all.context(kind, local: local, remote: remote) != nil)
        }
        policy.filters.removeAll { $0.layer == Layer(.ikeext, .v4) }
        let rest = NegotiationFilters(policy)
        #expect(rest.context(.ikeext, local: Self.here, remote: Self.there) == nil)
        #expect(rest.context(.ikeext, local: local, remote: remote) != nil)
        #expect(rest.context(.ipsec, local: Self.here, remote: Self.there) != nil)
    }

    @Test("Without a main-mode filter of the family its IKE ports are not exempt")
    func exemption() throws {
        var policy = Examples.policy(.negotiationDiscovery)
        #expect(try policy.compiled().exemptsIKE == [.v4, .v6])
        policy.objects = policy.expanded
        policy.objects.scenario = nil
        policy.objects.filters.removeAll { $0.layer == Layer(.ikeext, .v4) }
        policy.scenario = nil
        #expect(try policy.compiled().exemptsIKE == [.v6])
    }

    @Test("Addresses of a filter are asked, protocol and ports are not: an SA carries them all")
    func conditions() throws {
        let near = "  - { name: a, layer: IKEEXT_V4, action: PERMIT, provider-context: mm, conditions: [ { field: IP_REMOTE_ADDRESS, value: 198.51.100.0/24 } ] }\n"
        #expect(try mainMode(near) == "mm")
        #expect(try mainMode(near, Self.here, address("203.0.113.1")) == nil)
        let ports = try policy(
            "  - { name: b, layer: IPSEC_V4, action: BLOCK, conditions: [ { field: IP_PROTOCOL, value: udp } ] }\n")
        #expect(NegotiationFilters(ports.expanded).context(.ipsec, local: Self.here, remote: Self.there)?.name == "qm")
    }

    @Test("A heavier block refuses a peer; a filter for AuthIP does not speak for IKE")
    func refusals() throws {
        let all = "  - { name: a, layer: IKEEXT_V4, action: PERMIT, provider-context: mm }\n"
        let block = "  - { name: b, layer: IKEEXT_V4, action: BLOCK, weight: 0x7000000000000000, conditions: [ { field: IP_REMOTE_ADDRESS, value: 198.51.100.7 } ] }\n"
        #expect(try mainMode(all + block) == nil)
        #expect(try mainMode(all + block, Self.here, address("198.51.100.8")) == "mm")
        let authIP = "  - { name: c, layer: IKEEXT_V4, action: PERMIT, weight: 0x7000000000000000, provider-context: authip }\n"
        #expect(try mainMode(all + authIP) == "mm")
    }

    @Test("With whom to negotiate is read at the start: filters of IKEEXT and IPSEC can't be changed under a daemon")
    func readAtStart() throws {
        let all = "  - { name: a, layer: IKEEXT_V4, action: PERMIT, provider-context: mm }\n"
        let block = "  - { name: b, layer: IPSEC_V4, action: BLOCK }\n"
        let exempt = "  - { name: x, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT }\n"
        #expect(try policy(all + block).readAtStart(otherThan: policy(all)) == ["filters at IKEEXT and IPSEC"])
        #expect(try policy(exempt + all).readAtStart(otherThan: policy(all)) == [])
    }
}
