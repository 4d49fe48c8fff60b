import CLibbpf
import CNDABI
import Foundation
import NDCore

/// A file with programs of a third party (bpf/nd_callout.h): what its instructions may do, and loading them.
public struct CalloutObject: Sendable {
    public struct Abilities: OptionSet, Hashable, Sendable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        public static let readsPayload = Abilities(rawValue: ND_MAY_READ_PAYLOAD)
        public static let changesPackets = Abilities(rawValue: ND_MAY_CHANGE_PACKET)
        static let sends = Abilities(rawValue: ND_MAY_SEND)
        static let tailCalls = Abilities(rawValue: ND_MAY_TAIL_CALL)
    }

    /// Much larger than any callout; an operator's slip (a core dump, a device) is not read into memory.
    private static let mostBytes = 16 << 20
    static let socketSuffix = "_at_socket"
    /// ndbpf's own map, in each object by this name.
    private static let metadata = "nd_callout_meta"

    public let path: String
    /// Says which content was loaded: two files with the same bytes are one object.
    let digest: String
    /// What was read once is what is looked through, loaded and named by its digest.
    private let bytes: [UInt8]

    public init(path: String) throws(NDError) {
        self.path = path
        do {
            bytes = try RegularFile.read(path, most: Self.mostBytes, code: "callout").bytes
        } catch {
            throw Self.unreadable(path, error.message)
        }
        // FNV-1a: tells versions of a file apart, no more.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        digest = String(hash, radix: 16)
    }

    private static func unreadable(_ path: String, _ why: String) -> NDError {
        NDError(
            "callout.object", "can't read the callout's object \(path): \(why)",
            hint: "compile it: clang -O2 -g -target bpf -c (docs/callouts.md); nothing was changed")
    }

    private func opened() throws(NDError) -> OpaquePointer {
        guard let object = nd_bpf_open(bytes, bytes.count, "nd_callout") else {
            let error = errno
            throw NDError(
                "callout.object", "\(path) is no BPF object: \(String(cString: strerror(error)))",
                context: String(cString: nd_bpf_log()), hint: "compile it: clang -O2 -g -target bpf -c; nothing was changed")
        }
        return object
    }

    /// Its TC programs, by name.
    public func entries() throws(NDError) -> [String] {
        let object = try opened()
        defer { bpf_object__close(object) }
        return ObjectParts.programs(object).filter { !Self.isAtSocket($0) }.map(Self.name).sorted()
    }

    /// Nil: there is no such program.
    public func abilities(of entry: String) throws(NDError) -> Abilities? {
        let object = try opened()
        defer { bpf_object__close(object) }
        guard let program = bpf_object__find_program_by_name(object, entry), !Self.isAtSocket(program) else { return nil }
        var may: UInt32 = 0
        let error = nd_bpf_scan(program, bytes, bytes.count, &may)
        guard error == 0 else { throw Self.unreadable(path, String(cString: strerror(-error))) }
        return Abilities(rawValue: may)
    }

    /// Refuses what goes round ndbpf's verdict.
    public func check(_ entry: String) throws(NDError) -> Abilities {
        guard let abilities = try abilities(of: entry) else {
            throw NDError(
                "callout.entry", "\(path) has no program '\(entry)' of type tc",
                context: "its programs: \(try entries().joined(separator: ", "))",
                hint: "name one of them, or write ND_CALLOUT_PROGRAM(\(entry), …); nothing was changed")
        }
        if abilities.contains(.sends) {
            throw NDError(
                "callout.sends", "program '\(entry)' of \(path) sends packets (bpf_redirect, bpf_clone_redirect): they would go round the filters and the SAs",
                hint: "reinject the packet: change it, rebuild its header, and answer CONTINUE or PERMIT; nothing was changed")
        }
        if abilities.contains(.tailCalls) {
            throw NDError(
                "callout.tail-call", "program '\(entry)' of \(path) calls another program (bpf_tail_call), which nobody has looked at",
                hint: "call a function instead; nothing was changed")
        }
        return abilities
    }

    /// Where its maps can be read while a policy that names it is in force.
    public func pinnedMaps(_ instance: Instance) -> [String] { instance.pins(pinPrefix + "map_").map(instance.mapPin) }

    // MARK: loading

    /// The kernel's descriptor of a loaded program, which whoever calls closes. Programs and maps of one file
    /// stay loaded, under pins with its digest, from commit to commit and from daemon to daemon.
    func descriptor(_ entry: String, atSocket: Bool, _ instance: Instance) throws -> Int32 {
        let name = atSocket ? entry + Self.socketSuffix : entry
        let pin = programPin(instance, name)
        var fd = bpf_obj_get(pin)
        if fd >= 0 { return fd }
        try load(instance, atSocket: atSocket)
        fd = bpf_obj_get(pin)
        guard fd >= 0 else {
            throw NDError(
                "callout.entry",
                atSocket
                    ? "\(path) has no program '\(name)': packets that the kernel's ESP decrypted are shown at the socket"
                    : "\(path) has no program '\(name)'",
                hint: atSocket
                    ? "make both with ND_CALLOUT_PROGRAM; a callout that changes packets can't be asked about inbound packets on the kernel engine; nothing was changed"
                    : "nothing was changed")
        }
        return fd
    }

    static let pins = "callout_"
    var pinPrefix: String { "\(Self.pins)\(digest)_" }

    private func programPin(_ instance: Instance, _ name: String) -> String {
        instance.mapPin(pinPrefix + "prog_" + name)
    }

    /// bpffs takes no dots.
    private func mapPin(_ name: String) -> String { pinPrefix + "map_" + name.replacingOccurrences(of: ".", with: "_") }

    private func isPinned(_ name: String, _ instance: Instance) -> Bool { access(instance.mapPin(mapPin(name)), F_OK) == 0 }

    private func load(_ instance: Instance, atSocket: Bool) throws {
        let object = try opened()
        defer { bpf_object__close(object) }
        for program in ObjectParts.programs(object) {
            bpf_program__set_autoload(program, Self.isAtSocket(program) == atSocket)
        }
        let own = ObjectParts.maps(object).map { (map: $0, name: String(cString: bpf_map__name($0))) }
        // ndbpf's own, and what the other half of the object has loaded already.
        for (map, name) in own where name == Self.metadata || isPinned(name, instance) {
            let error = try ObjectParts.share(map, with: instance, pin: name == Self.metadata ? name : mapPin(name))
            guard error == 0 else { throw failed("map \(name)", error) }
        }
        let error = bpf_object__load(object)
        guard error == 0 else { throw failed("it", error) }
        for (map, name) in own where name != Self.metadata && !isPinned(name, instance) {
            let error = bpf_map__pin(map, instance.mapPin(mapPin(name)))
            guard error == 0 else { throw failed("map \(name)", error) }
        }
        for program in ObjectParts.programs(object) where Self.isAtSocket(program) == atSocket {
            let error = bpf_obj_pin(bpf_program__fd(program), programPin(instance, Self.name(program)))
            guard error == 0 || errno == EEXIST else { throw failed("program \(Self.name(program))", -errno) }
        }
    }

    private func failed(_ what: String, _ error: Int32) -> NDError {
        NDError(
            "callout.load", "the kernel refuses \(what) of the callout's object \(path): \(String(cString: strerror(-error)))",
            context: String(cString: nd_bpf_log()), hint: "nothing was changed")
    }

    private static func name(_ program: OpaquePointer) -> String { String(cString: bpf_program__name(program)) }

    private static func isAtSocket(_ program: OpaquePointer) -> Bool {
        bpf_program__type(program) == BPF_PROG_TYPE_CGROUP_SKB
    }
}

/// Files that several callouts name are read once.
public struct CalloutObjects {
    private var read: [String: CalloutObject] = [:]

    public init() {}

    public mutating func object(_ path: String) throws(NDError) -> CalloutObject {
        if let known = read[path] { return known }
        let object = try CalloutObject(path: path)
        read[path] = object
        return object
    }
}
