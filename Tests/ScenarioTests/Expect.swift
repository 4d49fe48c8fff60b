import Foundation
import NDCore
import NDLab
import Testing

/// Every claim of a scenario becomes an expectation with what was seen as its comment.
func expect(_ checks: [Check], sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(!checks.isEmpty, sourceLocation: sourceLocation)
    for check in checks {
        #expect(check.passed, "\(check.claim): \(check.detail)", sourceLocation: sourceLocation)
    }
}

/// Two hosts with ndbpf and a plain one, as in the picture of `Lab`.
struct Stage {
    let lab: Lab
    let alpha: Lab.Host
    let beta: Lab.Host
    let gamma: Lab.Host
    let servers: [Servers]
    let key: String

    init(
        _ tag: String, alpha alphaPolicy: String? = "negotiation-discovery",
        beta betaPolicy: String? = "negotiation-discovery", encapsulation: String = "udp",
        negativeCache: String = "60s", extra: String = "", arguments: [String] = []
    ) throws {
        lab = try Lab(tag: tag)
        alpha = try lab.host("alpha")
        beta = try lab.host("beta")
        gamma = try lab.host("gamma")
        servers = [try Servers(lab, beta), try Servers(lab, gamma), try Servers(lab, alpha)]
        key = try lab.writeKey()
        for (host, scenario) in [(alpha, alphaPolicy), (beta, betaPolicy)] {
            guard let scenario else { continue }
            try lab.startDaemon(
                host,
                policy: Scenarios.policy(
                    scenario, key: key, negativeCache: negativeCache, extra: extra, encapsulation: encapsulation),
                arguments: arguments)
        }
    }

    func close() {
        for server in servers { server.close() }
        lab.close()
    }

    /// A connection that is answered.
    func connect(_ from: Lab.Host, _ to: Lab.Host) throws {
        let source = from.ipv4
        let target = Endpoint(to.ipv4, Servers.echoPort)
        try lab.inside(from) {
            let connection = try Traffic.connectTCP(from: source, to: target)
            defer { connection.close() }
            try Traffic.echo(connection)
        }
    }

    func ndbpf(_ host: Lab.Host, _ arguments: String...) throws -> Shell.Output {
        try Shell.capture(
            [Lab.ownBinary] + arguments + ["--instance", host.instance, "--netns", host.namespacePath])
    }

    /// The content of a command's JSON.
    func json(_ host: Lab.Host, _ arguments: String...) throws -> Any {
        let output = try Shell.capture(
            [Lab.ownBinary] + arguments + ["--json", "--instance", host.instance, "--netns", host.namespacePath])
        try #require(output.status == 0, "\(output.text)")
        let object = try #require(
            try JSONSerialization.jsonObject(with: Data(output.text.utf8)) as? [String: Any])
        #expect(object["version"] as? Int == 1)
        let kind = try #require(object["kind"] as? String)
        return try #require(object[kind])
    }
}
