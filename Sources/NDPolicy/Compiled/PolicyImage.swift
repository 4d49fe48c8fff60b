import CNDABI
import NDABI
import NDCore

extension CompiledPolicy {
    /// The tables of one generation. Fails when the filters don't fit.
    public func image(generation: UInt32) throws(NDError) -> PolicyImage {
        var arena = TableArena()
        var tables = [nd_table](repeating: nd_table(), count: DatapathLayer.all.count * 2)
        for layer in DatapathLayer.all {
            for family in IPFamily.allCases {
                let builder = TableBuilder(layer: layer, family: family, filters: classifier.filters(layer, family))
                tables[LinearClassifier.group(layer, family)] = try builder.build(into: &arena)
            }
        }
        var policy = nd_policy()
        policy.abi = ND_ABI_VERSION
        policy.generation = generation
        policy.flags = exemptsIKE.reduce(exemptsICMPErrors ? ND_POLICY_ICMP_ERRORS_EXEMPT : 0) { $0 | $1.ikeExempt }
        policy.banks = UInt32(clamping: arena.image.banks)
        policy.ike_port = ikePort
        policy.natt_port = natTraversalPort
        policy.overhead_v4 = overheadV4
        policy.overhead_v6 = overheadV6
        policy.grace_ns = grace.nanoseconds
        policy.idle_ns = idle.nanoseconds
        policy.tcp_idle_ns = tcpIdle.nanoseconds
        policy.secured_idle_ns = securedIdle.nanoseconds
        policy.reask_ns = askAgain.nanoseconds
        withUnsafeMutableBytes(of: &policy.tables) { target in
            tables.withUnsafeBytes { target.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0.prefix(target.count))) }
        }
        arena.setHeader(policy)
        return arena.image
    }

    /// What an image says, for `policy show --loaded` and for tests; nil when it is none of this version.
    public init?(_ image: PolicyImage) {
        let policy = image.header
        guard policy.abi == ND_ABI_VERSION, let filters = image.filters() else { return nil }
        self.init(
            filters: filters, exemptsIKE: Set(IPFamily.allCases.filter { policy.flags & $0.ikeExempt != 0 }),
            ikePort: policy.ike_port, natTraversalPort: policy.natt_port, overheadV4: policy.overhead_v4,
            overheadV6: policy.overhead_v6, grace: Span(nanoseconds: policy.grace_ns),
            idle: Span(nanoseconds: policy.idle_ns), tcpIdle: Span(nanoseconds: policy.tcp_idle_ns),
            askAgain: Span(nanoseconds: policy.reask_ns))
        securedIdle = Span(nanoseconds: policy.secured_idle_ns)
        exemptsICMPErrors = policy.flags & ND_POLICY_ICMP_ERRORS_EXEMPT != 0
    }
}

extension IPFamily {
    fileprivate var ikeExempt: UInt32 {
        switch self {
        case .v4: ND_POLICY_IKE_EXEMPT_V4
        case .v6: ND_POLICY_IKE_EXEMPT_V6
        }
    }
}
