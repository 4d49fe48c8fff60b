/// RFC 2408 §3.4 with the IPsec DOI's situation (RFC 2407 §4.6.1).
public struct SecurityAssociationPayload: Hashable, Sendable {
    public static let ipsecDOI: UInt32 = 1
    public static let identityOnly: UInt32 = 1

    public var doi: UInt32
    public var situation: UInt32
    public var proposals: [Proposal]

    public init(proposals: [Proposal], doi: UInt32 = ipsecDOI, situation: UInt32 = identityOnly) {
        self.doi = doi
        self.situation = situation
        self.proposals = proposals
    }

    init(_ cursor: inout ByteCursor, limits: WireLimits) throws(WireError) {
        doi = try cursor.u32()
        situation = try cursor.u32()
        proposals = []
        var more = true
        while more {
            guard proposals.count < limits.proposals else { throw .tooManyProposals }
            let next = try cursor.u8()
            guard next == 0 || next == PayloadType.proposal.rawValue else { throw .badProposalChain }
            more = next != 0
            let reserved = try cursor.u8()
            let length = Int(try cursor.u16())
            guard length >= 8 else { throw .payloadTooShort }
            guard length - 4 <= cursor.remaining else { throw .payloadOverrun }
            var body = try cursor.sub(length - 4)
            proposals.append(try Proposal(reserved: reserved, &body, limits: limits))
            guard body.remaining == 0 else { throw .bodyMismatch }
        }
    }

    func encode() -> [UInt8] {
        var out: [UInt8] = []
        out.append(u32: doi)
        out.append(u32: situation)
        for (index, proposal) in proposals.enumerated() {
            let body = proposal.encodeBody()
            out.append(index + 1 < proposals.count ? PayloadType.proposal.rawValue : 0)
            out.append(proposal.reserved)
            out.append(u16: UInt16(truncatingIfNeeded: body.count + 4))
            out += body
        }
        return out
    }
}

public enum ProtocolID {
    public static let isakmp: UInt8 = 1
    public static let ah: UInt8 = 2
    public static let esp: UInt8 = 3
}

/// RFC 2408 §3.5. Equal numbers are to be taken together, different ones are alternatives.
public struct Proposal: Hashable, Sendable {
    public var number: UInt8
    public var protocolID: UInt8
    public var spi: [UInt8]
    public var transforms: [Transform]
    var reserved: UInt8 = 0

    public init(number: UInt8, protocolID: UInt8, spi: [UInt8], transforms: [Transform]) {
        self.number = number
        self.protocolID = protocolID
        self.spi = spi
        self.transforms = transforms
    }

    init(reserved: UInt8, _ cursor: inout ByteCursor, limits: WireLimits) throws(WireError) {
        self.reserved = reserved
        number = try cursor.u8()
        protocolID = try cursor.u8()
        let spiSize = Int(try cursor.u8())
        let count = Int(try cursor.u8())
        guard spiSize <= 16 else { throw .badSPISize }
        spi = try cursor.take(spiSize)
        guard count <= limits.transformsPerProposal else { throw .tooManyTransforms }
        transforms = []
        for index in 0..<count {
            let next = try cursor.u8()
            guard next == (index + 1 < count ? PayloadType.transform.rawValue : 0) else {
                throw .badTransformChain
            }
            let reserved = try cursor.u8()
            let length = Int(try cursor.u16())
            guard length >= 8 else { throw .payloadTooShort }
            guard length - 4 <= cursor.remaining else { throw .payloadOverrun }
            var body = try cursor.sub(length - 4)
            transforms.append(try Transform(reserved: reserved, &body, limits: limits))
        }
    }

    func encodeBody() -> [UInt8] {
        var out: [UInt8] = [
            number, protocolID, UInt8(truncatingIfNeeded: spi.count), UInt8(truncatingIfNeeded: transforms.count),
        ]
        out += spi
        for (index, transform) in transforms.enumerated() {
            let body = transform.encodeBody()
            out.append(index + 1 < transforms.count ? PayloadType.transform.rawValue : 0)
            out.append(transform.reserved)
            out.append(u16: UInt16(truncatingIfNeeded: body.count + 4))
            out += body
        }
        return out
    }
}

/// RFC 2408 §3.6.
public struct Transform: Hashable, Sendable {
    public var number: UInt8
    public var id: UInt8
    public var attributes: [DataAttribute]
    var reserved: UInt8 = 0
    var reserved2: UInt16 = 0

    public init(number: UInt8, id: UInt8, attributes: [DataAttribute]) {
        self.number = number
        self.id = id
        self.attributes = attributes
    }

    init(reserved: UInt8, _ cursor: inout ByteCursor, limits: WireLimits) throws(WireError) {
        self.reserved = reserved
        number = try cursor.u8()
        id = try cursor.u8()
        reserved2 = try cursor.u16()
        attributes = []
        while cursor.remaining > 0 {
            guard attributes.count < limits.attributesPerTransform else { throw .tooManyAttributes }
            attributes.append(try DataAttribute(&cursor))
        }
    }

    func encodeBody() -> [UInt8] {
        var out = [number, id]
        out.append(u16: reserved2)
        for attribute in attributes { attribute.encode(into: &out) }
        return out
    }

    /// The number of the first attribute of this type.
    public func number(of type: UInt16) -> UInt64? {
        attributes.first { $0.type == type }?.number
    }
}
