import NDCore
import NDCrypto
import NDWire
import Testing

@testable import NDKeying

/// An exchange message by message: each datagram with the receiver as it was just before. Machines
/// are values, so a state can be tried as often as needed.
struct Recording {
    struct Step {
        var bytes: [UInt8]
        var from: Endpoint
        var to: Endpoint
        var now: Instant
        var receiver: KeyingMachine
        var sender: KeyingMachine
    }

    var steps: [Step] = []

    init(seed: UInt64 = 1, _ adjust: (inout KeyingConfiguration) -> Void = { _ in }) {
        let (a, b, net) = pair(seed: seed, both: adjust)
        net.negotiate(a, b)
        while !net.flying.isEmpty {
            let packet = net.take(0)
            let (receiver, sender) = packet.to.address == a.address ? (a, b) : (b, a)
            steps.append(
                Step(
                    bytes: packet.bytes, from: packet.from, to: packet.to, now: net.now,
                    receiver: receiver.machine, sender: sender.machine))
            net.deliver(packet)
        }
    }
}

extension MessageIDHistory {
    /// False when `mode` has meanwhile used up the datagram's message id, which this history had not.
    func contains(mode: MainMode, _ datagram: [UInt8]) -> Bool {
        guard let header = try? ISAKMPMessage.decode(datagram).header, header.messageID != 0 else { return true }
        return contains(header.messageID) || !mode.messageIDs.contains(header.messageID)
    }
}

@Suite struct BadInputTests {
    static let recording = Recording { $0.pfsGroup = .ecp256 }

    private func state(_ machine: KeyingMachine) -> [String] {
        machine.mainModes.map(\.state).sorted() + machine.quickModes.map(\.state).sorted()
            + ["\(machine.negotiations.count)"]
    }

    private func refusals(_ machine: KeyingMachine) -> UInt64 {
        machine.counters.dropped.values.reduce(0, +) + machine.counters.malformed.values.reduce(0, +)
    }

    /// Feeds a bad datagram: no state may change, it must be counted, and the good one must still work.
    ///
    /// Except where the bad one was authenticated: then its message id is used up.
    private func refuse(_ step: Recording.Step, _ bytes: [UInt8], _ what: String) {
        var machine = step.receiver
        let before = state(machine), counted = refusals(machine)
        let actions = machine.receive(bytes, local: step.to, remote: step.from, now: step.now)
        for action in actions {
            switch action {
            case .send, .event: break
            default: Issue.record("\(what): \(action)")
            }
        }
        #expect(state(machine) == before, "\(what)")
        #expect(refusals(machine) > counted, "\(what) not counted")
        var untouched = step.receiver
        let expected = untouched.receive(step.bytes, local: step.to, remote: step.from, now: step.now)
        let usedUp = machine.mainModeRecords.values.contains { mode in
            !(step.receiver.mainModeRecords[mode.id]?.messageIDs.contains(mode: mode, step.bytes) ?? true)
        }
        if usedUp { return }
        let after = machine.receive(step.bytes, local: step.to, remote: step.from, now: step.now)
        #expect(after.count == expected.count, "\(what) spoilt the exchange")
    }

    /// The message's payloads, decrypted with the sender's keys where needed.
    private func open(_ step: Recording.Step, _ index: Int) throws -> (ISAKMPMessage, PayloadChain, iv: [UInt8]) {
        let message = try ISAKMPMessage.decode(step.bytes)
        if case .clear(let chain) = message.content { return (message, chain, []) }
        let limits = WireLimits()
        if message.header.exchangeType == .mainMode {
            let (agreed, iv) = try mainModeKeys(index)
            return (message, try agreed.open(message, iv: iv, limits: limits).chain, iv)
        }
        let association = try association()
        let iv = try phaseTwoIV(index, association, message.header.messageID)
        return (message, try association.open(message, iv: iv, limits: limits).chain, iv)
    }

    private func mainModeKeys(_ index: Int) throws -> (AgreedKeys, [UInt8]) {
        let machine = Self.recording.steps[5].receiver
        guard case .negotiating(.identitySent(let state))? = machine.mainModeRecords.values.first?.phase else {
            throw WireError.encryptedBlock
        }
        return (state.agreed, index == 4 ? try state.agreed.firstIV() : state.iv)
    }

    private func association() throws -> ISAKMPAssociation {
        try #require(Self.recording.steps[6].sender.mainModeRecords.values.first?.association)
    }

    private func phaseTwoIV(_ index: Int, _ association: ISAKMPAssociation, _ mid: UInt32) throws -> [UInt8] {
        index == 6 ? try association.firstIV(messageID: mid) : Array(Self.recording.steps[index - 1].bytes.suffix(16))
    }

