import CNDABI
import NDABI
import NDCore
import NDPolicy
import Testing

@testable import NDDatapath

@Suite("ICMP")
struct ICMPTests {
    @Test("With the exemption echo passes in clear, and errors but those that quote a secured flow", arguments: families)
    func exempt(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family)
        try bench.secure(family)
        try bench.run(.egress, talk.data(out: true))
        #expect(try bench.run(.egress, talk.echo(out: true)).passed == .outExempt)
        #expect(try bench.run(.ingress, talk.echo(out: false, reply: true)).passed == .inExempt)
        let error = talk.icmpError(quoting: talk.data(out: true), out: false)
        let own = talk.icmpError(quoting: talk.data(out: false), out: true)
        let unknown = Talk(family, localPort: 9)
        #expect(try bench.run(.ingress, talk.icmpError(quoting: unknown.data(out: true), out: false)).passed == .inExempt)
        #expect(try bench.run(.egress, talk.icmpError(quoting: unknown.data(out: false), out: true)).passed == .outExempt)
        #expect(try bench.run(.ingress, error).dropped == .icmpError)
        #expect(try bench.run(.egress, own).verdict == .redirect)
        try bench.lose(family)
        #expect(try bench.run(.ingress, error).dropped == .icmpError)
        #expect(try bench.run(.egress, own).dropped == .latched)
        var policy = bench.policy
        policy.exemptsICMPErrors = true
        try bench.commit(policy)
        #expect(try bench.run(.ingress, error).passed == .inExempt)
        #expect(try bench.run(.egress, own).passed == .outExempt)
        #expect(bench.flow(talk.echoKey()) == nil)
    }

    @Test("Without it echo is a flow by its identifier", arguments: families)
    func echo(_ family: IPFamily) throws {
        let bench = try Bench(Rules.discoveryNoICMP)
        let talk = Talk(family)
        #expect(try bench.run(.egress, talk.echo(out: true)).events.map(\.kind) == [ND_EVENT_NEGOTIATE])
        #expect(try bench.run(.ingress, talk.echo(out: false, reply: true)).passed == .inClear)
        #expect(try bench.run(.ingress, talk.echo(out: false, id: 78)).dropped == .clearInbound)
        try bench.secure(family)
        #expect(try bench.run(.egress, talk.echo(out: true)).verdict == .redirect)
        #expect(try bench.run(.ingress, talk.echo(out: false, id: 78, reply: true)).dropped == .clearOnSecured)
    }

    @Test("Without it an error follows the flow that it quotes, also when a clear error came before", arguments: families)
    func quoted(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundaryNoICMP)
        let (clear, secure, unknown) = (Talk(family), Talk(family, localPort: 2), Talk(family, localPort: 3))
        let router = Address.router(family)
        try bench.run(.egress, clear.tcp(.syn, out: true))
        try bench.putFlow(
            secure.key,
            FlowEntry(direction: .outbound, firstSeen: Bench.ago(5), lastSeen: Bench.now(), securedAt: Bench.ago(5), protectedReceivedAt: Bench.ago(4), flags: .secure))
        for _ in 0..<3 {
            #expect(try bench.run(.ingress, clear.icmpError(quoting: clear.data(out: true), out: false, from: router)).passed == .inClear)
            #expect(try bench.run(.ingress, unknown.icmpError(quoting: unknown.data(out: true), out: false, from: router)).passed == .inClear)
            #expect(try bench.run(.ingress, secure.icmpError(quoting: secure.data(out: true), out: false, from: router)).dropped == .icmpError)
            #expect(try bench.run(.egress, secure.icmpError(quoting: secure.data(out: false), out: true)).dropped == .latched)
        }
        // Headers before the quoted ports don't hide them.
        let hidden = Talk.Shape(options: family == .v4 ? [1, 1, 1, 1] : [], extensions: family == .v6 ? [(60, [1, 4, 0, 0, 0, 0])] : [])
        #expect(try bench.run(.ingress, secure.icmpError(quoting: secure.data(out: true, hidden), out: false, from: router)).dropped == .icmpError)
        let strict = try Bench(Rules.discoveryNoICMP)
        #expect(try strict.run(.ingress, unknown.icmpError(quoting: unknown.data(out: true), out: false)).dropped == .clearInbound)
    }

    @Test("An error about a secured echo is dropped in clear", arguments: families)
    func quotedEcho(_ family: IPFamily) throws {
        let bench = try Bench(Rules.boundaryNoICMP)
        let talk = Talk(family)
        try bench.secure(family)
        try bench.run(.egress, talk.echo(out: true))
        #expect(try bench.run(.ingress, talk.icmpError(quoting: talk.echo(out: true), out: false, from: Address.router(family))).dropped == .icmpError)
    }

    @Test("The verdict on an error is not cached for the flow that it quotes", arguments: families)
    func notCached(_ family: IPFamily) throws {
        let block = Rules.rule(.inboundTransport, .block, proto: IPProtocol.udp)
        let bench = try Bench([block] + Rules.boundaryNoICMP)
        let talk = Talk(family, IPProtocol.udp)
        try bench.putFlow(talk.key, FlowEntry(direction: .outbound, firstSeen: Bench.now()))
        #expect(try bench.run(.ingress, talk.icmpError(quoting: talk.data(out: true), out: false)).passed == .inClear)
        #expect(try bench.run(.ingress, talk.data(out: false)).dropped == .blocked)
    }
}
