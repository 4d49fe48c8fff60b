import CLibbpf
import CNDABI
import Foundation
import NDABI
import NDCore

/// One event of the datapath, with the packet that caused it.
public struct DatapathEvent: Sendable {
    public var time: Instant
    public var kind: nd_event_type
    public var reason: UInt32
    public var flow: FlowKey
    public var context: UInt32
    public var interface: UInt32
    public var inbound: Bool
    public var fragment: Bool
    /// Of a DISCARD: where it was dropped (enum nd_layer), and the filter that blocked.
    public var layer: UInt32
    public var filter: UInt64
    /// Length of the whole packet; `packet` is shorter when it was cut.
    public var length: Int
    public var packet: [UInt8]

    public var peer: PeerKey { PeerKey(local: flow.local.address, remote: flow.remote.address, context: context) }
    public var isComplete: Bool { packet.count == length && !fragment }

    init(_ raw: UnsafePointer<nd_event>) {
        let event = raw.pointee
        time = Instant(nanoseconds: event.time)
        kind = nd_event_type(rawValue: event.type)
        reason = event.reason
        flow = event.flow.key
        context = event.context
        interface = event.ifindex
        inbound = event.inbound != 0
        fragment = event.fragment != 0
        layer = UInt32(event.layer)
        filter = event.filter
        length = Int(event.length)
        let captured = min(Int(event.captured), Int(ND_EVENT_PACKET_MAX))
        packet = withUnsafeBytes(of: event.packet) { Array($0.prefix(captured)) }
    }
}

/// Reads the ring on a thread of its own and hands every event on.
public final class EventReader: @unchecked Sendable {
    private let ring: OpaquePointer
    private let deliver: @Sendable (DatapathEvent) -> Void
    private let stopped = NSLock()
    private var running = true
    private let finished = DispatchSemaphore(value: 0)

    public init(_ datapath: Datapath, deliver: @escaping @Sendable (DatapathEvent) -> Void) throws {
        self.deliver = deliver
        let box = Unmanaged.passRetained(Box(deliver))
        guard
            let ring = nd_ring_open(
                datapath.eventsDescriptor,
                { context, data, size in
                    guard let context, let data, size >= MemoryLayout<nd_event>.size else { return 0 }
                    let box = Unmanaged<Box>.fromOpaque(context).takeUnretainedValue()
                    box.deliver(DatapathEvent(UnsafePointer(data.assumingMemoryBound(to: nd_event.self))))
                    return 0
                }, box.toOpaque())
        else {
            box.release()
            throw NDError("events.open", "can't read the event ring: \(String(cString: strerror(errno)))")
        }
        self.ring = ring
    }

    public func start() {
        let thread = Thread { [self] in
            while isRunning { _ = ring_buffer__poll(ring, 100) }
            finished.signal()
        }
        thread.name = "nd-events"
        thread.start()
    }

    public func stop() {
        stopped.withLock { running = false }
        _ = finished.wait(timeout: .now() + 1)
    }

    private var isRunning: Bool { stopped.withLock { running } }

    private final class Box {
        let deliver: @Sendable (DatapathEvent) -> Void
        init(_ deliver: @escaping @Sendable (DatapathEvent) -> Void) { self.deliver = deliver }
    }
}