    /// Rebuilds the message with other payloads; in quick mode the hash is made right again, so that
    /// what is wrong is only what was changed.
    private func seal(_ index: Int, _ message: ISAKMPMessage, _ payloads: [Payload], iv: [UInt8]) throws -> [UInt8] {
        if case .clear = message.content { return ISAKMPMessage(header: message.header, payloads: payloads).encode() }
        if message.header.exchangeType == .mainMode {
            return try mainModeKeys(index).0.seal(payloads, iv: iv).message
        }
        let association = try association()
        var iv = iv
        var payloads = payloads
        if index < 8, case .hash? = payloads.first?.body {
            var seed = [UInt8](u32: message.header.messageID)
            if index == 7, case .offered(let state)? = Self.recording.steps[7].receiver.quickModeRecords.values.first?.phase {
                seed += state.nonce
            }
            let rest = Array(payloads.dropFirst())
            payloads[0] = .hash(try association.authenticator(seed + PayloadChain(rest).encode()))
        }
        return try association.seal(payloads, exchange: .quickMode, messageID: message.header.messageID, iv: &iv)
    }

    @Test func `the recording has nine messages`() {
        #expect(Self.recording.steps.count == 9)
    }

    @Test(arguments: 0..<9)
    func `a message cut anywhere is refused`(index: Int) {
        let step = Self.recording.steps[index]
        for count in stride(from: 0, to: step.bytes.count, by: 3) {
            refuse(step, Array(step.bytes.prefix(count)), "message \(index) cut to \(count)")
            guard count >= 28 else { continue }
            var cut = Array(step.bytes.prefix(count))
            cut[24] = 0
            cut[25] = 0
            cut[26] = UInt8(count >> 8)
            cut[27] = UInt8(count & 255)
            refuse(step, cut, "message \(index) cut to \(count), length right")
        }
        refuse(step, step.bytes + [0], "one byte more")
    }

    @Test(arguments: 0..<9)
    func `each payload missing is refused unless it is optional`(index: Int) throws {
        let step = Self.recording.steps[index]
        let (message, chain, iv) = try open(step, index)
        let optional: Set<PayloadType> = [.vendorID, .natDiscovery, .notification]
        for (position, payload) in chain.payloads.enumerated() where !optional.contains(payload.type) {
            var payloads = chain.payloads
            payloads.remove(at: position)
            if index == 8 { continue }  // nothing would be left to encrypt
            refuse(step, try seal(index, message, payloads, iv: iv), "message \(index + 1) without \(payload.type)")
        }
    }

    @Test(arguments: 0..<9)
    func `each payload doubled is refused unless it may repeat`(index: Int) throws {
        let step = Self.recording.steps[index]
        let (message, chain, iv) = try open(step, index)
        let repeatable: Set<PayloadType> = [.vendorID, .natDiscovery, .notification]
        for (position, payload) in chain.payloads.enumerated() where !repeatable.contains(payload.type) {
            var payloads = chain.payloads
            payloads.insert(payload, at: position)
            refuse(step, try seal(index, message, payloads, iv: iv), "message \(index + 1) with two \(payload.type)")
        }
    }

    @Test(arguments: 0..<9)
    func `payload bodies too short or too long are refused`(index: Int) throws {
        let step = Self.recording.steps[index]
        let (message, chain, iv) = try open(step, index)
        let free: Set<PayloadType> = [.vendorID, .natDiscovery, .notification]
        for (position, payload) in chain.payloads.enumerated() where !free.contains(payload.type) {
            let body = payload.encodeBody()
            for changed in [[], Array(body.prefix(1)), Array(body.dropLast()), body + [0], body + [UInt8](repeating: 1, count: 300)] {
                // A nonce of another length is another valid nonce where no hash covers it.
                if payload.type == .nonce, (8...256).contains(changed.count), index < 8 { continue }
                var payloads = chain.payloads
                payloads[position] = Payload(payload.type, .unknown(changed))
                refuse(
                    step, try seal(index, message, payloads, iv: iv),
                    "message \(index + 1) with \(payload.type.rawValue) of \(changed.count)")
            }
        }
    }

    @Test(arguments: [2, 3, 6, 7])
    func `trivial and foreign public values are refused`(index: Int) throws {
        let step = Self.recording.steps[index]
        let (message, chain, iv) = try open(step, index)
        let position = try #require(chain.payloads.firstIndex { $0.type == .keyExchange })
        var off = try #require(chain.keyExchange)
        off[63] ^= 1
        for value in [[UInt8](repeating: 0, count: 64), off, [UInt8](repeating: 0xff, count: 64), [], [4] + off, [UInt8](repeating: 3, count: 256)] {
            var payloads = chain.payloads
            payloads[position] = .keyExchange(value)
            refuse(step, try seal(index, message, payloads, iv: iv), "KE in message \(index + 1)")
        }
    }

