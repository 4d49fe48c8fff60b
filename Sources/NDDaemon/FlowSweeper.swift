import CNDABI
import NDABI
import NDCore
import NDDatapath

/// Counts flows by what they are, and removes those whose life is over. BPF treats an expired entry
/// as absent anyway; sweeping only makes the numbers true.
enum FlowSweeper {
    struct Count: Sendable {
        var clear = 0
        var secure = 0
        var exempt = 0
        var swept = 0
    }

    static func isOver(_ flow: nd_flow, proto: UInt8, idle: UInt64, tcpIdle: UInt64, now: UInt64) -> Bool {
        let ended =
            flow.flags & ND_FLOW_RESET != 0
            || flow.flags & (ND_FLOW_FIN_IN | ND_FLOW_FIN_OUT) == ND_FLOW_FIN_IN | ND_FLOW_FIN_OUT
        // An ended connection still has its last acknowledgements on the way.
        let limit = proto == IPProtocol.tcp ? (ended ? 60_000_000_000 : tcpIdle) : idle
        return now > flow.last_seen && now - flow.last_seen > limit
    }

    static func sweep(_ datapath: Datapath, idle: UInt64, tcpIdle: UInt64, remove: Bool) -> Count {
        var count = Count()
        let now = Instant.now().nanoseconds
        for (key, flow) in datapath.flows.entries() {
            if isOver(flow, proto: key.proto, idle: idle, tcpIdle: tcpIdle, now: now) {
                if remove {
                    datapath.flows.delete(key)
                    count.swept += 1
                }
                continue
            }
            if flow.flags & ND_FLOW_SECURE != 0 {
                count.secure += 1
            } else if flow.flags & ND_FLOW_EXEMPT != 0 {
                count.exempt += 1
            } else {
                count.clear += 1
            }
        }
        return count
    }
}
