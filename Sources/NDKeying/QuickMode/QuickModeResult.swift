import NDCore
import NDCrypto
import NDWire

/// What quick mode agreed on, with the keys.
struct QuickModeResult: Sendable {
    var parameters: QuickModeProposal.Parameters
    var lifetime: Span
    var kilobytes: UInt64?
    var peerBoundary: Bool
    var guaranteeEncryption: Bool
    var inboundSPI: UInt32
    var outboundSPI: UInt32
    var inboundKeymat: SecretBytes
    var outboundKeymat: SecretBytes

    /// Of a pair whose keys only the kernel has.
    init(adopted parameters: QuickModeProposal.Parameters, lifetime: Span, inboundSPI: UInt32, outboundSPI: UInt32) {
        self.parameters = parameters
        self.lifetime = lifetime
        peerBoundary = false
        guaranteeEncryption = false
        self.inboundSPI = inboundSPI
        self.outboundSPI = outboundSPI
        inboundKeymat = SecretBytes([])
        outboundKeymat = SecretBytes([])
    }

    init(
        _ choice: QuickModeProposal.Choice, configuration: KeyingConfiguration, association: ISAKMPAssociation,
        inboundSPI: UInt32, initiatorNonce: [UInt8], responderNonce: [UInt8], sharedSecret: SecretBytes?,
        peerInfo: ExchangeInfo, ownInfo: ExchangeInfo
    ) throws(Refusal) {
        parameters = choice.parameters
        lifetime = choice.lifetime.span(own: configuration.quickModeLifetime)
        kilobytes = choice.lifetime.kilobytes(own: configuration.quickModeLifetimeKilobytes)
        peerBoundary = peerInfo.contains(.boundary)
        guaranteeEncryption = peerInfo.union(ownInfo).contains(.guaranteeEncryption)
        self.inboundSPI = inboundSPI
        outboundSPI = choice.peerSPI
        let bytes = choice.parameters.suite.keymatBytes
        func keymat(_ spi: UInt32) throws(Refusal) -> SecretBytes {
            try crypto { () throws(CryptoError) in
                try association.keys.keymat(
                    protocolID: ProtocolID.esp, spi: [UInt8](u32: spi), initiatorNonce: initiatorNonce,
                    responderNonce: responderNonce, sharedSecret: sharedSecret, bytes: bytes)
            }
        }
        inboundKeymat = try keymat(inboundSPI)
        outboundKeymat = try keymat(choice.peerSPI)
    }
}

/// The outside as a quick-mode state may see it.
struct QuickModeContext: Sendable {
    var configuration: KeyingConfiguration
    var random: any RandomSource
    var association: ISAKMPAssociation
    var messageID: UInt32

    var midBytes: [UInt8] { [UInt8](u32: messageID) }
    var ownInfo: ExchangeInfo {
        var info: ExchangeInfo = []
        if configuration.boundary { info.insert(.boundary) }
        if configuration.guaranteeEncryption { info.insert(.guaranteeEncryption) }
        return info
    }
}

extension MessageShape {
    /// Messages 1 and 2 (RFC 2409 §5.5). IDs come as a pair or not at all, which the selectors check.
    static let quickModeProposal = MessageShape(
        once: [.hash, .securityAssociation, .nonce], optional: [.keyExchange],
        many: [.identification, .natOriginalAddress, .natOriginalAddressDraft])
}
