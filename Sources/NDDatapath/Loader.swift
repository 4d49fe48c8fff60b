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
    public var tables = TableSizeChoice()
    /// Clsact even where the kernel has TCX; for tests of the older way.
    public var forceClsact = false

    public init(interfaces: [String]) { self.interfaces = interfaces }
}

/// Brings the BPF programs in and takes them out. Whatever a load did before it failed is undone.
public enum Loader {
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
        switch try instance.residence() {
        case .notLoaded: break
        case .here:
            throw NDError(
                "load.already", "instance '\(instance.name)' is loaded already",
                hint: "`ndbpf policy apply` changes its policy; ndbpf unload --instance \(instance.name) takes it away. Nothing was changed")
        case .elsewhere: try instance.requireHere("load.namespace")
        case .abandoned: try abandon(instance)
        }
        let patterns = try patterns(options.interfaces)
        let links = try LinkTable.read(defaultRoutes: patterns.contains(.defaultRoute))
        for missing in InterfaceRoles(patterns).unmatched(links) {
            guard case .name(let name) = missing else { continue }
            throw NDError(
                "load.interface", "there is no interface '\(name)' in this network namespace",
                hint: "`ip link` lists them; a pattern may name some that come later, '\(name)*' too. Nothing was changed")
        }
        // Leftovers of a load that was killed.
        try? FileManager.default.removeItem(atPath: instance.pinDirectory)
        try instance.makeRunDirectory()
        var record = LoadRecord()
        record.loadedAt = ISO8601DateFormatter().string(from: Date())
        record.interfaces = options.interfaces
        if options.forceClsact { record.clsact = true }
        do {
            let protected = links.filter { InterfaceRoles(patterns).role(of: $0) == .protected }
            try pinPrograms(instance, options, ethernet: Set(protected.map(\.isEthernet)))
            try instance.pinNamespace()
            try BuildMark.write(instance)
            record.build = BuildMark.own
            record.missingHooks = try NetfilterHooks.attach(instance)
            try record.write(instance)
            let datapath = try Datapath(instance)
            try datapath.commit(policy, callouts: callouts)
            try LocalAddresses.synchronize(datapath, protected: protected.map(\.name))
            let keeper = try InterfaceKeeper(instance, record)
            defer { record = keeper.loaded }
            try keeper.settle()
            // A guard that can't be attached is a trouble that the daemon goes on with; a protected interface must be.
            if let state = keeper.current.first(where: { $0.role == .protected && !$0.isInPlace }), let trouble = state.trouble {
                throw NDError(
                    "load.attach", "can't protect \(state.interface): \(trouble)",
                    hint: "tc qdisc show dev \(state.interface), tc filter show dev \(state.interface) ingress, bpftool net show dev \(state.interface) tell what is there; nothing was changed")
            }
        } catch {
            undo(instance, record)
            throw error
        }
        return record
    }

    /// Each of them, or an error that names the one that none could be.
    public static func patterns(_ texts: [String]) throws(NDError) -> [InterfacePattern] {
        var patterns: [InterfacePattern] = []
        for text in texts {
            guard let pattern = InterfacePattern(text) else {
                throw NDError(
                    "load.interface", "'\(text)' is no interface name and no pattern",
                    hint: "a name, a pattern with * or ?, all, or default-route; nothing was changed")
            }
            patterns.append(pattern)
        }
        return patterns
    }

    /// Takes away the pins of an instance whose network namespace nobody is in any more. False: it is not such a one.
    @discardableResult
    public static func abandon(_ instance: Instance) throws -> Bool {
        guard try instance.residence() == .abandoned else { return false }
        // Its filters went or go with its devices; indexes of the record are other devices' here.
        clear(instance)
        return true
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
        try instance.requireHere("unload.namespace")
        if try abandon(instance) { return record ?? LoadRecord() }
        undo(instance, record ?? LoadRecord())
        return record ?? LoadRecord()
    }

    public static func hooksAreAttached(_ instance: Instance) -> Bool { NetfilterHooks.areAttached(instance) }

    /// Why this kernel has no guard behind the routing; nil where it has.
    public static func probeHooks() -> String? { NetfilterHooks.probe() }

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
    static func pinPrograms(_ instance: Instance, _ options: LoadOptions, ethernet: Set<Bool>) throws {
        var size = 0
        let image = nd_object_tc(&size)
        guard let object = nd_bpf_open(image, size, "nd_tc") else {
            throw NDError("load.object", "can't open the BPF object: \(String(cString: nd_bpf_log()))")
        }
        defer { bpf_object__close(object) }
        let sizes = options.tables.resolved()
        for (name, entries) in [
            ("nd_flows", sizes.flows), ("nd_secured", sizes.secured), ("nd_peers", sizes.peers), ("nd_protections", sizes.peers),
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

    private static func undo(_ instance: Instance, _ record: LoadRecord) {
        // Filters that a killed upgrade, or load, wrote into no record.
        let links = (try? LinkTable.read(defaultRoutes: false)) ?? []
        for pins in [instance] + UpgradePins(instance: instance).all { try? SupersededPrograms.takeOff(pins, among: links) }
        for attachment in record.attachments where attachment.kind == "clsact" {
            _ = nd_clsact_detach(
                attachment.ifindex, attachment.direction == "ingress", attachment.handle ?? DeviceHook.handles[0],
                attachment.priority ?? DeviceHook.preferences[0])
        }
        for index in Set(record.attachments.filter(\.madeQdisc).map(\.ifindex)) {
            // With it would go what others have put there.
            let others = [true, false].contains { ingress in
                (try? DeviceHook(index: UInt32(bitPattern: index), ingress: ingress).filters())?.isEmpty == false
            }
            if !others { _ = nd_clsact_remove_qdisc(index) }
        }
        clear(instance)
    }

    private static func clear(_ instance: Instance) {
        for pins in [instance] + UpgradePins(instance: instance).all { pins.removePins() }
        rmdir("\(Instance.bpffs)/ndbpf")
        for record in [instance, UpgradePins(instance: instance).next] { unlink(record.recordFile) }
        unlink(instance.controlSocket)
        for lock in ["commit.lock", "state.lock"] { unlink("\(instance.runDirectory)/\(lock)") }
        rmdir(instance.runDirectory)
        rmdir("/run/ndbpf")
    }
}
