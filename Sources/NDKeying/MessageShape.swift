import NDWire

/// Which payloads a message has, how often. Unknown types are ignored, vendor IDs, notifies and
/// certificate requests may come anywhere; a known payload out of place refuses the message.
struct MessageShape {
    var once: [PayloadType]
    var optional: [PayloadType] = []
    var many: [PayloadType] = []

    private static let structured: Set<PayloadType> = [
        .securityAssociation, .keyExchange, .identification, .certificate, .hash, .signature, .nonce,
        .delete, .natDiscovery, .natOriginalAddress, .natDiscoveryDraft, .natOriginalAddressDraft,
        .fragment,
    ]

    func check(_ chain: PayloadChain) throws(Refusal) {
        for type in once {
            switch chain.payloads.count(where: { $0.type == type }) {
            case 1: break
            case 0: throw Refusal(.missingPayload)
            default: throw Refusal(.duplicatePayload)
            }
        }
        for type in optional where chain.payloads.count(where: { $0.type == type }) > 1 {
            throw Refusal(.duplicatePayload)
        }
        let allowed = once + optional + many
        for payload in chain.payloads
        where Self.structured.contains(payload.type) && !allowed.contains(payload.type) {
            throw Refusal(.unexpectedPayload)
        }
    }
}

extension PayloadChain {
    var securityAssociation: SecurityAssociationPayload? {
        for payload in payloads { if case .securityAssociation(let value) = payload.body { return value } }
        return nil
    }
    var keyExchange: [UInt8]? {
        for payload in payloads { if case .keyExchange(let value) = payload.body { return value } }
        return nil
    }
    var nonce: [UInt8]? {
        for payload in payloads { if case .nonce(let value) = payload.body { return value } }
        return nil
    }
    var hash: [UInt8]? {
        for payload in payloads { if case .hash(let value) = payload.body { return value } }
        return nil
    }
    var identifications: [IdentificationPayload] {
        payloads.compactMap { if case .identification(let value) = $0.body { value } else { nil } }
    }
    var notifications: [NotificationPayload] {
        payloads.compactMap { if case .notification(let value) = $0.body { value } else { nil } }
    }
    var deletes: [DeletePayload] {
        payloads.compactMap { if case .delete(let value) = $0.body { value } else { nil } }
    }
    var vendorIDs: Set<VendorID> {
        Set(
            payloads.compactMap {
                if case .vendorID(let value) = $0.body { VendorID(matching: value) } else { nil }
            })
    }
    var natDiscoveries: [[UInt8]] {
        payloads.compactMap { if case .natDiscovery(let value) = $0.body { value } else { nil } }
    }
    var natOriginalAddresses: [NATOriginalAddressPayload] {
        payloads.compactMap { if case .natOriginalAddress(let value) = $0.body { value } else { nil } }
    }

    /// RFC 2409 §5: 8 to 256 bytes.
    func checkedNonce() throws(Refusal) -> [UInt8] {
        guard let nonce, (8...256).contains(nonce.count) else { throw Refusal(.badNonce) }
        return nonce
    }
}
