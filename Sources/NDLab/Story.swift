import CNDLab
import Foundation
import Glibc
import NDCore

/// A claim, whether the wire bears it out, and with which numbers.
public struct Check: Sendable, Encodable {
    public var claim: String
    public var passed: Bool
    public var detail: String
}

/// The demo: DESIGN's main job told as a story, each claim checked on captured packets.
public final class Story {
    private let megabytes: Int
    private let say: (String) -> Void
    private var checks: [Check] = []

    public init(megabytes: Int = 200, say: @escaping (String) -> Void) {
        self.megabytes = megabytes
        self.say = say
    }

    private func claim(_ text: String, _ passed: Bool, _ detail: String) {
        checks.append(Check(claim: text, passed: passed, detail: detail))
        say("  \(passed ? "ok  " : "FAIL") \(text): \(detail)")
    }

    private func chapter(_ text: String) {
        say("")
        say(text)
    }

    public func tell() throws -> [Check] {
        let lab = try Lab(tag: "d")
        defer { lab.close() }
        let alpha = try lab.host("alpha")
        let beta = try lab.host("beta")
        let gamma = try lab.host("gamma")
        let delta = try lab.host("delta")
        say("alpha \(alpha.ipv4)   beta \(beta.ipv4)   gamma \(gamma.ipv4)")
        say("      \(alpha.ipv6)          \(beta.ipv6)           \(gamma.ipv6)")
        say("   eth0 ------------- eth0 ------------- eth0     (one wire)")
        say("   ndbpf              ndbpf              plain host     (and delta, a plain host to compare with)")

        let servers = [try Servers(lab, beta), try Servers(lab, gamma)]
        defer { for server in servers { server.close() } }
        let key = try lab.writeKey()
        let policy = Scenarios.policy("negotiation-discovery", key: key)
        try lab.startDaemon(alpha, policy: policy)
        try lab.startDaemon(beta, policy: policy)

        chapter("1. alpha talks to gamma, which knows no IPsec: clear at once and for ever")
        for family in Lab.Family.allCases {
            add(try Scenarios.plainPeer(lab, from: alpha, to: gamma, family: family))
        }
        add([try Scenarios.connectRatio(lab, guarded: alpha, plain: delta, to: gamma, family: .ipv4)])
        chapter("2. alpha talks to beta: the SYN leaves in clear, everything after it is ESP")
        for family in Lab.Family.allCases {
            add(try Scenarios.securedPeer(lab, from: alpha, to: beta, family: family))
        }
        chapter("3. gamma talks to beta in clear: dropped silently; ping and neighbour discovery work")
        for family in Lab.Family.allCases {
            add(try Scenarios.refusedPeer(lab, from: gamma, to: beta, family: family))
        }
        chapter("4. forged packets: clear data and RST into a secured connection")
        add(try Scenarios.injection(lab, from: alpha, to: beta, attacker: gamma, family: .ipv4))
        chapter("5. the SAs are deleted on both sides, one daemon stops, the other is killed: nothing leaves in clear")
        add(try Scenarios.latch(lab, from: alpha, to: beta, family: .ipv4, policy: policy))
        chapter("6. beta becomes a boundary host: a running transfer is upgraded in flight")
        add(
            try Scenarios.upgrade(
                lab, from: alpha, to: beta, family: .ipv4, key: key, megabytes: megabytes))
        chapter("7. the metrics, as Prometheus reads them")
        let metrics = try lab.inside(beta) { try Scenarios.httpGet(Endpoint(beta.ipv4, 9466), "/metrics") }
        for line in metrics.split(separator: "\n")
        where line.hasPrefix("ndbpf_negotiations") || line.hasPrefix("ndbpf_flows{") || line.hasPrefix("ndbpf_drop")
            || line.hasPrefix("ndbpf_upgrad") || line.hasPrefix("ndbpf_flow_upgr")
        {
            if !line.hasSuffix(" 0") { say("  \(line)") }
        }
        claim("the metrics are there", metrics.contains("ndbpf_"), "\(metrics.split(separator: "\n").count) lines")
        return checks
    }

    private func add(_ more: [Check]) {
        for check in more { claim(check.claim, check.passed, check.detail) }
    }
}