    @Test func `trivial MODP values are refused in main mode`() throws {
        let recording = Recording { $0.mainModeSuites = [MainModeSuite(keyBits: 128, hash: .sha256, group: .modp2048)] }
        var one = [UInt8](repeating: 0, count: 256)
        one[255] = 1
        let p = hex(
            "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e462e36ce3be39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa051015728e5a8aacaa68ffffffffffffffff"
        )
        var below = p
        below[255] -= 1
        for index in [2, 3] {
            let step = recording.steps[index]
            let message = try ISAKMPMessage.decode(step.bytes)
            guard case .clear(let chain) = message.content else { throw WireError.encryptedBlock }
            for value in [[UInt8](repeating: 0, count: 256), one, below, p, Array(p.dropFirst())] {
                var payloads = chain.payloads
                payloads[0] = .keyExchange(value)
                refuse(step, ISAKMPMessage(header: message.header, payloads: payloads).encode(), "MODP KE")
            }
        }
    }

    @Test(arguments: [4, 5, 6, 7, 8])
    func `a wrong hash or any changed ciphertext is refused`(index: Int) throws {
        let step = Self.recording.steps[index]
        for position in stride(from: 28, to: step.bytes.count, by: 7) {
            var changed = step.bytes
            changed[position] ^= 0x10
            // Padding is not covered by anything: a change there alone goes unnoticed and harms nothing.
            guard position < step.bytes.count - 32 else { continue }
            refuse(step, changed, "message \(index + 1) changed at \(position)")
        }
        let (message, chain, iv) = try open(step, index)
        for wrong in [[UInt8](repeating: 0, count: 32), [], [UInt8](repeating: 0, count: 31)] {
            let payloads = chain.payloads.map { $0.type == .hash ? Payload.hash(wrong) : $0 }
            var iv = iv
            let bytes =
                index < 6
                ? try mainModeKeys(index).0.seal(payloads, iv: iv).message
                : try association().seal(
                    payloads, exchange: .quickMode, messageID: message.header.messageID, iv: &iv)
            refuse(step, bytes, "message \(index + 1) with a hash of \(wrong.count)")
        }
    }

    @Test(arguments: 0..<9)
    func `header fields that do not belong are refused`(index: Int) {
        let step = Self.recording.steps[index]
        func changed(_ what: String, _ body: (inout [UInt8]) -> Void) {
            var bytes = step.bytes
            body(&bytes)
            refuse(step, bytes, "message \(index + 1): \(what)")
        }
        changed("version 2") { $0[17] = 0x20 }
        changed("version 1.1") { $0[17] = 0x11 }
        changed("no initiator cookie") { for i in 0..<8 { $0[i] = 0 } }
        changed("encryption flag") { $0[19] ^= 1 }
        changed("exchange 0") { $0[18] = 0 }
        changed("aggressive mode") { $0[18] = 4 }
        changed("AuthIP") { $0[18] = 243 }
        if index > 0 {
            changed("another initiator cookie") { $0[3] ^= 1 }
            changed("another responder cookie") { if index != 1 { $0[11] ^= 1 } else { $0[3] ^= 1 } }
        }
        if index < 6 { changed("message id in main mode") { $0[20] = 1 } }
        if index >= 6 { changed("message id 0") { for i in 20..<24 { $0[i] = 0 } } }
    }

    @Test(arguments: 1..<9)
    func `the right message from the wrong address is refused`(index: Int) {
        let step = Self.recording.steps[index]
        var machine = step.receiver
        let before = state(machine)
        _ = machine.receive(
            step.bytes, local: step.to, remote: Endpoint(address("10.6.6.6"), 500), now: step.now)
        #expect(state(machine) == before)
    }

    @Test func `every message in every wrong state changes nothing`() {
        let steps = Self.recording.steps
        for (at, situation) in steps.enumerated() {
            for machine in [situation.receiver, situation.sender] {
                for (number, step) in steps.enumerated() where number != at {
                    // The sender of one message is in the right state for the next.
                    if number == at + 1, machine.mainModes.count == situation.sender.mainModes.count,
                        step.to == situation.from
                    { continue }
                    // Message 1 to a host without state opens an exchange: that is its right.
                    if number == 0, machine.mainModes.isEmpty { continue }
                    var machine = machine
                    let before = state(machine)
                    let actions = machine.receive(step.bytes, local: step.to, remote: step.from, now: step.now)
                    for action in actions {
                        switch action {
                        case .send, .event: break
                        default: Issue.record("message \(number + 1) before message \(at + 1): \(action)")
                        }
                    }
                    #expect(state(machine) == before, "message \(number + 1) before message \(at + 1)")
                }
            }
        }
    }

