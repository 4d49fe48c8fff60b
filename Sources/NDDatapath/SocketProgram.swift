import CLibbpf
import CNDABI
import CNDObjects
import Foundation
import NDCore

/// The program that sees what the kernel's ESP decrypted, on its way into a socket (bpf/nd_socket.bpf.c).
enum SocketProgram {
    private static let name = "nd_socket"
    private static func link(_ instance: Instance) -> String { instance.mapPin("link_socket") }
    private static let pin = "prog_\(name)"

    static func isAttached(_ instance: Instance) -> Bool { access(link(instance), F_OK) == 0 }

    /// Loads it with the instance's maps; attached to nothing yet.
    static func load(_ instance: Instance) throws {
        guard access(instance.mapPin(pin), F_OK) != 0 else { return }
        var size = 0
        let image = nd_object_socket(&size)
        guard let object = nd_bpf_open(image, size, name) else {
            throw NDError("load.object", "can't open the BPF object: \(String(cString: nd_bpf_log()))")
        }
        defer { bpf_object__close(object) }
        for map in Datapath.mapNames {
            guard let this = bpf_object__find_map_by_name(object, map) else { continue }
            // Each must be the instance's own: with another nd_state or nd_flows it would let everything pass.
            let error = try ObjectParts.share(this, with: instance, pin: map)
            guard error == 0 else { throw NDError("load.map", "can't share map \(map): \(String(cString: strerror(-error)))") }
        }
        let error = bpf_object__load(object)
        guard error == 0 else { throw VerifierReport.refusal(nd_object_socket, name, error: error) }
        guard let slots = bpf_object__find_map_by_name(object, CalloutSlots.socketMap),
            let loaded = bpf_object__find_program_by_name(object, name),
            bpf_map__pin(slots, instance.mapPin(CalloutSlots.socketMap)) == 0,
            bpf_obj_pin(bpf_program__fd(loaded), instance.mapPin(pin)) == 0
        else { throw NDError("load.pin", "can't pin the program for sockets: \(String(cString: strerror(errno)))") }
    }

    static func attach(_ instance: Instance) throws {
        guard !isAttached(instance) else { return }
        let fd = try instance.openPin(pin)
        defer { close(fd) }
        let root = try CgroupRoot.open()
        defer { close(root) }
        let made = nd_cgroup_attach(fd, root)
        guard made >= 0 else {
            throw NDError(
                "load.cgroup", "can't attach to the root cgroup: \(String(cString: strerror(-made)))",
                hint: "filters for what arrives protected need a cgroup program on the kernel engine; `engine: user` needs none. Nothing was changed")
        }
        defer { close(made) }
        guard bpf_obj_pin(made, link(instance)) == 0 else {
            throw NDError("load.pin", "can't pin the link of the root cgroup: \(String(cString: strerror(errno)))")
        }
    }

    static func detach(_ instance: Instance) {
        unlink(link(instance))
        unlink(instance.mapPin(pin))
        unlink(instance.mapPin(CalloutSlots.socketMap))
    }
}

/// The root of the host's cgroups (version 2): a program there runs for every socket, whatever its namespace.
enum CgroupRoot {
    private static let ownMount = "/run/ndbpf/cgroup"

    static func open() throws -> Int32 {
        if let path = mounted() {
            let fd = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            if fd >= 0 { return fd }
        }
        // Seen by nobody else for longer than the open takes.
        mkdir(ownMount, 0o700)
        defer { rmdir(ownMount) }
        guard mount("none", ownMount, "cgroup2", 0, nil) == 0 else {
            throw NDError(
                "load.cgroup", "can't mount a cgroup file system: \(String(cString: strerror(errno)))",
                hint: "mount one: mount -t cgroup2 none /sys/fs/cgroup")
        }
        defer { umount2(ownMount, Int32(MNT_DETACH)) }
        let fd = Glibc.open(ownMount, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard fd >= 0 else { throw NDError("load.cgroup", "can't open \(ownMount): \(String(cString: strerror(errno)))") }
        return fd
    }

    /// A mount point whose root is the hierarchy's own, not a container's part.
    private static func mounted() -> String? {
        guard let text = try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8) else { return nil }
        for line in text.split(separator: "\n") {
            let halves = line.components(separatedBy: " - ")
            guard halves.count == 2, halves[1].hasPrefix("cgroup2 ") else { continue }
            let fields = halves[0].split(separator: " ")
            guard fields.count > 4, fields[3] == "/" else { continue }
            return fields[4].replacingOccurrences(of: "\\040", with: " ")
        }
        return nil
    }
}
