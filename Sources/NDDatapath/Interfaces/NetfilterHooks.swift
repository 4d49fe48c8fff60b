import CLibbpf
import CNDObjects
import Foundation
import NDCore

/// The guard that hangs on no device (bpf/nd_hook.bpf.c): four links of netfilter, pinned.
enum NetfilterHooks {
    static let programsMap = "nd_programs"

    /// NF_INET_LOCAL_IN and NF_INET_POST_ROUTING.
    private static let hooks: [(program: String, number: UInt32)] = [("nd_hook_in", 1), ("nd_hook_out", 4)]
    /// The last places but the kernel's own, and some before it: two instances may be in one namespace.
    private static let priorities = stride(from: Int32.max - 1, to: Int32.max - 17, by: -1)

    private static func pin(_ program: String, ipv6: Bool) -> String { "link_\(program)_\(ipv6 ? "ipv6" : "ipv4")" }

    static func areAttached(_ instance: Instance) -> Bool {
        hooks.allSatisfy { hook in
            [false, true].allSatisfy { access(instance.mapPin(pin(hook.program, ipv6: $0)), F_OK) == 0 }
        }
    }

    /// nil, or why this kernel has no such hooks. `others`: programs that guard a device too.
    static func attach(_ instance: Instance, knowing others: Set<UInt32> = []) throws -> String? {
        let (object, why) = try opened(instance)
        guard let object else { return why }
        defer { bpf_object__close(object) }
        if let map = bpf_object__find_map_by_name(object, programsMap), access(instance.mapPin(programsMap), F_OK) != 0,
            bpf_map__pin(map, instance.mapPin(programsMap)) != 0
        {
            throw NDError("load.pin", "can't pin map \(programsMap): \(String(cString: strerror(errno)))")
        }
        // Before the first packet comes here.
        _ = try PinnedPrograms(instance)
        if !others.isEmpty {
            let known: BPFMap<UInt32, UInt32> = try instance.openMap(programsMap)
            defer { close(known.descriptor) }
            for id in others { try known.update(id, 1) }
        }
        for hook in hooks {
            guard let program = bpf_object__find_program_by_name(object, hook.program) else { continue }
            for ipv6 in [false, true] {
                let error = attach(bpf_program__fd(program), ipv6, hook.number, instance.mapPin(pin(hook.program, ipv6: ipv6)))
                // A kernel without IPv6.
                if ipv6, error == -EAFNOSUPPORT || error == -EOPNOTSUPP { continue }
                guard error == 0 else {
                    detach(instance)
                    return "netfilter takes no BPF program: \(String(cString: strerror(-error)))"
                }
            }
        }
        return nil
    }

    /// The programs of an earlier version are gone.
    static func forgetOthers(_ instance: Instance) throws {
        guard access(instance.mapPin(programsMap), F_OK) == 0 else { return }
        let known: BPFMap<UInt32, UInt32> = try instance.openMap(programsMap)
        defer { close(known.descriptor) }
        let own = Set(try PinnedPrograms(instance).ids.values)
        for (id, _) in known.entries() where !own.contains(id) { known.delete(id) }
    }

    /// By its release, so that a newer kernel which takes none is not one that has none.
    static func areKnown(to release: String) -> Bool {
        let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        return numbers.count == 2 && (numbers[0] > 6 || (numbers[0] == 6 && numbers[1] >= 4))
    }

    /// nil, or why not: loaded, attached to nothing.
    static func probe() -> String? {
        guard let (object, why) = try? opened(nil) else { return "the BPF object can't be opened" }
        guard let object else { return why }
        bpf_object__close(object)
        return nil
    }

    static func detach(_ instance: Instance) {
        for hook in hooks { for ipv6 in [false, true] { unlink(instance.mapPin(pin(hook.program, ipv6: ipv6))) } }
        unlink(instance.mapPin(programsMap))
    }

    private static func opened(_ instance: Instance?) throws -> (OpaquePointer?, String?) {
        var size = 0
        let image = nd_object_hook(&size)
        guard let object = nd_bpf_open(image, size, "nd_hook") else {
            throw NDError("load.object", "can't open the BPF object: \(String(cString: nd_bpf_log()))")
        }
        for program in ObjectParts.programs(object) { nd_netfilter_program(program) }
        let error = try instance.flatMap { try ObjectParts.shareAll(object, with: $0) } ?? bpf_object__load(object)
        guard error == 0 else {
            bpf_object__close(object)
            _ = String(cString: nd_bpf_log())
            return (nil, "the kernel has no netfilter programs (Linux 6.4, CONFIG_NETFILTER_BPF_LINK): \(String(cString: strerror(-error)))")
        }
        return (object, nil)
    }

    private static func attach(_ program: Int32, _ ipv6: Bool, _ hook: UInt32, _ pin: String) -> Int32 {
        for priority in priorities {
            let link = nd_netfilter_attach(program, ipv6, hook, priority)
            if link == -EBUSY { continue }
            guard link >= 0 else { return link }
            defer { close(link) }
            return bpf_obj_pin(link, pin) == 0 ? 0 : -errno
        }
        return -EBUSY
    }
}
