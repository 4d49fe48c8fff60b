import NDCore
import NDCrypto
import NDWire

/// Which numbers NAT traversal uses with this peer.
enum NATTraversal: Hashable, Sendable {
    case rfc3947
    /// draft-ietf-ipsec-nat-t-ike-02/03: other payload types and encapsulation modes.
    case draft

    static func offered(_ configuration: KeyingConfiguration, _ address: IPAddress) -> [VendorID] {
        address.isIPv4 || configuration.natTraversalOverIPv6
            ? [.natTraversal, .natTraversalDraft02Newline] : []
    }

    init?(own: [VendorID], peer: Set<VendorID>) {
        if own.contains(.natTraversal), peer.contains(.natTraversal) {
            self = .rfc3947
        } else if own.contains(.natTraversalDraft02Newline), peer.contains(.natTraversalDraft02Newline) {
            self = .draft
        } else {
            return nil
        }
    }

    var discovery: PayloadType { self == .rfc3947 ? .natDiscovery : .natDiscoveryDraft }
    var originalAddress: PayloadType { self == .rfc3947 ? .natOriginalAddress : .natOriginalAddressDraft }
    var udpTransportMode: UInt16 { self == .rfc3947 ? 4 : 61444 }
}

/// RFC 3947 §3.2: hashes of what each side believes the addresses are.
struct NATDiscovery: Hashable, Sendable {
    var localBehindNAT = false
    var remoteBehindNAT = false
    /// We claimed a NAT that is not there.
    var forced = false

    var encapsulate: Bool { localBehindNAT || remoteBehindNAT || forced }

    static func payloads(
        _ traversal: NATTraversal, hash: HashAlgorithm, cookies: CookiePair, local: Endpoint,
        remote: Endpoint, force: Bool, random: any RandomSource
    ) throws(Refusal) -> [Payload] {
        let destination = try digest(hash, cookies, remote)
        let source = force ? random.bytes(hash.digestBytes) : try digest(hash, cookies, local)
        return [destination, source].map { Payload(traversal.discovery, .natDiscovery($0)) }
    }

    init() {}

    /// The first hash is of this host's address as the peer sees it, the others are the peer's own.
    init(
        received: [[UInt8]], hash: HashAlgorithm, cookies: CookiePair, local: Endpoint, remote: Endpoint,
        forced: Bool
    ) throws(Refusal) {
        self.forced = forced
        guard received.count >= 2, let first = received.first else { return }
        localBehindNAT = first != (try Self.digest(hash, cookies, local))
        let own = try Self.digest(hash, cookies, remote)
        remoteBehindNAT = !received.dropFirst().contains(own)
    }

    private static func digest(
        _ hash: HashAlgorithm, _ cookies: CookiePair, _ endpoint: Endpoint
    ) throws(Refusal) -> [UInt8] {
        var port: [UInt8] = []
        port.append(u16: endpoint.port)
        let tail = port
        return try crypto { () throws(CryptoError) in
            try hash.digest(cookies.bytes, endpoint.address.bytes, tail)
        }
    }
}
