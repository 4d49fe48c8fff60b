import CNetlink
import Foundation
import NDCore
import Synchronization
import Testing

@testable import NDEngine

/// A kernel's XFRM tables behind the netlink protocol, with objects of others in them.
final class ScriptedKernel: NetlinkTransport {
    struct Tables {
        var states: [[UInt8]] = []
        var policies: [[UInt8]] = []
        var requests: [UInt16] = []
        /// Refuses the next request of this type.
        var refuse: (type: UInt16, code: Int32)?
    }

    let tables = Mutex(Tables())

    func request(_ request: consuming NetlinkRequest, take: (NetlinkMessage) -> Void) throws {
        var request = request
        request.finish(sequence: 1)
        guard let message = NetlinkMessage.parse(request.bytes).first else { throw NetlinkError(code: EINVAL) }
        let answers = try tables.withLock { tables -> [NetlinkMessage] in
            tables.requests.append(message.type)
            if let refuse = tables.refuse, refuse.type == message.type {
                tables.refuse = nil
                throw NetlinkError(code: refuse.code)
            }
            switch Int(message.type) {
            case Int(XFRM_MSG_NEWSA):
                tables.states.append(message.payload)
            case Int(XFRM_MSG_DELSA):
                guard let index = Self.index(of: message, in: tables.states) else { throw NetlinkError(code: ESRCH) }
                tables.states.remove(at: index)
            case Int(XFRM_MSG_GETSA):
                if message.flags & UInt16(NLM_F_DUMP) == UInt16(NLM_F_DUMP) {
                    return tables.states.map { NetlinkMessage(type: UInt16(XFRM_MSG_NEWSA), flags: 2, sequence: 1, payload: $0) }
                }
                guard let index = Self.index(of: message, in: tables.states) else { throw NetlinkError(code: ESRCH) }
                return [NetlinkMessage(type: UInt16(XFRM_MSG_NEWSA), flags: 0, sequence: 1, payload: tables.states[index])]
            case Int(XFRM_MSG_UPDPOLICY):
                // The kernel gives every policy an index.
                var payload = message.payload
                let index = UInt32(tables.policies.count + 1) * 8 + 1
                withUnsafeBytes(of: index) { payload.replaceSubrange(156..<160, with: $0) }
                tables.policies.append(payload)
            case Int(XFRM_MSG_GETPOLICY):
                return tables.policies.map { NetlinkMessage(type: UInt16(XFRM_MSG_NEWPOLICY), flags: 2, sequence: 1, payload: $0) }
            case Int(XFRM_MSG_DELPOLICY):
                guard let id: xfrm_userpolicy_id = message.payload.structure() else { throw NetlinkError(code: EINVAL) }
                let found = tables.policies.firstIndex { payload in
                    (payload.structure(at: 156) as UInt32?) == id.index
                }
                guard let found else { throw NetlinkError(code: ENOENT) }
                tables.policies.remove(at: found)
            default: throw NetlinkError(code: EOPNOTSUPP)
            }
            return []
        }
        for answer in answers { take(answer) }
    }

    private static func index(of message: NetlinkMessage, in states: [[UInt8]]) -> Int? {
        guard let id: xfrm_usersa_id = message.payload.structure() else { return nil }
        return states.firstIndex { payload in
            guard let info: xfrm_usersa_info = payload.structure() else { return false }
            return info.id.spi == id.spi && info.family == id.family
                && info.id.daddr.address(id.family) == id.daddr.address(id.family)
        }
    }

    func add(_ sa: SecurityAssociation, reqid: UInt32, interfaceID: UInt32, age: UInt64 = 0, hardSeconds: UInt64? = nil) throws {
        try request(
            XFRMStateCodec.create(sa, reqid: reqid, interfaceID: interfaceID, lifetime: XFRMLifetime(hardSeconds: hardSeconds)))
        tables.withLock { tables in
            let added = UInt64(time(nil)) - age
            let last = tables.states.count - 1
            // curlft.add_time
            withUnsafeBytes(of: added) { tables.states[last].replaceSubrange(176..<184, with: $0) }
        }
    }

    var spis: Set<UInt32> {
        tables.withLock { Set($0.states.compactMap { ($0.structure() as xfrm_usersa_info?).map { UInt32(bigEndian: $0.id.spi) } }) }
    }
}

@Suite("The kernel engine against a scripted kernel")
struct KernelEngineTests {
    private func make() -> (KernelEngine, ScriptedKernel) {
        let kernel = ScriptedKernel()
        return (KernelEngine(KernelEngineConfiguration(), xfrm: kernel, route: kernel), kernel)
    }

