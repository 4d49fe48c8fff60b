extension Policy {
    /// Keys of what is not filters and differs.
    public func settings(otherThan other: Policy) -> [String] {
        let same: [(name: String, same: Bool)] = [
            ("interfaces", interfaces == other.interfaces), ("keying", keying == other.keying),
            ("authentication", preSharedKeys == other.preSharedKeys), ("discovery", discovery == other.discovery),
            ("engine", engine == other.engine), ("metrics", metrics == other.metrics),
        ]
        return same.filter { !$0.same }.map(\.name)
    }

    /// Keys of what differs and is read when a daemon starts: the settings, with whom negotiations are held
    /// and what they offer, and what the daemon tells its peers of itself.
    public func readAtStart(otherThan other: Policy) -> [String] {
        let contexts =
            scenario?.quickModeFlags == other.scenario?.quickModeFlags
            && Set(expanded.providerContexts) == Set(other.expanded.providerContexts)
        return settings(otherThan: other)
            + (contexts ? [] : [scenario == other.scenario ? "provider-contexts" : "scenario"])
            + (negotiationFilters == other.negotiationFilters ? [] : ["filters at IKEEXT and IPSEC"])
    }

    /// Without their numbers, which change with filters of other layers.
    private var negotiationFilters: [Filter] {
        expanded.filters.filter { $0.layer.kind == .ikeext || $0.layer.kind == .ipsec }.map { filter in
            var plain = filter
            plain.id = 0
            return plain
        }
    }
}
