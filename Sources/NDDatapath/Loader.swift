import CLibbpf
import CNDABI
import CNDObjects
import CNDSystem
import Foundation
import NDABI
import NDCore

/// Sizes and choices of a load.
public struct LoadOptions: Sendable {
    public var interfaces: [String]
    /// Entries of the flow table, 1,024 to 4,194,304.
    public var flows: UInt32 = 65_536
    /// Entries of the peer table, 64 to 1,048,576.
    public var peers: UInt32 = 65_536
    /// Clsact even where the kernel has TCX; for tests of the older way.
    public var forceClsact = false

    public init(interfaces: [String]) { self.interfaces = interfaces }
}

/// Brings the BPF programs in and takes them out. Whatever a load did before it failed is undone.
public enum Loader {
    static let filterHandle: UInt32 = 0x6e64
    static let filterPriority: UInt32 = 0x6e64

    public static func load(
        _ instance: Instance, policy: PolicyImage, callouts: CalloutCommit = CalloutCommit(), options: LoadOptions
    ) throws -> LoadRecord {
        guard geteuid() == 0 else {
            throw NDError("load.permission", "loading BPF programs needs root", hint: "run with sudo")
        }
        guard !options.interfaces.isEmpty else {
            throw NDError(
                "load.no-interface", "no interface to protect",
                hint: "name it: --interface eth0, or `interfaces: [eth0]` in the policy")
        }
        try Instance.prepareFileSystem()
        if instance.isLoaded {
            throw NDError(
                "load.already", "instance '\(instance.name)' is loaded already",
                hint: "ndbpf unload --instance \(instance.name) first; nothing was changed")
        }
        var indexes: [(String, Int32, Bool)] = []
        for name in options.interfaces {
            let index = if_nametoindex(name)
            guard index != 0 else {
                throw NDError(
                    "load.interface", "there is no interface '\(name)' in this network namespace",
                    hint: "`ip link` lists them; nothing was changed")
            }
            let type = nd_interface_type(name)
            indexes.append((name, Int32(index), type == 1 /* ARPHRD_ETHER */))
        }
        // Leftovers of a load that was killed.
        try? FileManager.default.removeItem(atPath: instance.pinDirectory)
        try instance.makeRunDirectory()
        var record = LoadRecord()
        record.loadedAt = ISO8601DateFormatter().string(from: Date())
        do {
            try pinPrograms(instance, options, ethernet: Set(indexes.map(\.2)))
            let datapath = try Datapath(instance)
            try datapath.commit(policy, callouts: callouts)
            try LocalAddresses.synchronize(datapath, protected: options.interfaces)
            for (name, index, ethernet) in indexes {
                for direction in ["ingress", "egress"] {
                    record.attachments.append(
                        try attach(
                            instance, program: "nd_\(direction)\(ethernet ? "" : "_l3")", interface: name,
                            ifindex: index, direction: direction, forceClsact: options.forceClsact))
                }
            }
            try record.write(instance)
        } catch {
            undo(instance, record)
            throw error
        }
        return record
    }

    /// Attaches the program that sees decrypted packets to nd0, once the engine has made it.
    public static func attachDevice(_ instance: Instance, device: String, ifindex: Int32) throws {
        guard var record = LoadRecord.read(instance) else {
            throw NDError("instance.not-loaded", "instance '\(instance.name)' has no load record")
        }
        if let old = record.attachments.first(where: { $0.interface == device }) {
            if old.ifindex == ifindex, old.kind == "clsact" || access(instance.linkPin(device, "ingress"), F_OK) == 0 {
                return
            }
            detach(instance, old)
            record.attachments.removeAll { $0.interface == device }
        }
        record.attachments.append(
            try attach(
                instance, program: "nd_nd0_ingress", interface: device, ifindex: ifindex,
                direction: "ingress", forceClsact: record.attachments.first?.kind == "clsact"))
        record.device = device
        try record.write(instance)
    }