    private func pair(_ remote: String, inbound: UInt32, outbound: UInt32, local: String = "10.77.0.1") throws -> SecurityAssociationPair {
        SecurityAssociationPair(
            inbound: try XFRMCodecTests.sa(.inbound, local, remote, spi: inbound),
            outbound: try XFRMCodecTests.sa(.outbound, local, remote, spi: outbound))
    }

    @Test("Inbound is in the kernel at once, outbound when it is activated, both gone when removed")
    func life() throws {
        let (engine, kernel) = make()
        let pair = try pair("10.77.0.2", inbound: 0x1001, outbound: 0x2002)
        try engine.install(pair)
        #expect(kernel.spis == [0x1001])
        #expect(engine.securityAssociations().map(\.active).sorted { $0 && !$1 } == [true, false])
        try engine.activateOutbound(peer: pair.outbound.peer, spi: 0x2002)
        #expect(kernel.spis == [0x1001, 0x2002])
        try engine.activateOutbound(peer: pair.outbound.peer, spi: 0x2002)
        #expect(kernel.spis.count == 2, "activating twice makes no second SA")
        engine.remove(peer: pair.outbound.peer, inboundSPI: 0x1001, outboundSPI: 0x2002)
        #expect(kernel.spis.isEmpty)
    }

    @Test("SAs and policies of others are neither listed nor touched, whatever their SPI")
    func foreign() throws {
        let (engine, kernel) = make()
        // The same SPI towards the same destination can't be; the same towards another can.
        try kernel.add(try XFRMCodecTests.sa(.outbound, "10.77.0.1", "10.77.0.9", spi: 0x2002), reqid: 1, interfaceID: 0)
        try kernel.add(try XFRMCodecTests.sa(.inbound, "10.77.0.1", "10.77.0.9", spi: 0x3003), reqid: 1, interfaceID: 77)
        try kernel.request(XFRMPolicyCodec.create(family: AF_INET, reqid: 1, interfaceID: 77))
        #expect(engine.states().isEmpty && engine.policies().isEmpty && engine.securityAssociations().isEmpty)
        #expect(engine.restorePolicies())
        #expect(engine.policies().count == 2)
        #expect(!engine.restorePolicies(), "both are there")
        let pair = try pair("10.77.0.2", inbound: 0x1001, outbound: 0x2002)
        try engine.install(pair)
        try engine.activateOutbound(peer: pair.outbound.peer, spi: 0x2002)
        engine.remove(peer: pair.outbound.peer, inboundSPI: 0x1001, outboundSPI: 0x2002)
        // Even when asked for them by name.
        let stranger = PeerKey(local: pair.inbound.peer.local, remote: try #require(IPAddress("10.77.0.9")))
        engine.remove(peer: stranger, inboundSPI: 0x3003, outboundSPI: 0x2002)
        #expect(engine.adopted().isEmpty)
        #expect(kernel.spis == [0x2002, 0x3003])
        #expect(kernel.tables.withLock { $0.policies.count } == 3)
    }

    @Test("A refusal of the kernel is an error with its words, and nothing is left in the table")
    func refusal() throws {
        let (engine, kernel) = make()
        kernel.tables.withLock { $0.refuse = (UInt16(XFRM_MSG_NEWSA), ENOSYS) }
        let error = #expect(throws: NDError.self) { try engine.install(try pair("10.77.0.2", inbound: 0x1001, outbound: 0x2002)) }
        #expect(error?.code == "engine.sa")
        #expect(error?.hint?.contains("algorithm") == true)
        #expect(engine.owned().isEmpty)
        let short = SecurityAssociationPair(
            inbound: try XFRMCodecTests.sa(.inbound, "10.77.0.1", "10.77.0.2", spi: 1, keymat: [1, 2, 3]),
            outbound: try XFRMCodecTests.sa(.outbound, "10.77.0.1", "10.77.0.2", spi: 2))
        #expect(throws: NDError.self) { try engine.install(short) }
    }

    @Test("The SA for whole datagrams stands outside the interface, its inbound twin inside")
    func fragments() throws {
        let (engine, kernel) = make()
        var pair = try pair("10.77.0.2", inbound: 0x1001, outbound: 0x2002)
        pair.inbound.peer = pair.inbound.peer.fragments
        pair.outbound.peer = pair.outbound.peer.fragments
        try engine.install(pair)
        try engine.activateOutbound(peer: pair.outbound.peer, spi: 0x2002)
        let states = engine.states()
        #expect(states.first { $0.spi == 0x1001 }?.interfaceID == engine.interfaceID)
        let outbound = try #require(states.first { $0.spi == 0x2002 })
        #expect(outbound.interfaceID == 0 && outbound.reqid == KernelEngine.fragmentReqid)
        engine.remove(peer: pair.outbound.peer, inboundSPI: 0x1001, outboundSPI: 0x2002)
        #expect(kernel.spis.isEmpty)
    }

    @Test("A new daemon pairs what an earlier one left by age, and can remove it")
    func adoption() throws {
        let (engine, kernel) = make()
        // The loopback address is local in every namespace.
        let local = "127.0.0.1"
        for (spi, age) in [(UInt32(0x10), UInt64(500)), (0x30, 20)] {
            try kernel.add(try XFRMCodecTests.sa(.inbound, local, "10.77.0.2", spi: spi), reqid: KernelEngine.reqid, interfaceID: engine.interfaceID, age: age)
            try kernel.add(
                try XFRMCodecTests.sa(.outbound, local, "10.77.0.2", spi: spi + 1), reqid: KernelEngine.reqid,
                interfaceID: engine.interfaceID, age: age, hardSeconds: 3660)
        }
        // A datagram pair's outbound half: negotiated anew when one is needed.
        try kernel.add(try XFRMCodecTests.sa(.outbound, local, "10.77.0.2", spi: 0x77), reqid: KernelEngine.fragmentReqid, interfaceID: 0)
        let found = engine.adopted().sorted { $0.inboundSPI < $1.inboundSPI }
        #expect(found.map(\.inboundSPI) == [0x10, 0x30])
        #expect(found.map(\.outboundSPI) == [0x11, 0x31])
        let first = try #require(found.first)
        #expect((499...503).contains(first.age.seconds))
        #expect((3090...3101).contains(try #require(first.remaining).seconds))
        #expect(kernel.spis == [0x10, 0x11, 0x30, 0x31])
        engine.remove(peer: first.peer, inboundSPI: 0x10, outboundSPI: 0x11)
        #expect(kernel.spis == [0x30, 0x31])
    }

    @Test("Sums of packets never fall when SAs go")
    func statistics() throws {
        let (engine, kernel) = make()
        let pair = try pair("10.77.0.2", inbound: 0x1001, outbound: 0x2002)
        try engine.install(pair)
        try engine.activateOutbound(peer: pair.outbound.peer, spi: 0x2002)
        kernel.tables.withLock { tables in
            // curlft.bytes and .packets
            for index in tables.states.indices {
                withUnsafeBytes(of: UInt64(1000 + index)) { tables.states[index].replaceSubrange(160..<168, with: $0) }
                withUnsafeBytes(of: UInt64(10 + index)) { tables.states[index].replaceSubrange(168..<176, with: $0) }
            }
        }
        let before = engine.statistics()
        #expect((before.inboundPackets, before.outboundPackets) == (10, 11))
        #expect((before.inboundBytes, before.outboundBytes) == (1000, 1001))
        engine.remove(peer: pair.outbound.peer, inboundSPI: 0x1001, outboundSPI: 0x2002)
        let after = engine.statistics()
        #expect((after.inboundPackets, after.outboundPackets) == (10, 11))
        #expect((after.inboundBytes, after.outboundBytes) == (1000, 1001))
    }

    @Test("The notices of the kernel name whose SA they are about")
    func notices() throws {
        let (engine, _) = make()
        let pair = try pair("10.77.0.2", inbound: 0x1001, outbound: 0x2002)
        try engine.install(pair)
        #expect(engine.owner(destination: pair.inbound.peer.local, spi: 0x1001) == pair.inbound.peer)
        #expect(engine.owner(destination: pair.inbound.peer.remote, spi: 0x2002) == pair.inbound.peer)
        #expect(engine.owner(destination: pair.inbound.peer.remote, spi: 0x1001) == nil)
        var expire = NetlinkRequest(XFRM_MSG_EXPIRE)
        var notice = xfrm_user_expire()
        notice.state.id.spi = UInt32(0x2002).bigEndian
        notice.state.id.proto = 50
        notice.state.family = UInt16(AF_INET)
        notice.state.id.daddr = xfrm_address_t(pair.inbound.peer.remote)
        notice.state.saddr = xfrm_address_t(pair.inbound.peer.local)
        notice.state.mode = 0
        notice.hard = 1
        expire.append(notice)
        expire.finish(sequence: 0)
        let message = try #require(NetlinkMessage.parse(expire.bytes).first)
        guard case .hardExpired(let state) = XFRMNotice.decode(message) else {
            Issue.record("not read as a hard expiry")
            return
        }
        #expect(state.spi == 0x2002 && state.destination == pair.inbound.peer.remote)
    }
}
