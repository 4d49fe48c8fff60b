/// Payloads in order, and what followed the last one: the zero padding of a decrypted message.
public struct PayloadChain: Hashable, Sendable {
    public var payloads: [Payload]
    public var trailing: [UInt8]

    public init(_ payloads: [Payload], trailing: [UInt8] = []) {
        self.payloads = payloads
        self.trailing = trailing
    }

    /// Decodes a decrypted chain; `first` is the ISAKMP header's next-payload field.
    public static func decode(
        first: PayloadType, _ bytes: [UInt8], limits: WireLimits = WireLimits()
    ) throws(WireError) -> PayloadChain {
        var cursor = ByteCursor(bytes)
        return try PayloadChain(first: first, &cursor, limits: limits)
    }

    init(first: PayloadType, _ cursor: inout ByteCursor, limits: WireLimits) throws(WireError) {
        var next = first
        payloads = []
        while next != .none {
            guard payloads.count < limits.payloads else { throw .tooManyPayloads }
            let type = next
            next = PayloadType(rawValue: try cursor.u8())
            let reserved = try cursor.u8()
            let length = Int(try cursor.u16())
            guard length >= 4 else { throw .payloadTooShort }
            guard length - 4 <= cursor.remaining else { throw .payloadOverrun }
            var body = try cursor.sub(length - 4)
            payloads.append(try Payload(type: type, reserved: reserved, &body, limits: limits))
            guard body.remaining == 0 else { throw .bodyMismatch }
        }
        trailing = cursor.rest()
    }

    public func encode() -> [UInt8] {
        var out: [UInt8] = []
        for (index, payload) in payloads.enumerated() {
            let body = payload.encodeBody()
            let next = index + 1 < payloads.count ? payloads[index + 1].type : .none
            out.append(next.rawValue)
            out.append(payload.reserved)
            out.append(u16: UInt16(truncatingIfNeeded: body.count + 4))
            out += body
        }
        return out + trailing
    }

    public var first: PayloadType { payloads.first?.type ?? .none }

    public func all(_ type: PayloadType) -> [Payload] { payloads.filter { $0.type == type } }
}
