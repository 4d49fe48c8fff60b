/// How much of a peer's message is looked at; everything beyond is refused before it costs memory.
public struct WireLimits: Sendable, Hashable {
    /// Bytes of one ISAKMP message, header included.
    public var messageBytes = 16_384
    public var payloads = 48
    public var proposals = 16
    public var transformsPerProposal = 64
    public var attributesPerTransform = 32
    public var spisPerDelete = 256

    public init() {}
}
