import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

func pair(
    _ a: String = "10.0.0.1", _ b: String = "10.0.0.2", seed: UInt64 = 1,
    adjustA: (inout KeyingConfiguration) -> Void = { _ in }, adjustB: (inout KeyingConfiguration) -> Void = { _ in },
    both: (inout KeyingConfiguration) -> Void = { _ in }
) -> (SimulatedHost, SimulatedHost, SimulatedNetwork) {
    let a = SimulatedHost(a, seed: seed) {
        both(&$0)
        adjustA(&$0)
    }
    let b = SimulatedHost(b, seed: seed &+ 1000) {
        both(&$0)
        adjustB(&$0)
    }
    return (a, b, SimulatedNetwork(a, b))
}

let mainModeSuites: [MainModeSuite] = [128, 256].flatMap { bits in
    [HashAlgorithm.sha1, .sha256, .sha384].flatMap { hash in
        DHGroup.allCases.map { MainModeSuite(keyBits: bits, hash: hash, group: $0) }
    }
}
let quickModeSuites: [ESPSuite] = [
    .aesGCM16(keyBits: 128), .aesGCM16(keyBits: 256), .aesCBCHMACSHA256(keyBits: 128), .aesCBCHMACSHA256(keyBits: 256),
    .aesGCM16(keyBits: 192), .aesCBCHMACSHA256(keyBits: 192),
]

@Suite struct ExchangeTests {
    @Test func `a negotiation takes nine datagrams and the actions come in the order the engine needs`() throws {
        let (a, b, net) = pair()
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(net.sentCount == 9)
        #expect(net.bothWays(a, b))
        func names(_ host: SimulatedHost) -> [String] {
            host.log.compactMap {
                switch $0 {
                case .send: "send"
                case .install: "install"
                case .activateOutbound: "activate"
                case .established: "established"
                case .remove: "remove"
                case .failed: "failed"
                case .event: nil
                }
            }
        }
        // Message 3 of quick mode leaves before the first packet may.
        #expect(names(a) == ["send", "send", "send", "send", "install", "send", "activate", "established"])
        #expect(names(b) == ["send", "send", "send", "install", "send", "activate", "established"])
        let ea = try #require(a.established.first), eb = try #require(b.established.first)
        #expect(ea.role == .initiator && eb.role == .responder)
        #expect(ea.inboundSPI == eb.outboundSPI && ea.outboundSPI == eb.inboundSPI)
        #expect(ea.identity.description == "10.0.0.2" && eb.identity.description == "10.0.0.1")
        #expect(ea.peerNegotiationDiscovery && eb.peerNegotiationDiscovery)
        #expect(ea.elapsed == .milliseconds(80) && eb.elapsed == .milliseconds(80))
        #expect(a.machine.counters.dropped.allSatisfy { $0.value == 0 })
        #expect(b.machine.counters.malformed.allSatisfy { $0.value == 0 })
        #expect(a.machine.counters[.negotiationsSucceeded] == 1)
    }

    @Test(arguments: mainModeSuites)
    func `every main-mode suite works over both families with every ESP suite`(suite: MainModeSuite) throws {
        for (index, esp) in quickModeSuites.enumerated() {
            let v6 = index % 2 == 1
            let (a, b, net) = pair(
                v6 ? "fd00::1" : "10.0.0.1", v6 ? "fd00::2" : "10.0.0.2", seed: UInt64(index)
            ) {
                $0.pfsGroup = index < 2 ? suite.group : nil
                $0.forceUDPEncapsulation = index == 3 || index == 0
                $0.extendedSequenceNumbers = index != 2
            } both: {
                $0.mainModeSuites = [suite]
                $0.quickModeSuites = [esp]
            }
            net.negotiate(a, b)
            net.run(for: .seconds(1))
            let e = try #require(a.established.first, "\(suite) \(esp)")
            #expect(e.mainModeSuite == suite && e.quickModeSuite == esp)
            #expect(e.pfsGroup == (index < 2 ? suite.group : nil))
            #expect(e.extendedSequenceNumbers == (index != 2))
            let udp = ESPEncapsulation.udp(localPort: 4500, remotePort: 4500)
            #expect(e.encapsulation == (index == 3 || index == 0 ? udp : .native))
            #expect(b.established.first?.encapsulation == e.encapsulation)
            #expect(net.bothWays(a, b))
        }
    }

