import NDCore
import NDWire

/// IDci and IDcr of transport mode: the two hosts, any protocol (RFC 2409 §5.5).
struct QuickModeSelectors: Hashable, Sendable {
    var initiator: IPAddress
    var responder: IPAddress

    var payloads: [Payload] {
        [.identification(IdentificationPayload(initiator)), .identification(IdentificationPayload(responder))]
    }

    /// RFC 3947 §5.2: both original addresses, the initiator's first.
    func originalAddresses(_ traversal: NATTraversal?) -> [Payload] {
        guard let traversal else { return [] }
        return [initiator, responder].map {
            Payload(traversal.originalAddress, .natOriginalAddress(NATOriginalAddressPayload($0)))
        }
    }

    /// Absent IDs mean the outer addresses. Behind a NAT a peer may name the original address that
    /// it also states in NAT-OA; anything narrower or wider is refused.
    func check(_ chain: PayloadChain, nat: NATDiscovery) throws(Refusal) {
        let ids = chain.identifications
        if ids.isEmpty { return }
        guard ids.count == 2 else { throw Refusal(.badSelector, notify: .invalidIDInformation) }
        let originals = chain.natOriginalAddresses.map(\.address)
        for (index, expected) in [initiator, responder].enumerated() {
            let id = ids[index]
            guard id.protocolID == 0, id.port == 0, let address = id.address else {
                throw Refusal(.badSelector, notify: .invalidIDInformation)
            }
            let original = index < originals.count ? originals[index] : nil
            let translated = nat.localBehindNAT || nat.remoteBehindNAT
            guard address == expected || (translated && original == address) else {
                throw Refusal(.badSelector, notify: .invalidIDInformation)
            }
        }
    }
}