    @Test func `selectors other than the two hosts are refused`() throws {
        let step = Self.recording.steps[6]
        let (message, chain, iv) = try open(step, 6)
        let positions = chain.payloads.indices.filter { chain.payloads[$0].type == .identification }
        #expect(positions.count == 2)
        let bad: [IdentificationPayload] = [
            IdentificationPayload(address("10.0.0.9")),
            IdentificationPayload(type: 4, data: [10, 0, 0, 0, 255, 255, 255, 0]),
            IdentificationPayload(type: 1, protocolID: 6, port: 0, data: [10, 0, 0, 1]),
            IdentificationPayload(type: 1, protocolID: 0, port: 80, data: [10, 0, 0, 1]),
            IdentificationPayload(type: 2, data: Array("host".utf8)),
            IdentificationPayload(address("fd00::1")),
        ]
        for id in bad {
            for position in positions {
                var payloads = chain.payloads
                payloads[position] = .identification(id)
                refuse(step, try seal(6, message, payloads, iv: iv), "selector \(id)")
            }
        }
        // Both absent: the outer addresses are meant.
        var machine = step.receiver
        let actions = machine.receive(
            try seal(6, message, chain.payloads.filter { $0.type != .identification }, iv: iv), local: step.to,
            remote: step.from, now: step.now)
        #expect(actions.contains { if case .install = $0 { true } else { false } })
    }

    @Test func `SPIs below 256, foreign protocols and AND-ed proposals are refused`() throws {
        for index in [6, 7] {
            let step = Self.recording.steps[index]
            let (message, chain, iv) = try open(step, index)
            let position = try #require(chain.payloads.firstIndex { $0.type == .securityAssociation })
            let sa = try #require(chain.securityAssociation)
            func tryOut(_ what: String, _ body: (inout SecurityAssociationPayload) -> Void) throws {
                var changed = sa
                body(&changed)
                var payloads = chain.payloads
                payloads[position] = .securityAssociation(changed)
                refuse(step, try seal(index, message, payloads, iv: iv), what)
            }
            try tryOut("SPI 255") { $0.proposals[0].spi = [0, 0, 0, 255] }
            try tryOut("SPI 0") { $0.proposals[0].spi = [0, 0, 0, 0] }
            try tryOut("short SPI") { $0.proposals[0].spi = [1, 2] }
            try tryOut("AH") { $0.proposals[0].protocolID = ProtocolID.ah }
            try tryOut("AH and ESP") {
                var ah = $0.proposals[0]
                ah.protocolID = ProtocolID.ah
                $0.proposals.append(ah)
            }
            try tryOut("no transform") { $0.proposals[0].transforms = [] }
            try tryOut("no proposal left") { $0.proposals[0].transforms = [Transform(number: 1, id: 2, attributes: [])] }
            try tryOut("foreign DOI") {
                $0.doi = 7
                if index == 7 { $0.proposals[0].spi = [0, 0, 0, 1] }
            }
            try tryOut("tunnel mode") {
                for i in $0.proposals[0].transforms.indices {
                    $0.proposals[0].transforms[i].attributes = $0.proposals[0].transforms[i].attributes.map {
                        $0.type == 4 ? DataAttribute(4, 1) : $0
                    }
                }
            }
        }
        // The responder must answer with exactly one transform.
        let step = Self.recording.steps[7]
        let (message, chain, iv) = try open(step, 7)
        var payloads = chain.payloads
        var sa = try #require(chain.securityAssociation)
        sa.proposals[0].transforms += sa.proposals[0].transforms
        payloads[1] = .securityAssociation(sa)
        refuse(step, try seal(7, message, payloads, iv: iv), "two transforms chosen")
    }

    @Test func `unknown attributes, payloads and notifies are no obstacle`() throws {
        let step = Self.recording.steps[6]
        let (message, chain, iv) = try open(step, 6)
        var payloads = chain.payloads
        var sa = try #require(chain.securityAssociation)
        for i in sa.proposals[0].transforms.indices {
            sa.proposals[0].transforms[i].attributes += [DataAttribute(999, 1), DataAttribute(998, bytes: [1, 2, 3])]
        }
        payloads[1] = .securityAssociation(sa)
        payloads.append(Payload(PayloadType(rawValue: 201), .unknown([1, 2, 3])))
        payloads.append(.notification(NotificationPayload(protocolID: 3, type: NotifyType(rawValue: 50_000))))
        var machine = step.receiver
        let actions = machine.receive(
            try seal(6, message, payloads, iv: iv), local: step.to, remote: step.from, now: step.now)
        #expect(actions.contains { if case .install = $0 { true } else { false } })
    }

    @Test func `our own message 1 reflected is dropped`() {
        let step = Self.recording.steps[0]
        var machine = step.sender
        let actions = machine.receive(step.bytes, local: step.from, remote: step.to, now: step.now)
        #expect(actions.isEmpty && machine.counters[.reflected] == 1)
    }
}
