import CNDABI
import Logging
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
        /// In the two tables, whatever they are.
        var flows = 0
        var secured = 0
        /// Ended secured flows that could not be removed; why the first could not.
        var kept = 0
        var trouble: String?
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

    private static func idle(_ flow: nd_flow, _ now: UInt64) -> UInt64 { now > flow.last_seen ? now - flow.last_seen : 0 }

    static func sweep(_ datapath: Datapath, lives: Lives, remove: Bool) throws -> Count {
        var count = Count()
        let now = Instant.now().nanoseconds
        var over: [(key: nd_flow_key, flow: nd_flow)] = []
        var quiet: [(key: nd_flow_key, flow: nd_flow)] = []
        try datapath.secured.walk { key, flow in
            count.secured += 1
            if isOver(flow, proto: key.proto, lives: lives, now: now) {
                over.append((key, flow))
            } else {
                count.secure += 1
                if key.proto == IPProtocol.tcp, idle(flow, now) > GoneSockets.leastIdle.nanoseconds { quiet.append((key, flow)) }
            }
        }
        if remove, !quiet.isEmpty {
            do {
                let gone = try GoneSockets()
                over += quiet.filter { gone.has($0.key.key, $0.flow, idle: idle($0.flow, now), securedIdle: lives.securedIdle) }
            } catch {
                count.trouble = "\(error)"
            }
        }
        if remove, !over.isEmpty {
            let sweep = try SecuredSweep(datapath.instance)
            for (key, flow) in over {
                do {
                    // A packet may have come since it was read: then it lives on.
                    if try sweep.remove(key, seen: flow.last_seen) { count.swept += 1 }
                } catch {
                    count.kept += 1
                    count.trouble = count.trouble ?? "\(error)"
                }
            }
        }
        var ended: [nd_flow_key] = []
        try datapath.flows.walk { key, flow in
            count.flows += 1
            if isOver(flow, proto: key.proto, lives: lives, now: now) {
                ended.append(key)
            } else if flow.flags & ND_FLOW_EXEMPT != 0 {
                count.exempt += 1
            } else {
                count.clear += 1
            }
        }
        if remove {
            for key in ended where datapath.flows.delete(key) { count.swept += 1 }
        }
        return count
    }
}

/// Sweeps twice a minute, and warns of tables that fill.
final class TableKeeper: @unchecked Sendable {
    private let datapath: Datapath
    private let lives: FlowSweeper.Lives
    private let log: Logger
    private var warned: Set<String> = []

    init(_ datapath: Datapath, lives: FlowSweeper.Lives, log: Logger) {
        self.datapath = datapath
        self.lives = lives
        self.log = log
    }

    /// On one thread.
    func tick() {
        do {
            let count = try FlowSweeper.sweep(datapath, lives: lives, remove: true)
            if let trouble = count.trouble {
                log.error("\(count.kept) ended secured connections can't be removed: \(trouble)")
            }
            for fill in try TableFill.read(datapath, flows: count.flows, secured: count.secured) {
                if fill.isHigh {
                    guard warned.insert(fill.name).inserted else { continue }
                    log.warning("\(fill.warning)")
                } else if fill.share < 0.7, warned.remove(fill.name) != nil {
                    log.info("\(fill.name) has room again: \(fill.entries) of \(fill.size)")
                }
            }
        } catch {
            log.error("can't look through the tables: \(error)")
        }
    }
}
