import Foundation
import NDCore
import NDLab

public enum PeerKind: String, Sendable, Codable, CaseIterable {
    case strongSwan = "strongSwan"
    case libreswan = "libreswan"

    /// The folder of `deploy/interop-peers`.
    var folder: String { rawValue.lowercased() }
}

/// What the other implementation is told about ndbpf's host: IKEv1, pre-shared key, transport mode
/// between two addresses, exactly one suite.
public struct PeerConnection: Sendable {
    public var local: IPAddress
    public var remote: IPAddress
    public var suite: InteropSuite
    public var secret: String
    /// Traffic without an SA is dropped and starts a negotiation, in both directions.
    public var requiresIPsec: Bool
    /// Seconds of silence until the peer asks whether we live; 0 is never.
    public var deadPeerDetection: Int

    public init(
        local: IPAddress, remote: IPAddress, suite: InteropSuite, secret: String, requiresIPsec: Bool = false,
        deadPeerDetection: Int = 0
    ) {
        self.local = local
        self.remote = remote
        self.suite = suite
        self.secret = secret
        self.requiresIPsec = requiresIPsec
        self.deadPeerDetection = deadPeerDetection
    }

    /// One name an address family, so that a reload replaces the right one.
    var name: String { local.isIPv4 ? "ndv4" : "ndv6" }
}

/// Another implementation of IKEv1, running as a daemon in one host of the lab.
public protocol InteropPeer: AnyObject, Sendable {
    var kind: PeerKind { get }
    var host: Lab.Host { get }
    var version: String { get }
    /// Everything it logged so far.
    var log: String { get }
    /// What its log says once it asked and ndbpf answered (RFC 3706).
    var liveness: String { get }

    /// Replaces what it knew about this pair of addresses.
    func load(_ connection: PeerConnection) throws
    func unload(_ connection: PeerConnection) throws
    /// Returns when both SAs stand.
    func initiate(_ connection: PeerConnection) throws
    /// A new quick mode for the pair.
    func rekeyIPsec(_ connection: PeerConnection) throws
    /// A new main mode.
    func rekeyISAKMP(_ connection: PeerConnection) throws
    /// Ends both SAs and tells the other side.
    func terminate(_ connection: PeerConnection) throws
    func stop()
}