    /// Attaches again where an interface went and came back (another index under the same name), or
    /// a link was detached behind our back. Returns the interfaces that were attended to.
    public static func repair(_ instance: Instance) throws -> [String] {
        guard var record = LoadRecord.read(instance) else { return [] }
        var repaired: [String] = []
        for (position, old) in record.attachments.enumerated() where old.interface != record.device {
            let index = Int32(bitPattern: if_nametoindex(old.interface))
            // Gone for now: whatever comes back under the name is a change of links.
            guard index != 0, index != old.ifindex || !isAttached(instance, old) else { continue }
            let ethernet = nd_interface_type(old.interface) == 1
            detach(instance, old)
            record.attachments[position] = try attach(
                instance, program: "nd_\(old.direction)\(ethernet ? "" : "_l3")", interface: old.interface,
                ifindex: index, direction: old.direction, forceClsact: old.kind == "clsact")
            if !repaired.contains(old.interface) { repaired.append(old.interface) }
        }
        if !repaired.isEmpty { try record.write(instance) }
        return repaired
    }

    private static func isAttached(_ instance: Instance, _ attachment: LoadRecord.Attachment) -> Bool {
        guard attachment.kind == "tcx" else { return true }
        let fd = bpf_obj_get(instance.linkPin(attachment.interface, attachment.direction))
        guard fd >= 0 else { return false }
        defer { close(fd) }
        var program: UInt32 = 0
        var ifindex: UInt32 = 0
        // A link whose device went has no index any more.
        return nd_link_describe(fd, &program, &ifindex) == 0 && ifindex == UInt32(bitPattern: attachment.ifindex)
    }

    /// Takes everything back. Returns what was there to take back.
    public static func unload(_ instance: Instance) throws -> LoadRecord {
        guard geteuid() == 0 else {
            throw NDError("load.permission", "unloading needs root", hint: "run with sudo")
        }
        let record = LoadRecord.read(instance)
        guard record != nil || access(instance.pinDirectory, F_OK) == 0 else {
            throw NDError(
                "instance.not-loaded", "instance '\(instance.name)' is not loaded", hint: "nothing was changed")
        }
        undo(instance, record ?? LoadRecord())
        return record ?? LoadRecord()
    }

    public static var filterPriorityShown: UInt32 { filterPriority }

    /// Loads the programs and attaches one to the loopback for a moment: "tcx" or "clsact".
    public static func probe() -> Result<String, NDError> {
        var size = 0
        let image = nd_object_tc(&size)
        guard let object = nd_bpf_open(image, size, "nd_probe") else {
            return .failure(NDError("load.object", "can't open the BPF object: \(String(cString: nd_bpf_log()))"))
        }
        defer { bpf_object__close(object) }
        for name in ["nd_flows", "nd_peers", "nd_protections"] {
            if let map = bpf_object__find_map_by_name(object, name) { bpf_map__set_max_entries(map, 64) }
        }
        let loaded = bpf_object__load(object)
        guard loaded == 0, let program = bpf_object__find_program_by_name(object, "nd_ingress") else {
            return .failure(VerifierReport.refusal(nd_object_tc, "nd_tc", error: loaded))
        }
        let loopback = if_nametoindex("lo")
        guard loopback != 0 else { return .success("clsact") }
        // Without a policy the program passes everything.
        let link = nd_tcx_attach(bpf_program__fd(program), Int32(loopback), true)
        if link >= 0 { close(link) }
        return .success(link >= 0 ? "tcx" : "clsact")
    }

    // MARK: -

