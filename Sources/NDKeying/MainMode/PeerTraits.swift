import NDWire

/// What the peer's vendor IDs say about it.
struct PeerTraits: Hashable, Sendable {
    var negotiationDiscovery: Bool
    /// A Microsoft implementation: notifies in quick mode carry the message id ([MS-IKEE] §2.2.6).
    var microsoft: Bool
    /// Understands R-U-THERE (RFC 3706).
    var deadPeerDetection: Bool
    var natTraversal: NATTraversal?

    init(_ vendorIDs: Set<VendorID>, own: [VendorID]) {
        negotiationDiscovery = vendorIDs.contains(.negotiationDiscovery)
        microsoft = vendorIDs.contains(.microsoftISAKMPOakley)
        deadPeerDetection = vendorIDs.contains(.deadPeerDetection)
        natTraversal = NATTraversal(own: own, peer: vendorIDs)
    }
}
