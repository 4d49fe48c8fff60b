/// Why a datagram is no well-formed ISAKMP message. The raw value is stable: it labels counters.
public enum WireError: String, Error, Sendable, CaseIterable {
    case truncated
    case messageTooLong = "message_too_long"
    case lengthMismatch = "length_mismatch"
    case payloadTooShort = "payload_too_short"
    case payloadOverrun = "payload_overrun"
    case tooManyPayloads = "too_many_payloads"
    case tooManyProposals = "too_many_proposals"
    case tooManyTransforms = "too_many_transforms"
    case tooManyAttributes = "too_many_attributes"
    case badProposalChain = "bad_proposal_chain"
    case badTransformChain = "bad_transform_chain"
    case attributeOverrun = "attribute_overrun"
    case badSPISize = "bad_spi_size"
    case tooManySPIs = "too_many_spis"
    /// The body's fields do not fill or overrun the payload.
    case bodyMismatch = "body_mismatch"
    case encryptedBlock = "encrypted_block"
}
