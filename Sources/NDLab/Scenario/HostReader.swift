import NDCore
import NDPolicy
import Yams

/// The hosts of a scenario.
struct HostReader {
    let findings: Findings
    let conditions: RunConditions

    func hosts(_ node: Node) -> [Scenario.HostPlan] {
        guard case .mapping(let mapping) = node else {
            findings.add(
                "type", at: node.mark, "'hosts' must be a mapping, found a \(kind(of: node))",
                fix: "`hosts: { alpha: { ndbpf: {} }, gamma: {} }`")
            return []
        }
        var result: [Scenario.HostPlan] = []
        for (key, value) in mapping {
            guard let name = key.scalar?.string, Lab.isHostName(name) else {
                findings.add(
                    "value", at: key.mark, "'\(clipped(key.scalar?.string ?? ""))' can't be a host's name",
                    fix: "1 to 8 letters a-z, such as \(Lab.usualHosts.joined(separator: ", "))")
                continue
            }
            result.append(host(name, value))
        }
        if mapping.isEmpty { findings.add("value", at: node.mark, "no host is given", fix: "`hosts: { alpha: { ndbpf: {} } }`") }
        return result
    }

    private func host(_ name: String, _ node: Node) -> Scenario.HostPlan {
        var plan = Scenario.HostPlan(name: name, ndbpf: nil)
        let section = MappingReader(
            node, path: "hosts.\(name)", keys: ["ndbpf", "arguments", "prepare", "serves", "swallows"], findings)
        plan.arguments = section.texts("arguments", of: "arguments of `ndbpf run`").filter { !$0.isEmpty }
        plan.prepare = section.texts("prepare", of: "shell commands").filter { !$0.isEmpty }
        plan.serves = section.flag("serves", default: false)
        plan.swallows = (section.list("swallows", of: "UDP ports") ?? []).compactMap { item in
            guard let word = scalarText(item, section.full("swallows"), of: "a port", findings) else { return nil }
            if let port = UInt16(word), port > 0 { return port }
            findings.add("range", at: item.mark, "'\(clipped(word))' is no port", fix: "1 to 65535")
            return nil
        }
        guard
            let ndbpf = section.mapping(
                "ndbpf", keys: ["scenario", "negative-cache", "clear-grace", "encapsulation", "tries", "metrics", "extra", "without"])
        else { return plan }
        var policy = LabPolicy()
        policy.engine = conditions.engine.rawValue
        policy.scenario = ndbpf.choice("scenario", default: NDPolicy.Scenario.negotiationDiscovery).rawValue
        policy.encapsulation = ndbpf.choice("encapsulation", default: Policy.Engine.Encapsulation.udp).rawValue
        policy.tries = ndbpf.integer("tries", in: 1...20, default: policy.tries)
        policy.negativeCache = ndbpf.text("negative-cache", of: "a duration") ?? policy.negativeCache
        policy.clearGrace = ndbpf.text("clear-grace", of: "a duration") ?? policy.clearGrace
        policy.metrics = ndbpf.text("metrics", of: "an endpoint or none").map { "\"\($0)\"" } ?? policy.metrics
        policy.extra = ndbpf.text("extra", of: "more of a policy") ?? policy.extra
        if ndbpf.has("without") {
            policy.without = ndbpf.text("without", of: "a filter's name and layer, or nothing")
            do {
                _ = try policy.text(key: "/etc/ndbpf/psk")
            } catch {
                findings.add(
                    "value", at: ndbpf.node("without")?.mark, "there is no such policy: \((error as? NDError)?.message ?? "\(error)")",
                    fix: (error as? NDError)?.hint ?? "write a policy that can be read")
            }
        }
        plan.ndbpf = policy
        return plan
    }
}
