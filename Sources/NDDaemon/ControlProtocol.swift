import Foundation
import NDCore
import NDDatapath

/// The control socket speaks JSON lines: one request, one answer (`monitor`: many).
public struct ControlRequest: Codable, Sendable {
    public static let version = 1
    /// A request line longer than this is refused.
    public static let mostBytes = 4096

    public enum Verb: String, Codable, Sendable {
        case status, sas, keying, monitor, delete, rekey
    }

    public var version = ControlRequest.version
    public var verb: Verb
    /// For `delete` and `rekey`: the peer; nil means all.
    public var remote: String?

    public init(_ verb: Verb, remote: String? = nil) {
        self.verb = verb
        self.remote = remote
    }
}

/// An answer: a payload or an error.
public struct ControlAnswer: Codable, Sendable {
    public struct Failure: Codable, Sendable {
        public var code: String
        public var message: String
        public var hint: String?
    }

    public var version = ControlRequest.version
    public var error: Failure?
    public var status: StatusReport?
    public var sas: [SAReport]?
    public var keying: KeyingReport?
    public var event: MonitorEvent?
    public var deleted: Int?
    /// Peers whose SAs are being renewed.
    public var rekeyed: Int?

    public init() {}
}

public struct StatusReport: Codable, Sendable {
    public var instance: String
    public var version: String
    public var pid: Int32
    public var since: String
    public var uptimeSeconds: Double
    public var scenario: String
    public var policyFile: String
    public var policyGeneration: UInt32
    /// The protected ones.
    public var interfaces: [String]
    /// All that are protected or guarded, and the device.
    public var interfaceStates: [InterfaceState]
    public var attachment: String
    public var engine: String
    public var engineReason: String
    public var aead: String
    public var encapsulation: String
    public var device: String
    public var addresses: [String]
    public var peers: [String: Int]
    public var flows: [String: Int]
    /// Fill of the tables that grow with connections.
    public var tables: [TableFill]
    public var securityAssociations: Int
    public var negotiations: [String: UInt64]
    public var drops: [String: UInt64]
    public var upgrades: UInt64
    public var metrics: String?
    public var warnings: [String]
}

public struct SAReport: Codable, Sendable {
    public var direction: String
    public var spi: String
    public var local: String
    public var remote: String
    public var suite: String
    public var encapsulation: String
    public var extendedSequenceNumbers: Bool
    public var active: Bool
    public var packets: UInt64
    public var bytes: UInt64
    public var sequence: UInt64
    public var ageSeconds: Double
    public var expiresInSeconds: Double?
    public var role: String?
}

public struct KeyingReport: Codable, Sendable {
    public struct MainMode: Codable, Sendable {
        public var local: String
        public var remote: String
        public var role: String
        public var state: String
        public var initiatorCookie: String
        public var responderCookie: String
        public var suite: String?
        public var identity: String?
        public var negotiationDiscovery: Bool
        public var ageSeconds: Double
    }

    public var mainModes: [MainMode]
    public var counters: [String: UInt64]
}

/// One line of `ndbpf monitor`.
public struct MonitorEvent: Codable, Sendable {
    public var time: String
    /// Stable, dotted: "flow.negotiate", "keying.established", "drop.clear_inbound".
    public var kind: String
    public var text: String
    public var local: String?
    public var remote: String?

    public init(_ kind: String, _ text: String, local: String? = nil, remote: String? = nil) {
        time = Self.clock.withLock { $0.string(from: Date()) }
        self.kind = kind
        self.text = text
        self.local = local
        self.remote = remote
    }

    private static let clock = Locked(ISO8601DateFormatter())
}

/// A value behind a lock.
public final class Locked<Value>: @unchecked Sendable {
    private var value: Value
    private let lock = NSLock()

    public init(_ value: Value) { self.value = value }

    public func withLock<R>(_ body: (inout Value) throws -> R) rethrows -> R {
        try lock.withLock { try body(&value) }
    }
}