    /// Programs for links with an Ethernet header, without one, or both: a verifier takes its time over each.
    private static func pinPrograms(_ instance: Instance, _ options: LoadOptions, ethernet: Set<Bool>) throws {
        var size = 0
        let image = nd_object_tc(&size)
        guard let object = nd_bpf_open(image, size, "nd_tc") else {
            throw NDError("load.object", "can't open the BPF object: \(String(cString: nd_bpf_log()))")
        }
        defer { bpf_object__close(object) }
        for (name, entries) in [
            ("nd_flows", options.flows), ("nd_secured", options.flows), ("nd_peers", options.peers), ("nd_protections", options.peers),
        ] {
            guard let map = bpf_object__find_map_by_name(object, name),
                bpf_map__set_max_entries(map, entries) == 0
            else { throw NDError("load.object", "the BPF object has no map \(name)") }
        }
        let programs = Datapath.programNames.filter { name in
            name == "nd_nd0_ingress" || name == SecuredSweep.program || ethernet.contains(!name.hasSuffix("_l3"))
        }
        for name in Datapath.programNames where !programs.contains(name) {
            if let program = bpf_object__find_program_by_name(object, name) { bpf_program__set_autoload(program, false) }
        }
        let loaded = bpf_object__load(object)
        guard loaded == 0 else {
            throw VerifierReport.refusal(nd_object_tc, "nd_tc", programs: programs, error: loaded)
        }
        try FileManager.default.createDirectory(
            atPath: instance.pinDirectory, withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700])
        if let map = bpf_object__find_map_by_name(object, "nd_state") {
            var state = nd_state()
            state.abi = ND_ABI_VERSION
            state.epoch = 1
            try BPFMap<UInt32, nd_state>(descriptor: bpf_map__fd(map), name: "nd_state").update(0, state)
        }
        for name in Datapath.mapNames {
            guard let map = bpf_object__find_map_by_name(object, name),
                bpf_map__pin(map, instance.mapPin(name)) == 0
            else { throw NDError("load.pin", "can't pin map \(name): \(String(cString: nd_bpf_log()))") }
        }
        for name in programs {
            guard let program = bpf_object__find_program_by_name(object, name),
                bpf_program__pin(program, instance.mapPin("prog_\(name)")) == 0
            else { throw NDError("load.pin", "can't pin program \(name): \(String(cString: nd_bpf_log()))") }
        }
    }

    private static func attach(
        _ instance: Instance, program: String, interface: String, ifindex: Int32, direction: String,
        forceClsact: Bool
    ) throws -> LoadRecord.Attachment {
        let fd = try instance.openPin("prog_\(program)")
        defer { close(fd) }
        let ingress = direction == "ingress"
        var attachment = LoadRecord.Attachment(
            interface: interface, ifindex: ifindex, direction: direction, kind: "tcx", madeQdisc: false)
        let link = forceClsact ? -EINVAL : nd_tcx_attach(fd, ifindex, ingress)
        if link >= 0 {
            defer { close(link) }
            guard bpf_obj_pin(link, instance.linkPin(interface, direction)) == 0 else {
                throw NDError("load.pin", "can't pin the link of \(interface): \(String(cString: strerror(errno)))")
            }
            return attachment
        }
        // Kernels before 6.6 answer EINVAL: no TCX there.
        guard link == -EINVAL else {
            throw NDError(
                "load.attach", "can't attach to \(interface) \(direction): \(String(cString: strerror(-link)))")
        }
        var made = false
        let error = nd_clsact_attach(fd, ifindex, ingress, filterHandle, filterPriority, &made)
        guard error == 0 else {
            throw NDError(
                "load.attach", "can't attach to \(interface) \(direction): \(String(cString: strerror(-error)))",
                context: String(cString: nd_bpf_log()),
                hint: error == -EEXIST ? "a filter with priority \(filterPriority) is there already: tc filter show dev \(interface) \(direction)" : nil)
        }
        attachment.kind = "clsact"
        attachment.madeQdisc = made
        return attachment
    }

    private static func detach(_ instance: Instance, _ attachment: LoadRecord.Attachment) {
        if attachment.kind == "tcx" {
            unlink(instance.linkPin(attachment.interface, attachment.direction))
        } else {
            _ = nd_clsact_detach(
                attachment.ifindex, attachment.direction == "ingress", filterHandle, filterPriority)
        }
    }

    private static func undo(_ instance: Instance, _ record: LoadRecord) {
        for attachment in record.attachments { detach(instance, attachment) }
        for index in Set(record.attachments.filter(\.madeQdisc).map(\.ifindex)) {
            _ = nd_clsact_remove_qdisc(index)
        }
        // bpffs has no recursive delete of its own, and a pinned link falls with its file.
        for file in (try? FileManager.default.contentsOfDirectory(atPath: instance.pinDirectory)) ?? [] {
            unlink("\(instance.pinDirectory)/\(file)")
        }
        rmdir(instance.pinDirectory)
        rmdir("\(Instance.bpffs)/ndbpf")
        unlink(instance.recordFile)
        unlink(instance.controlSocket)
        for lock in ["commit.lock", "state.lock"] { unlink("\(instance.runDirectory)/\(lock)") }
        rmdir(instance.runDirectory)
        rmdir("/run/ndbpf")
    }
}
