import CNDABI
import NDABI
import NDCore
import NDPolicy
import Testing

@testable import NDDatapath

@Suite("Fragments")
struct FragmentTests {
    let first = Talk.Shape(fragment: (0, true))
    let later = Talk.Shape(fragment: (24, false))

    private func rest(_ family: IPFamily, out: Bool, id: UInt32 = 0x1234) -> [UInt8] {
        Talk(family).packet(IPProtocol.udp, Array(repeating: 9, count: 16), out: out, Talk.Shape(id: id, fragment: (24, false)))
    }

    @Test("Outbound: later ones follow the first: clear, nd0, or nowhere", arguments: families)
    func outbound(_ family: IPFamily) throws {
        let bench = try Bench()
        let talk = Talk(family, IPProtocol.udp)
        #expect(try bench.run(.egress, talk.udp(out: true, payload: Array(repeating: 0, count: 16), first)).passed == .outClear)
        #expect(try bench.run(.egress, rest(family, out: true)).passed == .outFragment)
        try bench.secure(family)
        #expect(try bench.run(.egress, talk.udp(out: true, payload: Array(repeating: 0, count: 16), first)).verdict == .redirect)
        #expect(try bench.run(.egress, rest(family, out: true)).verdict == .redirect)
        try bench.lose(family)
        #expect(try bench.run(.egress, talk.udp(out: true, payload: Array(repeating: 0, count: 16), first)).dropped == .latched)
        #expect(try bench.run(.egress, rest(family, out: true)).dropped?.description == "fragment")
    }

    @Test("Outbound: one whose first nobody saw does not leave, also of a peer with another context", arguments: families)
    func unknown(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.secure(family, context: 7)
        #expect(try bench.run(.egress, rest(family, out: true, id: 99)).dropped?.description == "fragment")
    }

    @Test("The kernel engine takes no fragments", arguments: families)
    func kernelEngine(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.secure(family)
        try bench.raiseEpoch { $0.flags = ND_STATE_KERNEL_ENGINE }
        let talk = Talk(family, IPProtocol.udp)
        #expect(try bench.run(.egress, talk.udp(out: true, payload: Array(repeating: 0, count: 16), first)).dropped?.description == "fragment")
        #expect(try bench.run(.egress, rest(family, out: true)).dropped?.description == "fragment")
    }

    @Test("Inbound: later ones of a dropped datagram are dropped; an identifier used again is judged anew", arguments: families)
    func inbound(_ family: IPFamily) throws {
        let bench = try Bench()
        let (refused, known) = (Talk(family, IPProtocol.udp), Talk(family, IPProtocol.udp, localPort: 9))
        // Alone, or ahead of its first, it delivers nothing.
        #expect(try bench.run(.ingress, rest(family, out: false)).verdict == .pass)
        #expect(try bench.run(.ingress, refused.udp(out: false, payload: Array(repeating: 0, count: 16), first)).dropped == .clearInbound)
        #expect(try bench.run(.ingress, rest(family, out: false)).dropped?.description == "fragment")
        try bench.run(.egress, known.udp(out: true))
        #expect(try bench.run(.ingress, known.udp(out: false, payload: Array(repeating: 0, count: 16), first)).passed == .inClear)
        #expect(try bench.run(.ingress, rest(family, out: false)).passed == .inFragment)
    }

    @Test("Later fragments of the daemon's own IKE datagrams leave", arguments: families)
    func ike(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.secure(family)
        let ike = Talk(family, IPProtocol.udp, localPort: 500, remotePort: 500)
        #expect(try bench.run(.egress, ike.udp(out: true, payload: Array(repeating: 0, count: 16), first)).passed == .outIKE)
        #expect(try bench.run(.egress, rest(family, out: true)).verdict == .pass)
    }

    @Test("An atomic fragment is a whole packet")
    func atomic() throws {
        let bench = try Bench()
        try bench.secure(.v6)
        try bench.raiseEpoch { $0.flags = ND_STATE_KERNEL_ENGINE }
        #expect(try bench.run(.egress, Talk(.v6).data(out: true, Talk.Shape(fragment: (0, false)))).verdict == .redirect)
        // As GRO hands it up: with the header of the interface that it came in by.
        let frame = Ethernet.frame(Talk(.v6).data(out: false, Talk.Shape(fragment: (0, false))))
        #expect(try bench.runRaw(.decrypted, frame, headers: 14).passed == .inProtected)
    }

    @Test("The kernel engine's fragments go to the device that makes them whole", arguments: families)
    func handedOver(_ family: IPFamily) throws {
        let bench = try Bench()
        try bench.secure(family)
        try bench.raiseEpoch {
            $0.flags = ND_STATE_KERNEL_ENGINE
            $0.fragments = 1
        }
        let talk = Talk(family, IPProtocol.udp)
        #expect(try bench.run(.egress, talk.udp(out: true, payload: Array(repeating: 0, count: 16), first)).verdict == .redirect)
        #expect(try bench.run(.egress, rest(family, out: true)).verdict == .redirect)
    }
}
