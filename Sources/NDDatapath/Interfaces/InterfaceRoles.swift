import NDCore

/// A network interface as the kernel lists it.
public struct NetworkInterface: Hashable, Sendable {
    public var index: UInt32
    public var name: String
    public var otherNames: [String] = []
    /// ARPHRD_ETHER: packets have an Ethernet header at TC.
    public var isEthernet = true
    public var isLoopback = false
    public var isUp = true
    public var mtu: UInt32 = 1500
    /// "veth", "tun"; empty for hardware.
    public var kind = ""
    public var hasDefaultRoute = false

    public init(index: UInt32, name: String) {
        self.index = index
        self.name = name
    }
}

/// What an interface is to the datapath.
public enum InterfaceRole: String, Codable, Hashable, Sendable, CaseIterable {
    /// The policy names it: the tables of the design.
    case protected
    /// Any other: a guard that knows the latch only.
    case guarded
    /// ndbpf's own, and the loopback: nothing is asked of their packets.
    case device
}

/// Says from the list of interfaces what each is. An interface that was protected stays so while it lives: a new
/// name or a route that moved away takes nothing from it.
public struct InterfaceRoles: Hashable, Sendable {
    public var patterns: [InterfacePattern]
    /// nd0 and its like, by index: anybody can give a device their names.
    public var devices: Set<UInt32> = []
    /// Those that were protected already.
    public var standing: Set<UInt32> = []

    public init(_ patterns: [InterfacePattern]) { self.patterns = patterns }

    public func role(of interface: NetworkInterface) -> InterfaceRole {
        if interface.isLoopback || devices.contains(interface.index) { return .device }
        return standing.contains(interface.index) || patterns.contains { Self.stands($0, for: interface) }
            ? .protected : .guarded
    }

    /// Patterns that no interface answers to.
    public func unmatched(_ interfaces: [NetworkInterface]) -> [InterfacePattern] {
        let candidates = interfaces.filter { !$0.isLoopback && !devices.contains($0.index) }
        return patterns.filter { pattern in !candidates.contains { Self.stands(pattern, for: $0) } }
    }

    private static func stands(_ pattern: InterfacePattern, for interface: NetworkInterface) -> Bool {
        pattern == .defaultRoute
            ? interface.hasDefaultRoute : ([interface.name] + interface.otherNames).contains { pattern.matches($0) }
    }
}
