import Dispatch
import NDCore
import NDEngine
import NDKeying

/// Reads the engine's counts beside the event loop (a kernel with many SAs takes its time) and hands
/// them to keying: every two seconds, and soon after each other while a pair waits for its first packet
/// that no engine announces.
final class TrafficSampler: @unchecked Sendable {
    private let engine: any Engine
    private let control: ControlPlane
    private let queue = DispatchQueue(label: "nd-traffic")
    private let timer: any DispatchSourceTimer
    private var ticks = 0

    init(engine: any Engine, control: ControlPlane) {
        self.engine = engine
        self.control = control
        timer = DispatchSource.makeTimerSource(queue: queue)
        timer.schedule(deadline: .now() + 0.1, repeating: 0.1)
        timer.setEventHandler { [weak self] in self?.tick() }
    }

    func start() { timer.resume() }

    func stop() {
        timer.cancel()
        queue.sync {}
    }

    private func tick() {
        ticks += 1
        guard ticks % 20 == 0 || control.awaitsFirstPacket else { return }
        let counts = engine.securityAssociations().map {
            ($0.peer.local, $0.direction, $0.spi, $0.packets, $0.bytes)
        }
        var inbound: [UInt32: (UInt64, UInt64)] = [:]
        var outbound: [UInt32: (UInt64, UInt64)] = [:]
        for (_, direction, spi, packets, bytes) in counts {
            if direction == .inbound { inbound[spi] = (packets, bytes) } else { outbound[spi] = (packets, bytes) }
        }
        control.loop.execute { [control] in control.traffic(inbound: inbound, outbound: outbound) }
    }
}
