/// What happens to a host of a world while its programs talk.
public enum EventKind: String, Sendable, CaseIterable {
    /// The daemon: SIGKILL, SIGTERM, SIGSTOP; started again, or continued, later.
    case kill, term, stop
    /// SAs are deleted or renewed by the command.
    case delete, rekey
    /// No IKE passes until SAs have expired; for a moment, so that a rekey fails; no ESP; some packets of all; nothing.
    case expiry, dropIKE = "drop-ike", dropESP = "drop-esp", lossy, cut
    /// Power failure of a host: its programs and all of its state are gone.
    case reboot
    /// `unload` with secured connections open, which has to be refused.
    case unload
    /// Another policy is put in force.
    case policy
    /// A new daemon, loaded over what the one before left.
    case upgrade
    /// eth0 down and up, without an address, under another name, made anew; the peer's route by eth1.
    case linkDown = "link-down", noIPv4 = "no-ipv4", noIPv6 = "no-ipv6", rename, recreate, route
    /// The device that encrypts.
    case deviceDeleted = "device-deleted", deviceDown = "device-down"
    /// Floods from strangers; forged packets of secured connections; forged deletes of SAs.
    case evict, forge, forgeIKE = "forge-ike"
    /// A program of somebody else's that comes first; ours taken away.
    case inFront = "in-front", detach
    /// A further connection, in the midst of it all.
    case connect

    /// How often it is drawn.
    var weight: Int {
        switch self {
        case .forge, .kill: 4
        case .delete, .dropIKE, .dropESP, .reboot, .evict: 3
        case .expiry: 1
        default: 2
        }
    }

    /// Before 6.4 nothing hangs on no device: `docs/policy.md` says what leaks for a moment.
    var needsGuardWithoutDevice: Bool { [.recreate, .rename, .inFront, .detach, .unload].contains(self) }
}

/// Drawn from the seed: the same host, the same moments.
struct PlannedEvent: Sendable, Hashable, CustomStringConvertible {
    var kind: EventKind
    /// Which host it happens to.
    var host: Int
    /// Milliseconds.
    var at: Int
    var span: Int
    /// For what the event draws itself.
    var seed: UInt64

    static func draw(seed: UInt64, from kinds: [EventKind], lifetime: Int) -> [PlannedEvent] {
        var dice = Dice(seed ^ 0xe7e7)
        let urn = kinds.flatMap { Array(repeating: $0, count: $0.weight) }
        guard !urn.isEmpty else { return [] }
        return (0..<dice.within(1...4)).map { _ in
            let kind = dice.pick(urn)
            var span = dice.within(20...900)
            if kind == .expiry { span = lifetime * 1000 + 1500 }
            return PlannedEvent(kind: kind, host: dice.below(2), at: dice.below(800), span: span, seed: dice.next())
        }.sorted { $0.at < $1.at }
    }

    var description: String { "\(at) ms: \(kind.rawValue) of \(host == 0 ? "alpha" : "beta") for \(span) ms" }
}
