import NDCore

/// With whom a host negotiates: what the policy's main-mode and quick-mode filters take.
public protocol NegotiationPolicy: Sendable {
    func hasMainMode(local: IPAddress, remote: IPAddress) -> Bool
    func hasQuickMode(local: IPAddress, remote: IPAddress) -> Bool
}

/// Filters without conditions.
public struct EveryPeer: NegotiationPolicy {
    public init() {}
    public func hasMainMode(local: IPAddress, remote: IPAddress) -> Bool { true }
    public func hasQuickMode(local: IPAddress, remote: IPAddress) -> Bool { true }
}