    @Test func `the responder's preference decides between common suites`() throws {
        let (a, b, net) = pair {
            $0.mainModeSuites = [
                MainModeSuite(keyBits: 128, hash: .sha1, group: .ecp256),
                MainModeSuite(keyBits: 256, hash: .sha384, group: .ecp384),
            ]
            $0.quickModeSuites = [.aesCBCHMACSHA256(keyBits: 128), .aesGCM16(keyBits: 256)]
        } adjustB: {
            $0.mainModeSuites = [
                MainModeSuite(keyBits: 256, hash: .sha384, group: .ecp384),
                MainModeSuite(keyBits: 128, hash: .sha1, group: .ecp256),
            ]
            $0.quickModeSuites = [.aesGCM16(keyBits: 256), .aesCBCHMACSHA256(keyBits: 128)]
        }
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        let e = try #require(a.established.first)
        #expect(e.mainModeSuite.group == .ecp384)
        #expect(e.quickModeSuite == .aesGCM16(keyBits: 256))
    }

    @Test(arguments: [(true, false), (false, true), (true, true)])
    func `either side can force UDP encapsulation`(a forceA: Bool, b forceB: Bool) throws {
        let (a, b, net) = pair(adjustA: { $0.forceUDPEncapsulation = forceA }, adjustB: { $0.forceUDPEncapsulation = forceB })
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        let udp = ESPEncapsulation.udp(localPort: 4500, remotePort: 4500)
        #expect(a.established.first?.encapsulation == udp)
        #expect(b.established.first?.encapsulation == udp)
        #expect(net.bothWays(a, b))
        // From message 5 on, with the non-ESP marker.
        #expect(a.sent.map(\.from.port) == [500, 500, 4500, 4500, 4500])
        #expect(a.sent.dropFirst(2).allSatisfy { $0.bytes.starts(with: [0, 0, 0, 0]) })
        #expect(b.sent.map(\.to.port) == [500, 500, 4500, 4500])
    }

    @Test func `without NAT traversal over IPv6 the encapsulation cannot be forced`() throws {
        let (a, b, net) = pair("fd00::1", "fd00::2") { $0.forceUDPEncapsulation = true } both: {
            $0.natTraversalOverIPv6 = false
        }
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(a.established.first?.encapsulation == .native)
        #expect(net.bothWays(a, b))
    }

    @Test func `a NAT on the path is found and the responder follows the mapped ports`() throws {
        let (a, b, net) = pair()
        let outside = address("10.0.0.77")
        net.translate = { packet in
            var packet = packet
            if packet.from.address == a.address {
                packet.from = Endpoint(outside, packet.from.port &+ 20000)
            } else if packet.to.address == outside {
                packet.to = Endpoint(a.address, packet.to.port &- 20000)
            }
            return packet
        }
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        let ea = try #require(a.established.first), eb = try #require(b.established.first)
        #expect(ea.encapsulation == .udp(localPort: 4500, remotePort: 4500))
        #expect(eb.encapsulation == .udp(localPort: 4500, remotePort: 24500))
        #expect(eb.peer.remote == outside)
        #expect(eb.identity.description == "10.0.0.1")
        // The initiator's original address comes in its IDs and in NAT-OA: accepted only so.
        #expect(ea.inboundSPI == eb.outboundSPI)
    }

    @Test func `draft NAT traversal numbers are used when only the draft is shared`() throws {
        let (a, b, net) = pair()
        let rfc = VendorID.natTraversal.bytes
        net.translate = { packet in
            // Strip the RFC's vendor ID by changing it.
            var packet = packet
            if let at = packet.bytes.indices.first(where: { packet.bytes[$0...].starts(with: rfc) }) {
                packet.bytes[at] ^= 0xff
            }
            return packet
        }
        a.machine.configuration.forceUDPEncapsulation = true
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(a.established.first?.encapsulation == .udp(localPort: 4500, remotePort: 4500))
        #expect(net.bothWays(a, b))
        let three = try ISAKMPMessage.decode(a.sent[1].bytes)
        guard case .clear(let chain) = three.content else { throw WireError.encryptedBlock }
        #expect(chain.all(.natDiscoveryDraft).count == 2)
    }

    @Test(arguments: [
        (false, false, false), (true, false, false), (false, true, false), (true, true, true), (false, false, true),
    ])
    func `boundary and guaranteed encryption reach the other side`(a: Bool, b: Bool, guarantee: Bool) throws {
        let (x, y, net) = pair {
            $0.boundary = a
            $0.guaranteeEncryption = guarantee
        } adjustB: {
            $0.boundary = b
        }
        net.negotiate(x, y)
        net.run(for: .seconds(1))
        let ex = try #require(x.established.first), ey = try #require(y.established.first)
        #expect(ey.peerBoundary == a && ex.peerBoundary == b)
        #expect(ex.guaranteeEncryption == guarantee && ey.guaranteeEncryption == guarantee)
    }

