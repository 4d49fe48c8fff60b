import CNDSystem
import Foundation
import NDCore

/// A network namespace, known again. What is pinned stays when the namespace goes that it was loaded in, and its
/// name may be another one's by then.
public struct NetworkNamespace: Hashable, Sendable, CustomStringConvertible {
    /// Never given twice between two boots, which no pin survives either.
    public var cookie: UInt64
    /// Of its file in nsfs: by it those inside are found.
    public var inode: UInt64

    public var description: String { "net:[\(inode)]" }

    /// This thread's.
    public static func current() throws(NDError) -> NetworkNamespace {
        var cookie: UInt64 = 0
        let error = nd_namespace_cookie(&cookie)
        var status = stat()
        guard error == 0, stat("/proc/thread-self/ns/net", &status) == 0 else {
            throw NDError(
                "namespace.read", "can't tell which network namespace this is: \(String(cString: strerror(error == 0 ? errno : -error)))",
                hint: "Linux 5.14 or newer and a mounted /proc are needed")
        }
        return NetworkNamespace(cookie: cookie, inode: UInt64(status.st_ino))
    }

    /// Whether a process lives in it or a name leads to it. Our own pinned links of netfilter keep a namespace that
    /// nobody can enter any more (measured on 6.18), and so no sign of life.
    public var isInhabited: Bool {
        let link = description
        let processes = ((try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []).filter { Int($0) != nil }
        for process in processes {
            let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? []
            for thread in threads where Self.target("/proc/\(process)/task/\(thread)/ns/net") == link { return true }
        }
        // A mount of its file: `ip netns` and container runtimes.
        let mounts = (try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)) ?? ""
        return mounts.split(separator: "\n").contains { line in
            let fields = line.split(separator: " ")
            return fields.count > 3 && fields[3] == link
        }
    }

    private static func target(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 64)
        let count = readlink(path, &buffer, buffer.count - 1)
        return count > 0 ? String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self) : nil
    }
}

extension Instance {
    /// A symbolic link among the pins, so that it lives exactly as long as they do.
    private var namespacePin: String { mapPin("namespace") }

    public var namespace: NetworkNamespace? {
        var buffer = [CChar](repeating: 0, count: 64)
        let count = readlink(namespacePin, &buffer, buffer.count - 1)
        guard count > 0 else { return nil }
        let words = String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
            .split(separator: "-").map(String.init)
        guard words.count == 3, let cookie = UInt64(words[1]), let inode = UInt64(words[2]) else { return nil }
        return NetworkNamespace(cookie: cookie, inode: inode)
    }

    func pinNamespace() throws(NDError) {
        let here = try NetworkNamespace.current()
        unlink(namespacePin)
        guard symlink("netns-\(here.cookie)-\(here.inode)", namespacePin) == 0 else {
            throw NDError("load.pin", "can't pin the network namespace's mark: \(String(cString: strerror(errno)))")
        }
    }

    public enum Residence: Equatable, Sendable {
        case notLoaded
        case here
        /// Loaded in a network namespace in which nobody is any more, or which is gone.
        case abandoned
        case elsewhere(NetworkNamespace)
    }

    /// Where the instance is loaded, seen from this thread's network namespace.
    public func residence() throws(NDError) -> Residence {
        guard isLoaded else { return .notLoaded }
        let here = try NetworkNamespace.current()
        // Loaded by a version that left no mark: only its own namespace can tell.
        guard let home = namespace, home != here else { return .here }
        return home.isInhabited ? .elsewhere(home) : .abandoned
    }

    /// Commands that change or adopt what is loaded work in its namespace only.
    public func requireHere(_ code: String) throws(NDError) {
        guard case .elsewhere(let home) = try residence() else { return }
        throw NDError(
            code, "instance '\(name)' is loaded in another network namespace, \(home), which is in use",
            hint: "work there: --netns NAME; or give this one an instance of its own: --instance NAME. Nothing was changed")
    }
}
