import CLibbpf
import CNDSystem
import Foundation
import NDCore

/// One ndbpf on this host: a name, its pins on bpffs and its run directory. Several can live in
/// several network namespaces.
public struct Instance: Sendable, Hashable {
    public static let bpffs = "/sys/fs/bpf"
    public let name: String
    /// Behind the name of the pins: not those in force, but others of an upgrade. No instance's name has a plus sign.
    private var suffix = ""

    public init(_ name: String) throws {
        let allowed = name.utf8.allSatisfy {
            ($0 >= 97 && $0 <= 122) || ($0 >= 48 && $0 <= 57) || $0 == 45 || $0 == 95
        }
        guard allowed, (1...32).contains(name.utf8.count) else {
            throw NDError(
                "instance.name", "'\(name)' can't be an instance's name",
                hint: "use 1 to 32 of a-z, 0-9, '-' and '_'")
        }
        self.name = name
    }

    public var pinDirectory: String { "\(Self.bpffs)/ndbpf/\(name)\(suffix)" }
    public var runDirectory: String { "/run/ndbpf/\(name)" }
    public var controlSocket: String { "\(runDirectory)/control.sock" }
    public var recordFile: String { "\(runDirectory)/loaded\(suffix).json" }

    /// The same instance with other pins and another record.
    func beside(_ suffix: String) -> Instance {
        var other = self
        other.suffix = suffix
        return other
    }

    /// With the pins that count.
    var inForce: Instance { beside("") }

    public func mapPin(_ map: String) -> String { "\(pinDirectory)/\(map)" }
    /// By index: names move from one device to another.
    public func linkPin(_ index: Int32, _ direction: String) -> String { "\(pinDirectory)/link_\(index)_\(direction)" }

    /// The descriptor of what is pinned under a name; whoever calls closes it.
    func openPin(_ name: String) throws(NDError) -> Int32 {
        let fd = bpf_obj_get(mapPin(name))
        guard fd < 0 else { return fd }
        let error = errno
        throw error == ENOENT && !isLoaded
            ? NDError(
                "instance.not-loaded", "instance '\(self.name)' is not loaded",
                hint: "load it: ndbpf load --policy FILE, or ndbpf run --policy FILE")
            : NDError(
                "instance.open", "can't open \(mapPin(name)): \(String(cString: strerror(error)))",
                hint: error == EPERM || error == EACCES
                    ? "run as root" : error == ENOENT ? "the instance is not whole: ndbpf unload, then load again" : nil)
    }

    /// Files pinned under names that begin so.
    func pins(_ prefix: String) -> [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: pinDirectory)) ?? []).filter { $0.hasPrefix(prefix) }.sorted()
    }

    public func makeRunDirectory() throws {
        try FileManager.default.createDirectory(
            atPath: runDirectory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    /// A file to be locked with flock(2), open; it goes with the instance.
    public func openLock(_ name: String) throws(NDError) -> Int32 {
        let path = "\(runDirectory)/\(name)"
        var fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if fd < 0, errno == ENOENT, isLoaded {
            // Somebody cleaned /run under the instance.
            try? makeRunDirectory()
            fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        }
        guard fd >= 0 else {
            throw NDError(
                "instance.lock", "can't open \(path): \(String(cString: strerror(errno)))",
                hint: errno == EACCES ? "run as root" : nil)
        }
        return fd
    }

    /// Whether the datapath is loaded.
    public var isLoaded: Bool { access(mapPin("nd_state"), F_OK) == 0 }

    /// Mounts bpffs where the host has not.
    public static func prepareFileSystem() throws {
        if nd_is_bpffs(bpffs) { return }
        let error = nd_mount_bpffs(bpffs)
        guard error == 0 else {
            throw NDError(
                "load.bpffs", "can't mount bpffs on \(bpffs): \(String(cString: strerror(-error)))",
                hint: "run as root, or mount it: mount -t bpf bpf \(bpffs)")
        }
    }

    public static func all() -> [Instance] {
        ((try? FileManager.default.contentsOfDirectory(atPath: "\(bpffs)/ndbpf")) ?? []).sorted()
            .compactMap { try? Instance($0) }
    }
}

/// What a load did, so that an unload in another process can take it back.
public struct LoadRecord: Codable, Sendable {
    public struct Attachment: Codable, Sendable {
        public var interface: String
        public var ifindex: Int32
        public var direction: String
        /// "tcx" or "clsact"
        public var kind: String
        /// The clsact qdisc was made by us.
        public var madeQdisc: Bool
        public var role: InterfaceRole?
        /// Of a clsact filter.
        public var priority: UInt32?
        public var handle: UInt32?
    }

    public var version = 1
    public var attachments: [Attachment] = []
    public var networkNamespace: String?
    public var device: String?
    public var deviceIndex: UInt32?
    public var deviceKind: String?
    /// The patterns of the interfaces that are protected.
    public var interfaces: [String]?
    /// Attached by clsact, because it was asked for or the kernel has no TCX.
    public var clsact: Bool?
    /// Why there is no guard behind the routing.
    public var missingHooks: String?
    public var policyFile: String?
    /// What `policy apply` put in force since the daemon started, or the load.
    public var appliedFile: String?
    public var loadedAt: String = ""
    /// The build that loaded it (BuildMark).
    public var build: String?
    /// What an upgrade took over.
    public var tookOver: TakenOver?
    /// Indexes of devices whose clsact an earlier version made.
    public var earlierQdiscs: [Int32]?

    public init() {}

    public static func read(_ instance: Instance) -> LoadRecord? {
        guard let data = FileManager.default.contents(atPath: instance.recordFile), data.count < 1 << 20
        else { return nil }
        return try? JSONDecoder().decode(LoadRecord.self, from: data)
    }

    /// Writes what hangs where and leaves the rest of what is written, which other commands change. Returns all of it.
    func writeAttachments(_ instance: Instance) throws -> LoadRecord {
        var all = Self.read(instance) ?? self
        all.attachments = attachments
        (all.device, all.deviceIndex, all.deviceKind) = (device, deviceIndex, deviceKind)
        (all.interfaces, all.clsact, all.missingHooks) = (interfaces, clsact, missingHooks)
        try all.write(instance)
        return all
    }

    public func write(_ instance: Instance) throws {
        try instance.makeRunDirectory()
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let data = try encoder.encode(self)
        try data.write(to: URL(fileURLWithPath: instance.recordFile), options: .atomic)
    }
}
