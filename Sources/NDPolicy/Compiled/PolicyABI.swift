import CNDABI
import NDCore

extension CompiledPolicy {
    /// The value of one slot of BPF's policy map. Fails when the rules don't fit.
    public func abiPolicy(generation: UInt32) throws(NDError) -> nd_policy {
        guard rules.count <= Self.mostRules else {
            throw NDError(
                "policy.too-many-rules", "the policy needs \(rules.count) rules, the limit is \(Self.mostRules)",
                hint: "use wider prefixes and port ranges, or fewer exemptions")
        }
        var policy = nd_policy()
        policy.abi = ND_ABI_VERSION
        policy.generation = generation
        policy.flags = exemptsIKE ? ND_POLICY_IKE_EXEMPT : 0
        policy.rule_count = UInt32(rules.count)
        policy.ike_port = ikePort
        policy.natt_port = natTraversalPort
        policy.overhead_v4 = overheadV4
        policy.overhead_v6 = overheadV6
        policy.grace_ns = grace.nanoseconds
        policy.idle_ns = idle.nanoseconds
        policy.tcp_idle_ns = tcpIdle.nanoseconds
        policy.reask_ns = askAgain.nanoseconds
        let grouped = DatapathLayer.all.map { rules($0) }
        withUnsafeMutableBytes(of: &policy.rules) { buffer in
            let slots = buffer.bindMemory(to: nd_rule.self)
            for (slot, rule) in zip(slots.indices, grouped.joined()) { slots[slot] = rule.abi }
        }
        withUnsafeMutableBytes(of: &policy.layer_start) { buffer in
            let starts = buffer.bindMemory(to: UInt32.self)
            var next: UInt32 = 0
            for (slot, layer) in zip(starts.indices, grouped) {
                starts[slot] = next
                next += UInt32(layer.count)
            }
        }
        withUnsafeMutableBytes(of: &policy.layer_count) { buffer in
            let counts = buffer.bindMemory(to: UInt32.self)
            for (slot, layer) in zip(counts.indices, grouped) { counts[slot] = UInt32(layer.count) }
        }
        return policy
    }

    /// What a map value says, for `policy show --loaded` and for tests; nil when it is no value
    /// of this version.
    public init?(abi policy: nd_policy) {
        guard policy.abi == ND_ABI_VERSION, policy.rule_count <= UInt32(ND_MAX_RULES) else { return nil }
        let rules = withUnsafeBytes(of: policy.rules) { buffer in
            buffer.bindMemory(to: nd_rule.self).prefix(Int(policy.rule_count)).map { Rule(abi: $0) }
        }
        guard !rules.contains(where: { $0 == nil }) else { return nil }
        self.init(
            rules: rules.compactMap { $0 }, exemptsIKE: policy.flags & ND_POLICY_IKE_EXEMPT != 0,
            ikePort: policy.ike_port, natTraversalPort: policy.natt_port, overheadV4: policy.overhead_v4,
            overheadV6: policy.overhead_v6, grace: Span(nanoseconds: policy.grace_ns),
            idle: Span(nanoseconds: policy.idle_ns), tcpIdle: Span(nanoseconds: policy.tcp_idle_ns),
            askAgain: Span(nanoseconds: policy.reask_ns))
    }
}
