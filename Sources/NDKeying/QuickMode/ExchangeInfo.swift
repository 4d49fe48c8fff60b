import NDCore
import NDWire

/// Negotiation Discovery's flag word ([MS-IKEE] §2.2.6, §3.7).
struct ExchangeInfo: OptionSet, Hashable, Sendable {
    let rawValue: UInt32
    static let boundary = ExchangeInfo(rawValue: 1)
    static let guaranteeEncryption = ExchangeInfo(rawValue: 2)

    /// nil when there is nothing to say or the peer did not announce Negotiation Discovery.
    func payload(to peer: PeerTraits, inboundSPI: UInt32, messageID: UInt32) -> Payload? {
        guard !isEmpty, peer.negotiationDiscovery else { return nil }
        // A Microsoft peer expects the message id in front of the data and SPI size 8; the text
        // leaves the layout open, so the SPI is put where an SPI belongs.
        let spi = peer.microsoft ? [UInt8](u32: inboundSPI) + [UInt8](u32: messageID) : []
        return .notification(
            NotificationPayload(
                protocolID: ProtocolID.esp, type: .exchangeInfo, spi: spi, data: [UInt8](u32: rawValue)))
    }

    init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The last four bytes of the payload are the flags, whatever stands between.
    init(_ chain: PayloadChain) {
        self = []
        for notify in chain.notifications where notify.type == .exchangeInfo {
            let body = notify.spi + notify.data
            guard body.count >= 4 else { continue }
            formUnion(ExchangeInfo(rawValue: body.suffix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }))
        }
    }
}
