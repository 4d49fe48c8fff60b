/// What of a policy is not filters: a running daemon reads it when it starts.
extension Policy {
    /// Keys of the settings that differ. Filters may differ freely.
    public func settings(otherThan other: Policy) -> [String] {
        var keys: [String] = []
        if interfaces != other.interfaces { keys.append("interfaces") }
        if keying != other.keying { keys.append("keying") }
        if preSharedKeys != other.preSharedKeys { keys.append("authentication") }
        if discovery != other.discovery { keys.append("discovery") }
        if engine != other.engine { keys.append("engine") }
        if metrics != other.metrics { keys.append("metrics") }
        // What negotiations offer, and what the daemon tells its peers of itself.
        if scenario?.quickModeFlags != other.scenario?.quickModeFlags
            || Set(expanded.providerContexts) != Set(other.expanded.providerContexts)
        {
            keys.append(scenario == other.scenario ? "provider-contexts" : "scenario")
        }
        return keys
    }
}
