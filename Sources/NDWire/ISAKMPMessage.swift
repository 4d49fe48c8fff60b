/// One ISAKMP message, the datagram without a non-ESP marker.
public struct ISAKMPMessage: Hashable, Sendable {
    public enum Content: Hashable, Sendable {
        case clear(PayloadChain)
        /// Everything behind the header, still ciphertext.
        case encrypted([UInt8])
    }

    public var header: ISAKMPHeader
    public var content: Content

    public init(header: ISAKMPHeader, content: Content) {
        self.header = header
        self.content = content
    }

    /// A clear message of these payloads; the header's next-payload field is set.
    public init(header: ISAKMPHeader, payloads: [Payload]) {
        self.header = header
        self.header.nextPayload = payloads.first?.type ?? .none
        content = .clear(PayloadChain(payloads))
    }

    public static func decode(_ bytes: [UInt8], limits: WireLimits = WireLimits()) throws(WireError) -> ISAKMPMessage {
        guard bytes.count <= limits.messageBytes else { throw .messageTooLong }
        var cursor = ByteCursor(bytes)
        let header = try ISAKMPHeader(&cursor)
        guard Int(header.length) == bytes.count else { throw .lengthMismatch }
        if header.flags.contains(.encryption) {
            return ISAKMPMessage(header: header, content: .encrypted(cursor.rest()))
        }
        let chain = try PayloadChain(first: header.nextPayload, &cursor, limits: limits)
        return ISAKMPMessage(header: header, content: .clear(chain))
    }

    public func encode() -> [UInt8] {
        let body: [UInt8] =
            switch content {
            case .clear(let chain): chain.encode()
            case .encrypted(let bytes): bytes
            }
        var out: [UInt8] = []
        out.reserveCapacity(ISAKMPHeader.byteCount + body.count)
        header.encode(length: ISAKMPHeader.byteCount + body.count, into: &out)
        out += body
        return out
    }
}
