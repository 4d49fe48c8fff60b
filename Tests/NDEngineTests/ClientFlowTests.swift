import NDCore
import Testing

@testable import NDEngine

@Suite("Flows of hosts that share an address")
struct ClientFlowTests {
    private func flow(_ port: UInt16) -> FlowKey {
        FlowKey(
            local: Endpoint(IPAddress(high: 0, low: 0xffff_0a4d_0001), 443),
            remote: Endpoint(IPAddress(high: 0, low: 0xffff_0a4d_0064), port), proto: IPProtocol.tcp)
    }

    @Test("A flow is its first user's until it has been idle")
    func claims() {
        let flows = ClientFlows()
        var now = Instant(nanoseconds: 1_000_000_000_000)
        #expect(flows.owner(flow(1), now: now) == nil)
        #expect(flows.claim(flow(1), port: 4500, now: now))
        #expect(!flows.claim(flow(1), port: 1024, now: now), "another host's packet in it")
        #expect(flows.claim(flow(2), port: 1024, now: now))
        #expect(flows.owner(flow(1), now: now) == 4500 && flows.owner(flow(2), now: now) == 1024)
        now = now.advanced(by: .seconds(500))
        // Answers keep it too.
        #expect(flows.owner(flow(1), now: now) == 4500)
        now = now.advanced(by: .seconds(500))
        #expect(!flows.claim(flow(1), port: 1024, now: now))
        now = now.advanced(by: .seconds(601))
        #expect(flows.claim(flow(1), port: 1024, now: now))
        #expect(flows.owner(flow(1), now: now) == 1024)
    }

    @Test("Their number is bounded, and what is idle makes room")
    func bounded() {
        let flows = ClientFlows()
        var now = Instant(nanoseconds: 1_000_000_000_000)
        for port in 0..<UInt16.max { #expect(flows.claim(flow(port), port: 4500, now: now)) }
        #expect(flows.claim(flow(.max), port: 4500, now: now))
        let other = FlowKey(local: flow(1).local, remote: flow(1).remote, proto: IPProtocol.udp)
        #expect(!flows.claim(other, port: 4500, now: now))
        now = now.advanced(by: .seconds(601))
        #expect(flows.claim(other, port: 4500, now: now))
    }
}
