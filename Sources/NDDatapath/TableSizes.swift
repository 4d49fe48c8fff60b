import Glibc
import NDCore

/// How many entries the tables of connections and peers have room for. Without a word of the operator the host's
/// memory says so, as for the kernel's own connection tracking.
public struct TableSizes: Hashable, Sendable, Codable {
    /// Clear connections. Their memory is taken at load: some 250 bytes each.
    public var flows: UInt32
    /// Secured connections. They take memory while they are there.
    public var secured: UInt32
    public var peers: UInt32

    public static let flowsRange: ClosedRange<UInt32> = 1024...16_777_216
    public static let securedRange: ClosedRange<UInt32> = 64...16_777_216
    public static let peersRange: ClosedRange<UInt32> = 64...1_048_576

    /// A connection for every 20 KiB: 1.2 % of the memory when they are all there. A host of 24 GiB has room for
    /// more than a million. Peers: one for eight connections.
    public init(memory bytes: UInt64) {
        let connections = UInt32(clamping: min(max(bytes / 20_480, 16_384), UInt64(Self.flowsRange.upperBound)))
        flows = connections
        secured = connections
        peers = min(max(connections / 8, 16_384), Self.peersRange.upperBound)
    }

    /// For this host.
    public static func ofHost() -> TableSizes {
        let pages = sysconf(Int32(_SC_PHYS_PAGES)), size = sysconf(Int32(_SC_PAGESIZE))
        guard pages > 0, size > 0 else { return TableSizes(memory: 0) }
        let (bytes, overflow) = UInt64(pages).multipliedReportingOverflow(by: UInt64(size))
        return TableSizes(memory: overflow ? .max : bytes)
    }
}

/// What the operator said of sizes; nil: by the host's memory.
public struct TableSizeChoice: Hashable, Sendable {
    public var flows: UInt32?
    public var secured: UInt32?
    public var peers: UInt32?

    public init(flows: UInt32? = nil, secured: UInt32? = nil, peers: UInt32? = nil) {
        (self.flows, self.secured, self.peers) = (flows, secured, peers)
    }

    /// This choice, where it says nothing the other one.
    public func or(_ other: TableSizeChoice) -> TableSizeChoice {
        TableSizeChoice(flows: flows ?? other.flows, secured: secured ?? other.secured, peers: peers ?? other.peers)
    }

    public func resolved(for host: TableSizes = .ofHost()) -> TableSizes {
        var sizes = host
        if let flows {
            sizes.flows = flows
            sizes.secured = max(flows, TableSizes.securedRange.lowerBound)
        }
        if let secured { sizes.secured = secured }
        if let peers { sizes.peers = peers }
        return sizes
    }
}
