import CLibbpf
import CNDObjects
import Foundation
import NDCore

/// The programs that hang on devices, loaded over the instance's maps when the first interface needs one. A program
/// can't hang twice on one hook, so to come before others without a gap there is a twin of each.
struct PinnedPrograms {
    /// nd_egress and so on; a twin's ends with `_twin`.
    typealias Name = String

    let instance: Instance
    /// Ids of all that is pinned.
    private(set) var ids: [Name: UInt32] = [:]

    private static let prefix = "prog_"
    private static let twin = "_twin"

    init(_ instance: Instance) throws {
        self.instance = instance
        for pin in instance.pins(Self.prefix) {
            let name = String(pin.dropFirst(Self.prefix.count))
            guard Self.isForDevices(name) else { continue }
            ids[name] = try id(name)
        }
        for (name, id) in ids { register(id, name) }
    }

    private static func isForDevices(_ name: Name) -> Bool {
        let base = name.hasSuffix(twin) ? String(name.dropLast(twin.count)) : name
        return Datapath.programNames.contains(base) || base.hasPrefix("nd_guard_")
    }

    /// The program that an interface's direction has to have.
    static func name(_ role: InterfaceRole, ingress: Bool, ethernet: Bool) -> Name? {
        let direction = ingress ? "ingress" : "egress"
        switch role {
        case .protected: return "nd_\(direction)\(ethernet ? "" : "_l3")"
        case .guarded: return "nd_guard_\(direction)\(ethernet ? "" : "_l3")"
        case .device: return ingress ? "nd_nd0_ingress" : nil
        }
    }

    static func twin(of name: Name) -> Name { name + twin }

    /// Both forms of a program, as far as they are loaded.
    func ids(of name: Name) -> [UInt32] { [ids[name], ids[Self.twin(of: name)]].compactMap { $0 } }

    /// An open descriptor of the program, or of its twin where it hangs on the hook already; whoever calls closes it.
    mutating func descriptor(_ name: Name, notAmong hanging: [UInt32]) throws -> Int32 {
        let form = [name, Self.twin(of: name)].first { form in ids[form].map { !hanging.contains($0) } ?? true }
        // Both hang there: somebody attached one of ours by hand.
        guard let form else {
            throw NDError("load.attach", "both forms of \(name) hang there already", hint: "ndbpf unload, then load again")
        }
        if ids[form] == nil { try load(name, as: form) }
        return try instance.openPin(Self.prefix + form)
    }

    private mutating func load(_ name: Name, as form: Name) throws {
        var size = 0
        let image = name.hasPrefix("nd_guard_") ? nd_object_guard(&size) : nd_object_tc(&size)
        guard let object = nd_bpf_open(image, size, "nd_tc") else {
            throw NDError("load.object", "can't open the BPF object: \(String(cString: nd_bpf_log()))")
        }
        defer { bpf_object__close(object) }
        for program in ObjectParts.programs(object) {
            bpf_program__set_autoload(program, String(cString: bpf_program__name(program)) == name)
        }
        let error = try ObjectParts.shareAll(object, with: instance) ?? bpf_object__load(object)
        guard error == 0, let program = bpf_object__find_program_by_name(object, name) else {
            throw NDError(
                "load.verifier", "the kernel refused the program \(name): \(String(cString: strerror(-error)))",
                context: String(cString: nd_bpf_log()), hint: "`ndbpf doctor` tells what this kernel can do")
        }
        guard bpf_obj_pin(bpf_program__fd(program), instance.mapPin(Self.prefix + form)) == 0 else {
            throw NDError("load.pin", "can't pin program \(form): \(String(cString: strerror(errno)))")
        }
        let id = try id(form)
        ids[form] = id
        register(id, form)
    }

    private func id(_ form: Name) throws -> UInt32 {
        let fd = try instance.openPin(Self.prefix + form)
        defer { close(fd) }
        var id: UInt32 = 0
        let error = nd_program_id(fd, &id)
        guard error == 0 else {
            throw NDError("load.pin", "can't read program \(form): \(String(cString: strerror(-error)))")
        }
        return id
    }

    /// The hooks know ndbpf's programs by it; while an upgrade is under way the old ones know the new ones too.
    private func register(_ id: UInt32, _ form: Name) {
        for instance in Set([instance, instance.inForce]) {
            let map = bpf_obj_get(instance.mapPin(NetfilterHooks.programsMap))
            guard map >= 0 else { continue }
            defer { close(map) }
            var key = id
            var value: UInt32 = form.hasPrefix("nd_guard_") ? 2 : form.hasPrefix("nd_nd0") ? 3 : 1
            bpf_map_update_elem(map, &key, &value, 0)
        }
    }
}

extension ObjectParts {
    /// Puts the instance's maps in the places of the object's own that have their names. nil, or a negative errno.
    static func shareAll(_ object: OpaquePointer, with instance: Instance) throws(NDError) -> Int32? {
        for map in maps(object) {
            let name = String(cString: bpf_map__name(map))
            guard access(instance.mapPin(name), F_OK) == 0 else { continue }
            let error = try share(map, with: instance, pin: name)
            if error != 0 { return error }
        }
        return nil
    }
}
