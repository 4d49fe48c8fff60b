import Foundation
import Glibc
import NDCore

/// What tests, benchmark and scenarios share.
public enum Scenarios {
    public static func policy(
        _ scenario: String, key: String, negativeCache: String = "60s", extra: String = "", tries: Int = 3,
        encapsulation: String = "udp", metrics: String? = nil
    ) -> String {
        var policy = LabPolicy()
        policy.scenario = scenario
        policy.negativeCache = negativeCache
        policy.extra = extra
        policy.tries = tries
        policy.encapsulation = encapsulation
        policy.metrics = metrics ?? policy.metrics
        return policy.scenarioText(key: key)
    }

    static func ms(_ value: Double) -> String { "\((value * 100).rounded() / 100) ms" }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        return sorted.isEmpty ? .nan : sorted[sorted.count / 2]
    }

    /// A drop counter of a host's datapath, through the command that operators use.
    public static func dropCount(_ lab: Lab, _ host: Lab.Host, _ reason: String) throws -> Int {
        let output = try Shell.run(
            Lab.ownBinary, "maps", "stats", "--instance", host.instance, "--netns", host.namespacePath)
        guard let line = output.split(separator: "\n").first(where: { $0.hasPrefix("drops \(reason) ") }),
            let count = line.split(separator: " ").last.flatMap({ Int($0) })
        else { throw NDError("lab.stats", "no drop counter '\(reason)' of \(host.name)", context: output) }
        return count
    }

    /// A minimal HTTP/1.1 GET.
    public static func httpGet(_ endpoint: Endpoint, _ path: String) throws -> String {
        let connection = try Traffic.connectTCP(from: endpoint.address, to: endpoint)
        defer { connection.close() }
        try Traffic.sendAll(
            connection.descriptor, Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".utf8))
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while all.count < 4 << 20 {
            let n = recv(connection.descriptor, &buffer, buffer.count, 0)
            guard n > 0 else { break }
            all += buffer.prefix(n)
        }
        let text = String(decoding: all, as: UTF8.self)
        guard text.hasPrefix("HTTP/1.1 200"), let body = text.range(of: "\r\n\r\n") else {
            throw NDError("lab.http", "no good answer for \(path)", context: String(text.prefix(200)))
        }
        return String(text[body.upperBound...])
    }
}

extension Lab {
    /// The youngest daemon of a host.
    public func daemon(of host: Host) -> DaemonProcess? { daemonProcesses.last { $0.host == host } }
}
