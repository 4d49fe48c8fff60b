import NDABI
import NDCore
import NDPolicy
import Testing

import CNDABI

/// What is different for TC where nd0 is an XFRM interface: inbound packets pass it only in the form
/// that GRO made, and their answers are the first that it sees.
@Suite("The datapath of the kernel engine")
struct KernelEngineDatapathTests {
    private func kernel() throws -> Bench {
        let bench = try Bench()
        try bench.raiseEpoch { $0.flags = ND_STATE_KERNEL_ENGINE }
        return bench
    }

    private func answering(_ bench: Bench, _ family: IPFamily) throws {
        var peer = PeerEntry(.negotiating, changedAt: Bench.now())
        peer.isAnswering = true
        try bench.setPeer(peer, family)
    }

    @Test("A decrypted packet is read behind the link header of the interface that it came in by", arguments: families)
    func linkHeader(_ family: IPFamily) throws {
        let bench = try kernel()
        let talk = Talk(family)
        let frame = Ethernet.frame(talk.data(out: false))
        // The second takes the short way.
        for _ in 0..<2 { #expect(try bench.runRaw(.decrypted, frame, headers: 14).passed == .inProtected) }
        #expect(bench.flow(talk.key)?.isSecure == true)
    }

    @Test("While a peer may send on an SA whose twin is not in use, answers wait and are stored; new connections leave", arguments: families)
    func answers(_ family: IPFamily) throws {
        let bench = try kernel()
        try answering(bench, family)
        let tcp = Talk(family)
        let syn = try bench.run(.egress, tcp.tcp([.syn, .ack], out: true))
        #expect(syn.dropped == .held && syn.events.map(\.kind) == [ND_EVENT_WAIT])
        #expect(bench.flow(tcp.key) == nil, "an entry would let a clear packet in")
        let udp = try bench.run(.egress, Talk(family, IPProtocol.udp).udp(out: true))
        #expect(udp.dropped == .held && udp.events.map(\.kind) == [ND_EVENT_WAIT])
        let opened = Talk(family, localPort: 4242)
        #expect(try bench.run(.egress, opened.tcp(.syn, out: true)).passed == .outClear)
        // What is known to be clear goes on.
        #expect(try bench.run(.egress, opened.data(out: true)).passed == .outClear)
        try bench.secure(family)
        #expect(try bench.run(.egress, tcp.tcp([.syn, .ack], out: true)).verdict == .redirect)
    }

    @Test("The answer to a peer that was secured a moment ago is stored too", arguments: families)
    func answersAgain(_ family: IPFamily) throws {
        let bench = try kernel()
        var peer = PeerEntry(.negotiating, changedAt: Bench.now())
        peer.isAnswering = true
        peer.securedUntil = Bench.now()
        try bench.setPeer(peer, family)
        let syn = try bench.run(.egress, Talk(family).tcp([.syn, .ack], out: true))
        #expect(syn.dropped == .latched && syn.events.map(\.kind) == [ND_EVENT_WAIT])
    }
}
