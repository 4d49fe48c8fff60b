import NDCore
import NDWire
import Testing

@Suite struct CodecTests {
    static func message() -> ISAKMPMessage {
        let transforms = (1...3).map {
            Transform(
                number: UInt8($0), id: 1,
                attributes: [
                    DataAttribute(1, 7), DataAttribute(14, 256), DataAttribute(11, 1),
                    DataAttribute(12, number: 86400), DataAttribute(16384, bytes: [1, 2, 3]),
                ])
        }
        return ISAKMPMessage(
            header: ISAKMPHeader(initiatorCookie: 0x0102_0304_0506_0708, responderCookie: 9, exchangeType: .mainMode),
            payloads: [
                .securityAssociation(
                    SecurityAssociationPayload(proposals: [
                        Proposal(number: 1, protocolID: 1, spi: [], transforms: transforms),
                        Proposal(number: 2, protocolID: 3, spi: [1, 2, 3, 4], transforms: [transforms[0]]),
                    ])),
                .keyExchange([1, 2, 3]), .nonce([4, 5]), .hash([6]),
                .identification(IdentificationPayload(IPAddress(high: 0, low: 0xffff_0a00_0001))),
                Payload(.certificate, .certificate(encoding: 4, [1])),
                Payload(.signature, .signature([1]), reserved: 0x55),
                .notification(NotificationPayload(protocolID: 1, type: .initialContact, spi: [1, 2], data: [3])),
                .delete(DeletePayload(protocolID: 3, spiSize: 4, spis: [[1, 2, 3, 4], [5, 6, 7, 8]])),
                .vendorID(VendorID.natTraversal.bytes), Payload(.natDiscovery, .natDiscovery([1])),
                Payload(.natDiscoveryDraft, .natDiscovery([1, 9])),
                Payload(
                    .natOriginalAddress,
                    .natOriginalAddress(NATOriginalAddressPayload(IPAddress(high: 1, low: 2)))),
                Payload(PayloadType(rawValue: 200), .unknown([1, 2, 3])),
            ])
    }

    @Test func `every payload kind survives a round trip`() throws {
        let message = Self.message()
        let bytes = message.encode()
        let decoded = try ISAKMPMessage.decode(bytes)
        #expect(decoded.content == message.content)
        #expect(decoded.encode() == bytes)
    }

    @Test func `a message cut anywhere is refused`() {
        let bytes = Self.message().encode()
        for count in 0..<bytes.count {
            #expect(throws: WireError.self) { _ = try ISAKMPMessage.decode(Array(bytes.prefix(count))) }
            // with the header's length set right
            if count >= 28 {
                var cut = Array(bytes.prefix(count))
                cut[26] = UInt8(count >> 8)
                cut[27] = UInt8(count & 255)
                #expect(throws: WireError.self) { _ = try ISAKMPMessage.decode(cut) }
            }
        }
    }

    @Test func `whatever decodes encodes to the same bytes, one byte changed`() {
        let bytes = Self.message().encode()
        var accepted = 0
        for index in bytes.indices {
            for value in [UInt8(0), 1, 3, 4, 7, 0x7f, 0x80, 0xff, bytes[index] &+ 1, bytes[index] &- 1] {
                var changed = bytes
                changed[index] = value
                guard let decoded = try? ISAKMPMessage.decode(changed) else { continue }
                accepted += 1
                #expect(decoded.encode() == changed)
            }
        }
        #expect(accepted > 500)
    }

    @Test func `trailing bytes of a chain are kept`() throws {
        let chain = PayloadChain([.nonce([1, 2])], trailing: [0, 0, 0])
        #expect(try PayloadChain.decode(first: .nonce, chain.encode()) == chain)
    }

    @Test func `numbers compare by value, not by encoding`() {
        #expect(DataAttribute(12, 28800).number == DataAttribute(12, bytes: [0, 0, 0x70, 0x80]).number)
        #expect(DataAttribute(12, bytes: [UInt8](repeating: 0xff, count: 9)).number == nil)
        #expect(DataAttribute(12, bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).number == 1)
        #expect(DataAttribute(12, bytes: []).number == nil)
        #expect(DataAttribute(12, number: 0x10000).value == .long([0, 1, 0, 0]))
    }

    @Test func `limits refuse what is too much`() {
        func error(_ bytes: [UInt8], _ adjust: (inout WireLimits) -> Void) -> WireError? {
            var limits = WireLimits()
            adjust(&limits)
            do throws(WireError) {
                _ = try ISAKMPMessage.decode(bytes, limits: limits)
                return nil
            } catch { return error }
        }
        let bytes = Self.message().encode()
        #expect(error(bytes) { $0.messageBytes = bytes.count - 1 } == .messageTooLong)
        #expect(error(bytes) { $0.payloads = 13 } == .tooManyPayloads)
        #expect(error(bytes) { $0.payloads = 14 } == nil)
        #expect(error(bytes) { $0.proposals = 1 } == .tooManyProposals)
        #expect(error(bytes) { $0.transformsPerProposal = 2 } == .tooManyTransforms)
        #expect(error(bytes) { $0.attributesPerTransform = 4 } == .tooManyAttributes)
        #expect(error(bytes) { $0.spisPerDelete = 1 } == .tooManySPIs)
    }

    @Test func `chains that do not add up are refused`() {
        func error(_ body: [UInt8], first: PayloadType) -> WireError? {
            do throws(WireError) {
                _ = try PayloadChain.decode(first: first, body)
                return nil
            } catch { return error }
        }
        #expect(error([0, 0, 0, 3], first: .nonce) == .payloadTooShort)
        #expect(error([0, 0, 0, 9, 1], first: .nonce) == .payloadOverrun)
        #expect(error([10, 0, 0, 4], first: .nonce) == .truncated)
        // a notify whose SPI is longer than the payload
        #expect(error([0, 0, 0, 12, 0, 0, 0, 1, 1, 4, 0, 14], first: .notification) == .badSPISize)
        // a delete that claims two SPIs and has one
        #expect(error([0, 0, 0, 16, 0, 0, 0, 1, 3, 4, 0, 2, 1, 2, 3, 4], first: .delete) == .badSPISize)
        // one transform announced, none there
        #expect(
            error([0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8, 1, 1, 0, 1], first: .securityAssociation)
                == .truncated)
        // an attribute that overruns its transform
        #expect(
            error(
                [
                    0, 0, 0, 32, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 20, 1, 1, 0, 1, 0, 0, 0, 12, 1, 1, 0, 0, 0, 12, 0,
                    4,
                ], first: .securityAssociation) == .attributeOverrun)
        // bytes behind the last proposal
        #expect(
            error(
                [0, 0, 0, 21, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8, 1, 1, 0, 0, 7], first: .securityAssociation)
                == .bodyMismatch)
    }

    @Test func `vendor IDs match by prefix`() {
        #expect(VendorID(matching: VendorID.fragmentation.bytes + [0x80, 0, 0, 0]) == .fragmentation)
        #expect(VendorID(matching: VendorID.xauth.bytes) == .xauth)
        #expect(VendorID(matching: [1, 2, 3]) == nil)
        #expect(VendorID(matching: []) == nil)
        #expect(Set(VendorID.allCases.map(\.bytes)).count == VendorID.allCases.count)
    }
}
