import NDCore
import Synchronization

/// Whose a flow is, where several hosts behind a NAT have one address: ESP in UDP does not translate
/// what is inside, so an answer goes to the host whose SA brought the question (RFC 3948 §5.2). A flow
/// that a host uses is its own: another one with the same ports is refused until it has been idle.
final class ClientFlows: Sendable {
    /// The flow of a payload that travels between these addresses, by its first four bytes.
    static func flow(
        from source: IPAddress, to destination: IPAddress, proto: UInt8, payload: UnsafeRawBufferPointer, isOutbound: Bool
    ) -> FlowKey {
        let hasPorts = (proto == IPProtocol.tcp || proto == IPProtocol.udp) && payload.count >= 4
        func port(_ at: Int) -> UInt16 { hasPorts ? UInt16(payload[at]) << 8 | UInt16(payload[at + 1]) : 0 }
        let (from, to) = (Endpoint(source, port(0)), Endpoint(destination, port(2)))
        return isOutbound ? FlowKey(local: from, remote: to, proto: proto) : FlowKey(local: to, remote: from, proto: proto)
    }

    static let most = 65_536
    /// Of a host that goes without a word, its flows are free again after this.
    static let idle = Span.seconds(600)

    struct Owner {
        var port: UInt16
        var seen: Instant
    }

    private struct State {
        var owners: [FlowKey: Owner] = [:]
        var sweep = Instant(nanoseconds: 0)
    }

    private let state = Mutex(State())

    /// False: another host's, or no room.
    func claim(_ flow: FlowKey, port: UInt16, now: Instant) -> Bool {
        state.withLock { state in
            if let owner = state.owners[flow] {
                guard owner.port == port || now.since(owner.seen) > Self.idle else { return false }
            } else if state.owners.count >= Self.most {
                guard now.since(state.sweep) > .seconds(1) else { return false }
                state.sweep = now
                state.owners = state.owners.filter { now.since($0.value.seen) <= Self.idle }
                guard state.owners.count < Self.most else { return false }
            }
            state.owners[flow] = Owner(port: port, seen: now)
            return true
        }
    }

    func owner(_ flow: FlowKey, now: Instant) -> UInt16? {
        state.withLock { state in
            guard var owner = state.owners[flow] else { return nil }
            owner.seen = now
            state.owners[flow] = owner
            return owner.port
        }
    }
}
