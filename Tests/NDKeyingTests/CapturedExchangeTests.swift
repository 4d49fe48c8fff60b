import Foundation
import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

/// Two strongSwan 5.9.8 peers on the wire, keys included: the production code must see every value.
struct Capture {
    let name: String
    let v: [String: String]

    init(_ name: String) throws {
        let url = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("Fixtures/\(name).txt")
        self.name = name
        v = try #require(VectorFile(String(contentsOf: url, encoding: .utf8)).cases[name])
    }

    func bytes(_ field: String) throws -> [UInt8] { hex(try #require(v[field], "\(name) \(field)")) }
    var packets: [(number: Int, bytes: [UInt8])] {
        v.compactMap { key, value in
            guard key.hasPrefix("pkt"), key.hasSuffix("_i2r") || key.hasSuffix("_r2i") else { return nil }
            return Int(key.dropFirst(3).prefix { $0.isNumber }).map { ($0, hex(value)) }
        }.sorted { $0.number < $1.number }
    }

    func packet(_ number: Int) throws -> ISAKMPMessage {
        let bytes = try #require(packets.first { $0.number == number }?.bytes)
        return try ISAKMPMessage.decode(bytes)
    }

    func chain(_ number: Int) throws -> PayloadChain {
        guard case .clear(let chain) = try packet(number).content else { throw WireError.encryptedBlock }
        return chain
    }

    /// What main mode agreed on, from the clear packets and g^xy alone.
    func agreed() throws -> AgreedKeys {
        let header = try packet(2).header
        let sa = try #require(try chain(1).securityAssociation)
        let (suite, lifetime) = try MainModeProposal.accept(
            #require(try chain(2).securityAssociation),
            offered: sa.proposals[0].transforms.compactMap(MainModeProposal.parse))
        let cookies = CookiePair(initiator: header.initiatorCookie, responder: header.responderCookie)
        let own: [VendorID] = [.natTraversal, .natTraversalDraft02Newline]
        let proposal = AgreedProposal(
            cookies: cookies, suite: suite, lifetime: lifetime,
            initiatorSABody: Payload.securityAssociation(sa).encodeBody(),
            traits: PeerTraits(try chain(2).vendorIDs, own: own),
            preSharedKey: SecretBytes(Array(try #require(v["psk_ascii"]).utf8)))
        let three = try chain(3), four = try chain(4)
        return try AgreedKeys(
            proposal, initiatorPublic: #require(three.keyExchange), responderPublic: #require(four.keyExchange),
            initiatorNonce: three.checkedNonce(), responderNonce: four.checkedNonce(),
            sharedSecret: SecretBytes(bytes("gxy")), nat: NATDiscovery())
    }
}

private func plain(_ secret: SecretBytes) -> [UInt8] { secret.withUnsafeBytes { Array($0) } }

@Suite struct CapturedExchangeTests {
    static let names = ["v1cbc", "v1gcm"]

    @Test(arguments: names)
    func `every packet and every plaintext re-encodes byte for byte`(name: String) throws {
        let capture = try Capture(name)
        #expect(capture.packets.count >= 9)
        for (number, bytes) in capture.packets {
            let message = try ISAKMPMessage.decode(bytes)
            #expect(message.encode() == bytes)
            guard capture.v["pkt\(number)_plain"] != nil else { continue }
            let plaintext = try capture.bytes("pkt\(number)_plain")
            let chain = try PayloadChain.decode(first: message.header.nextPayload, plaintext)
            #expect(chain.encode() == plaintext)
        }
    }

    @Test(arguments: names)
    func `keys and IVs are the captured ones`(name: String) throws {
        let capture = try Capture(name)
        let agreed = try capture.agreed()
        #expect(agreed.proposal.suite.hash.rawValue == capture.v["hash"])
        #expect(plain(agreed.keys.skeyid) == (try capture.bytes("SKEYID")))
        #expect(plain(agreed.keys.skeyidD) == (try capture.bytes("SKEYID_d")))
        #expect(plain(agreed.keys.skeyidA) == (try capture.bytes("SKEYID_a")))
        #expect(plain(agreed.keys.skeyidE) == (try capture.bytes("SKEYID_e")))
        #expect(plain(agreed.encryptionKey) == (try capture.bytes("Ka")))
        #expect(try agreed.firstIV() == capture.bytes("IV_mm5"))
    }

    @Test(arguments: names)
    func `NAT discovery sees no NAT on the captured path`(name: String) throws {
        let capture = try Capture(name)
        let agreed = try capture.agreed()
        let i = Endpoint(address(try #require(capture.v["ip_i"])), 500)
        let r = Endpoint(address(try #require(capture.v["ip_r"])), 500)
        for (number, local, remote) in [(3, r, i), (4, i, r)] {
            let nat = try NATDiscovery(
                received: capture.chain(number).natDiscoveries, hash: agreed.proposal.suite.hash,
                cookies: agreed.proposal.cookies, local: local, remote: remote, forced: false)
            #expect(nat == NATDiscovery())
        }
        let moved = try NATDiscovery(
            received: capture.chain(3).natDiscoveries, hash: agreed.proposal.suite.hash,
            cookies: agreed.proposal.cookies, local: r, remote: Endpoint(i.address, 501), forced: false)
        #expect(moved.remoteBehindNAT && !moved.localBehindNAT)
    }

    @Test(arguments: names)
    func `messages 5 and 6 decrypt, authenticate and are rebuilt`(name: String) throws {
        let capture = try Capture(name)
        let agreed = try capture.agreed()
        let five = try agreed.open(capture.packet(5), iv: agreed.firstIV(), limits: WireLimits())
        #expect(five.chain.encode() == (try capture.bytes("pkt5_plain")))
        #expect(five.lastBlock == (try capture.bytes("pkt6_iv")))
        let initiator = try agreed.authenticate(
            five.chain, peerIsInitiator: true, remote: address(#require(capture.v["ip_i"])))
        #expect(initiator.description == capture.v["ip_i"])
        #expect(five.chain.notifications.map(\.type) == [.initialContact])
        let six = try agreed.open(capture.packet(6), iv: five.lastBlock, limits: WireLimits())
        #expect(six.chain.encode() == (try capture.bytes("pkt6_plain")))
        let responder = try agreed.authenticate(
            six.chain, peerIsInitiator: false, remote: address(#require(capture.v["ip_r"])))
        #expect(responder.description == capture.v["ip_r"])
        // Our padding is minimal, strongSwan's sometimes a block longer: compare the common part.
        let rebuilt = try agreed.seal(five.chain.payloads, iv: agreed.firstIV())
        #expect(rebuilt.message.prefix(64).dropFirst(28) == capture.packets[4].bytes.prefix(64).dropFirst(28))
    }

    @Test(arguments: names)
    func `quick mode's hashes, IVs and KEYMAT are the captured ones`(name: String) throws {
        let capture = try Capture(name)
        let association = try association(capture)
        let limits = WireLimits()
        let seven = try capture.packet(7)
        let mid = [UInt8](u32: seven.header.messageID)
        let iv = try association.firstIV(messageID: seven.header.messageID)
        #expect(iv == (try capture.bytes("pkt7_iv")))
        let one = try association.open(seven, iv: iv, limits: limits)
        #expect(one.chain.encode() == (try capture.bytes("pkt7_plain")))
        try association.verify(one, seed: mid)
        #expect(one.nextIV == (try capture.bytes("pkt8_iv")))
        let ni = try one.chain.checkedNonce()
        let two = try association.open(capture.packet(8), iv: one.nextIV, limits: limits)
        #expect(two.chain.encode() == (try capture.bytes("pkt8_plain")))
        try association.verify(two, seed: mid + ni)
        #expect(two.nextIV == (try capture.bytes("pkt9_iv")))
        let nr = try two.chain.checkedNonce()
        let answered = QuickModeAnswered(inboundSPI: 0x0200_0000, initiatorNonce: ni, responderNonce: nr, iv: two.nextIV)
        try answered.receive(
            capture.packet(9),
            QuickModeContext(
                configuration: testConfiguration(), random: SeededRandom(1), association: association,
                messageID: seven.header.messageID))
        // strongSwan offers no lifetime and adds one to its answer: both are ours to read.
        var configuration = testConfiguration()
        let group: DHGroup? = name == "v1gcm" ? .ecp384 : nil
        configuration.pfsGroup = group
        let offered = try QuickModeProposal.choose(
            #require(one.chain.securityAssociation), configuration, udp: nil)
        let accepted = try QuickModeProposal.accept(
            #require(two.chain.securityAssociation), configuration, pfsGroup: group, udp: nil)
        #expect(offered.parameters == accepted.parameters)
        #expect(offered.lifetime.seconds == nil && accepted.lifetime.seconds == 28_800)
        let suite = accepted.parameters.suite
        #expect(suite == (name == "v1gcm" ? .aesGCM16(keyBits: 256) : .aesCBCHMACSHA256(keyBits: 128)))
        let shared = capture.v["qm_gxy"].map { SecretBytes(hex($0)) }
        for side in ["initiator", "responder"] {
            let keymat = try association.keys.keymat(
                protocolID: ProtocolID.esp, spi: capture.bytes("qm_to_\(side)_spi"), initiatorNonce: ni,
                responderNonce: nr, sharedSecret: shared, bytes: suite.keymatBytes)
            #expect(plain(keymat) == (try capture.bytes("qm_to_\(side)_keymat")))
        }
    }

    @Test func `the captured deletes verify and name what they delete`() throws {
        let capture = try Capture("v1cbc")
        let association = try association(capture)
        for (number, spi) in [(13, [UInt8](u32: 0x0100_0000)), (15, association.cookies.bytes)] {
            let message = try capture.packet(number)
            let iv = try association.firstIV(messageID: message.header.messageID)
            #expect(iv == (try capture.bytes("pkt\(number)_iv")))
            let opened = try association.open(message, iv: iv, limits: WireLimits())
            try association.verify(opened, seed: [UInt8](u32: message.header.messageID))
            #expect(opened.chain.deletes.flatMap(\.spis) == [spi])
        }
    }

    private func association(_ capture: Capture) throws -> ISAKMPAssociation {
        let agreed = try capture.agreed()
        guard case .encrypted(let six) = try capture.packet(6).content else { throw WireError.encryptedBlock }
        return ISAKMPAssociation(
            agreed, identity: AuthenticatedIdentity(name: .fqdn("capture"), method: .preSharedKey),
            role: .responder, lastBlock: Array(six.suffix(16)))
    }
}
