import CLibbpf
import CNDABI
import CNDSystem
import Foundation
import NDABI
import NDCore

/// The programs of a state that is superseded: where they hang, and taking them off once others stand before them.
enum SupersededPrograms {
    /// Ids of all that is pinned as a program.
    static func ids(_ instance: Instance) throws(NDError) -> Set<UInt32> {
        var ids: Set<UInt32> = []
        for pin in instance.pins("prog_") {
            let fd = try instance.openPin(pin)
            defer { close(fd) }
            var id: UInt32 = 0
            let error = nd_program_id(fd, &id)
            guard error == 0 else {
                throw NDError("load.pin", "can't read program \(pin): \(String(cString: strerror(-error)))")
            }
            ids.insert(id)
        }
        return ids
    }

    /// Devices of this network namespace that one of the programs hangs on.
    static func devices(_ ids: Set<UInt32>, among links: [NetworkInterface]) throws(NDError) -> Set<UInt32> {
        var found: Set<UInt32> = []
        for link in links {
            for ingress in [true, false] {
                let hook = DeviceHook(index: link.index, ingress: ingress)
                let programs = (try hook.tcxPrograms() ?? []) + (try hook.filters() ?? []).map(\.program)
                if programs.contains(where: { ids.contains($0) }) { found.insert(link.index) }
            }
        }
        return found
    }

    /// Filters of clsact, which no pin holds, by what the kernel says of them.
    static func detachFilters(_ ids: Set<UInt32>, among links: [NetworkInterface]) throws(NDError) {
        for link in links {
            for ingress in [true, false] {
                let hook = DeviceHook(index: link.index, ingress: ingress)
                for filter in try hook.filters() ?? [] where ids.contains(filter.program) {
                    let error = nd_clsact_detach(Int32(bitPattern: link.index), ingress, filter.handle, filter.priority)
                    guard error == 0 || error == -ENOENT || error == -ENODEV else {
                        throw NDError(
                            "upgrade.detach",
                            "can't take an old filter off \(link.name) \(hook.direction): \(String(cString: strerror(-error)))",
                            hint: "the new one stands before it; ndbpf load once more goes on")
                    }
                }
            }
        }
    }

    /// Everything that hangs anywhere: on devices, behind the routing, at the sockets.
    static func takeOff(_ instance: Instance, among links: [NetworkInterface]) throws(NDError) {
        for pin in instance.pins("link_") {
            // A link whose last pin goes hangs on for a moment; what is merged afterwards must be the last word.
            let link = bpf_obj_get(instance.mapPin(pin))
            if link >= 0 {
                _ = bpf_link_detach(link)
                close(link)
            }
            unlink(instance.mapPin(pin))
        }
        try detachFilters(try ids(instance), among: links)
    }
}

/// Puts the new programs before the old ones on every interface, and the new guard behind the routing beside the old
/// one. Each guard is told of the other's programs: a device whose first program is either's is guarded.
struct ProgramSwitch {
    let next: Instance
    let before: [Instance]

    func perform(_ record: LoadRecord) throws {
        var record = record
        var theirs: Set<UInt32> = []
        for state in before { theirs.formUnion(try SupersededPrograms.ids(state)) }
        let links = try LinkTable.read(defaultRoutes: false)
        try markGuarded(by: theirs, links, clsact: record.clsact == true)
        if !NetfilterHooks.areAttached(next) {
            record.missingHooks = try NetfilterHooks.attach(next, knowing: theirs)
            try record.write(next)
        }
        let keeper = try InterfaceKeeper(next, record)
        try keeper.settle()
        if let state = keeper.current.first(where: { $0.role == .protected && !$0.isInPlace }), let trouble = state.trouble {
            throw NDError(
                "load.attach", "can't put the new programs first on \(state.interface): \(trouble)",
                hint: "tc filter show dev \(state.interface) ingress, bpftool net show dev \(state.interface) tell what is there; nothing was changed")
        }
    }

    /// Where the hooks behind the routing go by the map of interfaces alone, a device that old programs hang on is
    /// guarded until the new ones do.
    private func markGuarded(by ids: Set<UInt32>, _ links: [NetworkInterface], clsact: Bool) throws {
        let interfaces: BPFMap<UInt32, nd_interface> = try next.openMap("nd_interfaces")
        defer { close(interfaces.descriptor) }
        for index in try SupersededPrograms.devices(ids, among: links) {
            let value = nd_interface(role: ND_INTERFACE_GUARDED.rawValue, flags: clsact ? ND_INTERFACE_CLSACT : 0)
            try interfaces.update(index, value, onlyNew: true)
        }
    }
}
