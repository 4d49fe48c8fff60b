import Foundation
import Logging
import NDCore
import NDDatapath
import NDEngine

/// Keeps the interfaces while the daemon lives: looks at once when the kernel tells of a change, and twice a second
/// besides, since of TCX it tells nothing. Has a queue of its own: a verifier takes its time.
final class InterfaceWatch: @unchecked Sendable {
    struct Counters: Sendable {
        var failedReads: UInt64 = 0
        var putRight: UInt64 = 0
    }

    private static let interval = DispatchTimeInterval.milliseconds(500)

    let keeper: InterfaceKeeper
    private let datapath: Datapath
    private let engine: any Engine
    private let monitor: MonitorHub
    private let log: Logger
    private let changed: @Sendable () -> Void
    private let queue = DispatchQueue(label: "nd-interfaces")
    private let timer: any DispatchSourceTimer
    private let counters = Locked(Counters())
    private let pending = Locked(false)
    private let unmatched = Locked<[InterfacePattern]>([])
    /// What was said last of a failure that goes on.
    private var readFailure: String?
    private var restoreFailure: String?

    /// `changed`: the protected interfaces, or their state, are others now.
    init(
        keeper: InterfaceKeeper, datapath: Datapath, engine: any Engine, monitor: MonitorHub, log: Logger,
        changed: @escaping @Sendable () -> Void
    ) {
        self.keeper = keeper
        self.datapath = datapath
        self.engine = engine
        self.monitor = monitor
        self.log = log
        self.changed = changed
        timer = DispatchSource.makeTimerSource(queue: queue)
        timer.schedule(deadline: .now(), repeating: Self.interval)
        timer.setEventHandler { [weak self] in self?.work() }
    }

    var count: Counters { counters.withLock { $0 } }

    /// What the policy names and this namespace has not, as of the last look.
    var missing: [InterfacePattern] { unmatched.withLock { $0 } }

    func start() { timer.resume() }

    func stop() {
        timer.cancel()
        // Whatever runs ends first.
        queue.sync {}
    }

    /// Soon, on the queue; calls that come before it begins are one.
    func look() {
        let first = pending.withLock { pending in
            defer { pending = true }
            return !pending
        }
        guard first else { return }
        queue.async { [weak self] in self?.work() }
    }

    private func work() {
        pending.withLock { $0 = false }
        do {
            let changes = try keeper.settle()
            let missing = try keeper.unmatched()
            if readFailure != nil { log.info("this host's interfaces can be read again") }
            readFailure = nil
            unmatched.withLock { known in
                for pattern in missing where !known.contains(pattern) {
                    log.warning("no interface of this host is '\(pattern)' now; one that comes is protected")
                }
                known = missing
            }
            for change in changes { tell(change) }
            if !changes.isEmpty { changed() }
        } catch {
            counters.withLock { $0.failedReads &+= 1 }
            let text = "\(error)"
            if text != readFailure { log.error("can't look at this host's interfaces: \(text); what stands stays") }
            readFailure = text
        }
        mendDevice()
    }

    private func tell(_ change: InterfaceKeeper.Change) {
        let state = change.state
        let text = "\(state.interface): \(change.text)"
        switch change.kind {
        case .attached: state.role == .protected ? log.info("\(text)") : log.debug("\(text)")
        case .mended:
            counters.withLock { $0.putRight &+= 1 }
            log.warning("\(text)")
        case .troubled: log.error("\(text)")
        case .left: log.info("\(text)")
        }
        monitor.publish(MonitorEvent("interface.\(change.kind.rawValue)", text))
    }

    /// Nothing may enter a device that is gone or another one's.
    private func mendDevice() {
        guard let device = keeper.current.first(where: { $0.role == .device }), device.trouble != nil,
            let trouble = keeper.deviceTrouble
        else {
            restoreFailure = nil
            return
        }
        do {
            if trouble == .gone, datapath.state.lookup(0)?.nd0 != 0 { try datapath.changeState { $0.nd0 = 0 } }
            let link = try engine.restore()
            try keeper.take(device: link.name, index: link.ifindex, fragments: link.fragments)
            try datapath.setDevices(nd0: link.ifindex, fragments: link.fragments)
            restoreFailure = nil
            counters.withLock { $0.putRight &+= 1 }
            log.warning("\(link.name) was \(trouble.rawValue): put right")
            monitor.publish(MonitorEvent("interface.mended", "\(link.name): was \(trouble.rawValue), put right"))
        } catch {
            let text = "\(error)"
            if text != restoreFailure { log.error("can't put \(device.interface) right: \(text); what is protected waits") }
            restoreFailure = text
        }
    }
}
