import CNDABI
import Foundation
import NDABI
import NDCore

/// A secured connection that may be in use.
public struct OpenConnection: Encodable, Sendable {
    public var protocolName: String
    public var local: String
    public var remote: String
    public var idleSeconds: Double

    public var text: String { "\(protocolName) \(local) > \(remote), last seen \(Int(idleSeconds)) s ago" }
}

/// Which secured connections are open: without the datapath their next packet would leave in clear.
public enum OpenConnections {
    /// How many a refusal names.
    public static let named = 20

    /// Where the policy in force can't be read: that of another version.
    private static let securedIdle = Span.seconds(600)
    private static let tcpIdle = Span.seconds(5 * 24 * 3600)

    /// The ones last seen first. Whatever can't be told is open.
    public static func find(_ instance: Instance) throws -> [OpenConnection] {
        guard instance.isLoaded, try instance.residence() == .here else { return [] }
        var flows: [FlowKey: nd_flow] = [:]
        let pins = UpgradePins(instance: instance)
        for state in [instance] + pins.all where state.isLoaded {
            for (key, flow) in try CarriedState.read(state).secured {
                let key = key.key
                if let known = flows[key], known.last_seen >= flow.last_seen { continue }
                flows[key] = flow
            }
        }
        guard !flows.isEmpty else { return [] }
        let rule = try Rule(instance)
        return flows.filter { rule.isOpen($0.key, $0.value) }
            .sorted { ($0.value.last_seen, "\($0.key)") > ($1.value.last_seen, "\($1.key)") }
            .map { key, flow in
                OpenConnection(
                    protocolName: IPProtocol.name(key.proto), local: "\(key.local)", remote: "\(key.remote)",
                    idleSeconds: Span(nanoseconds: rule.idle(flow)).seconds)
            }
    }

    private struct Rule {
        var now: UInt64
        var securedIdle: UInt64
        var tcpIdle: UInt64
        /// nil: they can't be read.
        var sockets: TCPSockets?
        var addresses: Set<IPAddress>
        var mayBeOthers: Bool

        init(_ instance: Instance) throws {
            now = Instant.now().nanoseconds
            let policy = try? Datapath(instance).currentPolicy()
            securedIdle = policy?.secured_idle_ns ?? OpenConnections.securedIdle.nanoseconds
            tcpIdle = policy?.tcp_idle_ns ?? OpenConnections.tcpIdle.nanoseconds
            sockets = try? TCPSockets.current()
            addresses = Set((try? LocalAddresses.current())?.keys.map { $0 } ?? [])
            mayBeOthers = TCPSockets.mayBeOthers
        }

        func idle(_ flow: nd_flow) -> UInt64 { now > flow.last_seen ? now - flow.last_seen : 0 }

        func isOpen(_ key: FlowKey, _ flow: nd_flow) -> Bool {
            guard key.proto == IPProtocol.tcp else { return idle(flow) <= securedIdle }
            if let sockets, addresses.contains(key.local.address) {
                if sockets.has(key) { return true }
                // Nobody here has it: its end was not seen, or it is another's behind this host.
                if !mayBeOthers { return false }
                return !flow.hasEnded && idle(flow) <= securedIdle
            }
            return !flow.hasEnded && idle(flow) <= tcpIdle
        }
    }
}

extension nd_flow {
    var hasEnded: Bool {
        let both = ND_FLOW_FIN_IN | ND_FLOW_FIN_OUT
        return flags & ND_FLOW_RESET != 0 || flags & both == both
    }
}

extension Loader {
    /// Takes everything back, unless secured connections are open.
    public static func unloadUnused(_ instance: Instance) throws -> LoadRecord {
        let open = try openConnections(instance)
        guard open.isEmpty else { throw refusal(instance, open) }
        return try unload(instance)
    }

    /// An error where nobody can tell: what is pinned is of a version that is not known.
    public static func openConnections(_ instance: Instance) throws -> [OpenConnection] {
        do {
            return try OpenConnections.find(instance)
        } catch let error as NDError {
            throw NDError(
                "unload.unknown", "can't tell whether instance '\(instance.name)' has secured connections open: \(error.message)",
                hint: "`ndbpf unload --force` takes it away all the same: their packets leave in clear then. Nothing was changed")
        }
    }

    public static func refusal(_ instance: Instance, _ open: [OpenConnection]) -> NDError {
        let list = open.prefix(OpenConnections.named).map { "\n  \($0.text)" }.joined()
        let more = open.count > OpenConnections.named ? "\n  and \(open.count - OpenConnections.named) more" : ""
        return NDError(
            "unload.open",
            "instance '\(instance.name)' has \(open.count) secured connection\(open.count == 1 ? "" : "s") open, whose packets would leave in clear:\(list)\(more)",
            hint:
                "close them and try again; for a new version no unload is needed: `ndbpf load` takes them over. `ndbpf unload --force` takes the datapath away all the same. Nothing was changed")
    }
}
