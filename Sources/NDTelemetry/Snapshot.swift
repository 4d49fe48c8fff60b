import CNDABI
import NDCore

/// Everything that the metrics show, at one moment. The daemon fills it; counters must be monotone
/// over rekeys, policy commits and restarts of the daemon, which is why BPF's are taken as they
/// are.
public struct Snapshot: Sendable {
    /// BPF's counters, summed over CPUs.
    public struct Datapath: Hashable, Sendable {
        /// Indexed by enum nd_pass_kind and enum nd_drop_reason.
        public var passedPackets: [UInt64]
        public var passedBytes: [UInt64]
        public var droppedPackets: [UInt64]
        public var droppedBytes: [UInt64]
        public var upgrades: UInt64 = 0
        public var flowsCreated: UInt64 = 0
        public var eventsLost: UInt64 = 0
        public var peersFull: UInt64 = 0
        public var mssClamped: UInt64 = 0
        public var oversize: UInt64 = 0
        public var calloutsAsked: UInt64 = 0
        public var calloutsOverridden: UInt64 = 0
        public var calloutsMissing: UInt64 = 0
        public var securedFull: UInt64 = 0
        public var guarded: UInt64 = 0
        /// Indexed by enum nd_layer.
        public var discards: [UInt64]

        public init() {
            passedPackets = Array(repeating: 0, count: Lists.passKinds.count)
            passedBytes = passedPackets
            droppedPackets = Array(repeating: 0, count: Lists.dropReasons.count)
            droppedBytes = droppedPackets
            discards = Array(repeating: 0, count: Lists.layers.count)
        }

        public init(abi stats: nd_stats) {
            func words<T>(_ tuple: T) -> [UInt64] {
                withUnsafeBytes(of: tuple) { Array($0.bindMemory(to: UInt64.self)) }
            }
            passedPackets = words(stats.packets)
            passedBytes = words(stats.bytes)
            droppedPackets = words(stats.drops)
            droppedBytes = words(stats.drop_bytes)
            upgrades = stats.upgrades
            flowsCreated = stats.flows_created
            eventsLost = stats.events_lost
            peersFull = stats.peers_full
            mssClamped = stats.mss_clamped
            oversize = stats.oversize
            calloutsAsked = stats.callouts_asked
            calloutsOverridden = stats.callouts_overridden
            calloutsMissing = stats.callouts_missing
            securedFull = stats.secured_full
            guarded = stats.guarded
            discards = words(stats.discards)
        }

        /// Sums, for the per-CPU values of one map and for the engine's own drops.
        public static func + (a: Datapath, b: Datapath) -> Datapath {
            func sum(_ a: [UInt64], _ b: [UInt64]) -> [UInt64] { zip(a, b).map { $0 &+ $1 } }
            var result = a
            result.passedPackets = sum(a.passedPackets, b.passedPackets)
            result.passedBytes = sum(a.passedBytes, b.passedBytes)
            result.droppedPackets = sum(a.droppedPackets, b.droppedPackets)
            result.droppedBytes = sum(a.droppedBytes, b.droppedBytes)
            result.upgrades &+= b.upgrades
            result.flowsCreated &+= b.flowsCreated
            result.eventsLost &+= b.eventsLost
            result.peersFull &+= b.peersFull
            result.mssClamped &+= b.mssClamped
            result.oversize &+= b.oversize
            result.calloutsAsked &+= b.calloutsAsked
            result.calloutsOverridden &+= b.calloutsOverridden
            result.securedFull &+= b.securedFull
            result.guarded &+= b.guarded
            result.calloutsMissing &+= b.calloutsMissing
            result.discards = sum(a.discards, b.discards)
            return result
        }
    }

    public struct Flows: Hashable, Sendable {
        public var clear: UInt64 = 0
        public var secure: UInt64 = 0
        public var exempt: UInt64 = 0
        public init() {}
    }

    public struct Table: Hashable, Sendable {
        public var name: String
        public var entries: UInt64
        public var size: UInt64

        public init(name: String, entries: UInt64, size: UInt64) {
            self.name = name
            self.entries = entries
            self.size = size
        }
    }

    public struct Interface: Hashable, Sendable {
        public var name: String
        /// "protected", "guarded" or "device"
        public var role: String
        public var isInPlace: Bool

        public init(name: String, role: String, isInPlace: Bool) {
            self.name = name
            self.role = role
            self.isInPlace = isInPlace
        }
    }

    public struct Build: Hashable, Sendable {
        public var version: String
        public var engine: String
        public var scenario: String

        public init(version: String, engine: String, scenario: String) {
            self.version = version
            self.engine = engine
            self.scenario = scenario
        }
    }

    public var build: Build
    public var datapath = Datapath()
    public var flows = Flows()
    public var tables: [Table] = []
    /// By the label of enum nd_peer_state.
    public var peers: [String: UInt64] = [:]
    public var negotiationsStarted: UInt64 = 0
    public var negotiationsSucceeded: UInt64 = 0
    /// By reason; whoever fills it names every reason, also those at zero.
    public var negotiationsFailed: [String: UInt64] = [:]
    public var negotiationsRunning: UInt64 = 0
    public var negotiationsOverBudget: UInt64 = 0
    public var negativeCacheHits: UInt64 = 0
    public var peersLost: UInt64 = 0
    public var inboundSAs: UInt64 = 0
    public var outboundSAs: UInt64 = 0
    public var rekeys: UInt64 = 0
    /// What became of stored first packets, by fate.
    public var replays: [String: UInt64] = [:]
    /// IKE datagrams that were not processed, by reason.
    public var ikeDrops: [String: UInt64] = [:]
    public var ikeReceived: UInt64 = 0
    public var ikeSent: UInt64 = 0
    /// Protected ones first: of very many not all are shown.
    public var interfaces: [Interface] = []
    public var interfaceReadsFailed: UInt64 = 0
    public var interfacesPutRight: UInt64 = 0
    public var policyGeneration: UInt64 = 0
    /// Reads of the host's addresses that failed.
    public var addressFailures: UInt64 = 0
    /// Since 1970; 0 leaves the metric out.
    public var startedAtUnixSeconds: Double = 0

    public init(build: Build) { self.build = build }
}

/// nd.h's lists.
public enum Lists {
    public struct Item: Hashable, Sendable {
        public var label: String
        public var help: String
    }

    public static let dropReasons = items(Int(ND_DROP_COUNT.rawValue), nd_drop_label, nd_drop_help)
    public static let passKinds = items(Int(ND_PASS_COUNT.rawValue), nd_pass_label, nd_pass_help)
    public static let peerStates = items(Int(ND_PEER_STATE_COUNT.rawValue), nd_peer_state_label, { _ in nil })

    public static let layers = items(Int(ND_LAYER_COUNT.rawValue), nd_layer_label, { _ in nil })

    private static func items(
        _ count: Int, _ label: (UInt32) -> UnsafePointer<CChar>?, _ help: (UInt32) -> UnsafePointer<CChar>?
    ) -> [Item] {
        (0..<UInt32(count)).map { value in
            Item(
                label: label(value).map { String(cString: $0) } ?? "unknown",
                help: help(value).map { String(cString: $0) } ?? "")
        }
    }
}