    @Test func `EXCHANGE_INFO flags are the last four bytes whatever stands before`() {
        func flags(_ spi: [UInt8], _ data: [UInt8]) -> ExchangeInfo {
            ExchangeInfo(
                PayloadChain([
                    .notification(NotificationPayload(protocolID: 3, type: .exchangeInfo, spi: spi, data: data))
                ]))
        }
        #expect(flags([], [0, 0, 0, 1]) == .boundary)
        #expect(flags([1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 2]) == .guaranteeEncryption)
        #expect(flags([1, 2, 3, 4], [9, 9, 9, 9, 0, 0, 0, 3]) == [.boundary, .guaranteeEncryption])
        #expect(flags([1, 2, 3, 4, 0, 0, 0, 1], []) == .boundary)
        #expect(flags([], [1]) == [])
        #expect(flags([], [0xff, 0, 0, 4]).isDisjoint(with: [.boundary, .guaranteeEncryption]))
        let microsoft = PeerTraits([.microsoftISAKMPOakley, .negotiationDiscovery], own: [])
        let payload = ExchangeInfo.boundary.payload(to: microsoft, inboundSPI: 0x0102_0304, messageID: 7)
        #expect(payload?.encodeBody().count == 20)
        #expect(ExchangeInfo.boundary.payload(to: PeerTraits([], own: []), inboundSPI: 1, messageID: 1) == nil)
    }

    @Test func `a second negotiation uses the main-mode SA`() throws {
        let (a, b, net) = pair()
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(net.sentCount == 12)
        #expect(a.established.count == 2 && a.machine.mainModes.count == 1)
        // and the other way round
        net.negotiate(b, a)
        net.run(for: .seconds(1))
        #expect(b.established.count == 3 && net.sentCount == 15)
        #expect(net.bothWays(a, b))
    }

    @Test func `negotiate is idle while a negotiation is under way`() {
        let (a, b, net) = pair()
        net.negotiate(a, b)
        net.negotiate(a, b)
        #expect(net.sentCount == 1)
        net.run(for: .seconds(1))
        #expect(a.established.count == 1)
    }

    @Test func `contexts of one peer share the main mode and end each for itself`() {
        let (a, b, net) = pair()
        for context in 0..<3 {
            let peer = PeerKey(local: a.address, remote: b.address, context: UInt32(context))
            net.apply(a, a.machine.negotiate(peer, now: net.now))
        }
        net.run(for: .seconds(1))
        #expect(a.established.map(\.peer.context).sorted() == [0, 1, 2])
        #expect(a.machine.counters[.mainModesInitiated] == 1)
    }

    @Test func `the key log gives what a dissector needs`() throws {
        final class Log: @unchecked Sendable { var entries: [KeyLogEntry] = [] }
        let log = Log()
        let (a, b, net) = pair { $0.keyLog = { log.entries.append($0) } }
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(log.entries.count == 3)
        guard case .isakmp(let cookie, let key) = log.entries[0] else {
            Issue.record("no ISAKMP key")
            return
        }
        #expect(cookie == Array(a.sent[0].bytes.prefix(8)))
        #expect(key.count == 16)
    }

    @Test func `lifetimes are the shorter of both, in either encoding`() throws {
        let (a, b, net) = pair {
            $0.quickModeLifetime = .seconds(7200)
            $0.mainModeLifetime = .seconds(1_000_000)
            $0.quickModeLifetimeKilobytes = 70_000
        } adjustB: {
            $0.quickModeLifetime = .seconds(100_000)
            $0.mainModeLifetime = .seconds(600)
            $0.rekey = .never
        }
        net.negotiate(a, b)
        net.run(for: .seconds(1))
        #expect(a.established.first?.lifetime == .seconds(7200))
        #expect(b.established.first?.lifetime == .seconds(7200))
        #expect(b.established.first?.lifetimeKilobytes == 70_000)
        net.run(for: .seconds(700))
        // Each side ends its part by its own clock and tells the other.
        #expect(b.machine.mainModes.isEmpty)
        #expect(a.machine.quickModes.count == 1)
    }

    @Test func `a keepalive byte and foreign datagrams change nothing`() {
        let (a, b, net) = pair()
        let local = Endpoint(a.address, 4500), remote = Endpoint(b.address, 4500)
        #expect(a.machine.receive([0xff], local: local, remote: remote, now: net.now).isEmpty)
        #expect(a.machine.counters[.keepalivesReceived] == 1)
        #expect(a.machine.receive([1, 2, 3, 4, 5], local: local, remote: remote, now: net.now).isEmpty)
        #expect(a.machine.counters[.notISAKMP] == 1)
        #expect(a.machine.receive([], local: local, remote: remote, now: net.now).isEmpty)
    }
}
