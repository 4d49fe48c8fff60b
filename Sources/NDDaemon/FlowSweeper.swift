import CNDABI
import NDABI
import NDCore
import NDDatapath

/// Counts flows by what they are, and removes those whose life is over. BPF treats an expired entry
/// as absent anyway; sweeping makes the numbers true and room for others.
enum FlowSweeper {
    struct Count: Sendable {
        var clear = 0
        var secure = 0
        var exempt = 0
        var swept = 0
    }

    struct Lives: Sendable {
        var idle: UInt64
        var tcpIdle: UInt64
        var securedIdle: UInt64
    }

    static func isOver(_ flow: nd_flow, proto: UInt8, lives: Lives, now: UInt64) -> Bool {
        let ended =
            flow.flags & ND_FLOW_RESET != 0
            || flow.flags & (ND_FLOW_FIN_IN | ND_FLOW_FIN_OUT) == ND_FLOW_FIN_IN | ND_FLOW_FIN_OUT
        // An ended connection still has its last acknowledgements on the way.
        let idle = flow.flags & ND_FLOW_SECURE != 0 ? lives.securedIdle : lives.idle
        let limit = proto == IPProtocol.tcp ? (ended ? 60_000_000_000 : lives.tcpIdle) : idle
        return now > flow.last_seen && now - flow.last_seen > limit
    }

    static func sweep(_ datapath: Datapath, lives: Lives, remove: Bool) -> Count {
        var count = Count()
        let now = Instant.now().nanoseconds
        for (key, flow) in datapath.secured.entries() {
            guard isOver(flow, proto: key.proto, lives: lives, now: now) else {
                count.secure += 1
                continue
            }
            // A packet may have come since it was read: then it lives on.
            guard remove, let again = datapath.secured.lookup(key),
                isOver(again, proto: key.proto, lives: lives, now: now)
            else { continue }
            datapath.secured.delete(key)
            count.swept += 1
        }
        for (key, flow) in datapath.flows.entries() {
            if isOver(flow, proto: key.proto, lives: lives, now: now) {
                if remove {
                    datapath.flows.delete(key)
                    count.swept += 1
                }
                continue
            }
            if flow.flags & ND_FLOW_EXEMPT != 0 {
                count.exempt += 1
            } else {
                count.clear += 1
            }
        }
        return count
    }
}
