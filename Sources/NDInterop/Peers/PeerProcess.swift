import Foundation
import Glibc
import NDCore
import NDLab

/// A daemon of another project, from its unpacked package, in a network namespace and a mount
/// namespace of its own: /run is private, and its programs lie where they were built for.
final class PeerProcess: @unchecked Sendable {
    private let process = Process()
    let logFile: String

    /// `binds` are folders of the tree and where the programs look for them.
    init(
        host: Lab.Host, tree: String, binds: [(from: String, to: String)], libraries: [String], command: [String],
        environment: [String: String] = [:], logFile: String
    ) throws {
        self.logFile = logFile
        let output = logFile + ".out"
        _ = FileManager.default.createFile(atPath: output, contents: nil)
        guard let handle = FileHandle(forWritingAtPath: output) else {
            throw NDError("interop.log", "can't write \(output)")
        }
        // `ip netns exec` would mount /sys anew and hide bpffs; nsenter does not.
        var script = "mount --make-rprivate / && mount -t tmpfs -o mode=755 run /run\n"
        for bind in binds {
            script += "mkdir -p \(bind.to) && mount --bind \(tree)/\(bind.from) \(bind.to) || exit 1\n"
        }
        script += "exec \"$@\"\n"
        process.executableURL = URL(fileURLWithPath: "/usr/bin/nsenter")
        process.arguments =
            ["--net=\(host.namespacePath)", "unshare", "--mount", "sh", "-c", script, "peer"] + command
        process.environment = ProcessInfo.processInfo.environment.merging(
            environment.merging(["LD_LIBRARY_PATH": libraries.map { "\(tree)/\($0)" }.joined(separator: ":")]) { a, _ in a }
        ) { $1 }
        process.standardOutput = handle
        process.standardError = handle
        process.standardInput = FileHandle.nullDevice
        try process.run()
    }

    var isRunning: Bool { process.isRunning }

    var log: String {
        func text(_ path: String) -> String {
            (FileManager.default.contents(atPath: path)).map { String(decoding: $0, as: UTF8.self) } ?? ""
        }
        return text(logFile) + text(logFile + ".out")
    }

    /// SIGTERM, SIGKILL after two seconds.
    func stop() {
        guard process.isRunning else { return }
        Glibc.kill(process.processIdentifier, SIGTERM)
        let deadline = Instant.now().advanced(by: .seconds(2))
        while process.isRunning, Instant.now() < deadline { usleep(10_000) }
        if process.isRunning { Glibc.kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }
}

/// Waits for something that comes about elsewhere.
enum Wait {
    static func until(
        _ what: String, seconds: Double, every microseconds: UInt32 = 10_000, _ condition: () throws -> Bool
    ) throws {
        let deadline = Instant.now().advanced(by: .seconds(seconds))
        while try !condition() {
            guard Instant.now() < deadline else {
                throw NDError("interop.timeout", "\(what): not within \(seconds) s")
            }
            usleep(microseconds)
        }
    }
}
