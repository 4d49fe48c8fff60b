import CNDLab
import CNDSystem
import Foundation
import Glibc
import NDCore

/// What one frame on the wire was, as far as a witness without keys can tell.
public struct WirePacket: Sendable, Hashable {
    public enum Kind: String, Sendable { case clear, esp, ike, icmp, other }

    /// CLOCK_REALTIME nanoseconds.
    public var time: UInt64
    public var outgoing: Bool
    public var kind: Kind
    public var source: IPAddress
    public var destination: IPAddress
    public var proto: UInt8
    public var sourcePort: UInt16
    public var destinationPort: UInt16
    public var tcpFlags: UInt8
    public var length: Int
    /// ISAKMP exchange type and message number as far as it shows: 2 main mode, 32 quick mode.
    public var ikeExchange: UInt8
    public var ikeInitiatorCookie: UInt64
    public var ikeResponderCookie: UInt64
    public var frame: [UInt8]

    public var isSYN: Bool { proto == IPProtocol.tcp && tcpFlags & 0x12 == 0x02 }
    public var isRST: Bool { proto == IPProtocol.tcp && tcpFlags & 0x04 != 0 }
    /// Main mode message 1: no responder cookie yet.
    public var isFirstIKEMessage: Bool { kind == .ike && ikeExchange == 2 && ikeResponderCookie == 0 }

    /// ICMP destination unreachable.
    public var isUnreachable: Bool {
        guard kind == .icmp else { return false }
        let at = source.isIPv4 ? 34 : 54
        guard frame.count > at else { return false }
        return source.isIPv4 ? frame[at] == 3 : frame[at] == 1
    }

    public func belongs(to flow: FlowKey) -> Bool {
        proto == flow.proto
            && ((source == flow.local.address && destination == flow.remote.address
                && sourcePort == flow.local.port && destinationPort == flow.remote.port)
                || (source == flow.remote.address && destination == flow.local.address
                    && sourcePort == flow.remote.port && destinationPort == flow.local.port))
    }
}

/// A packet socket on one host's eth0, read by a thread of its own.
public final class PacketCapture: @unchecked Sendable {
    private let descriptor: Int32
    private let lock = NSLock()
    private var packets: [WirePacket] = []
    private var running = true
    private let finished = DispatchSemaphore(value: 0)
    private let keepBytes: Int

    /// `keepBytes` of every frame are kept: enough for headers, or 65,536 to write a capture file.
    public init(_ lab: Lab, _ host: Lab.Host, interface: String = "eth0", keepBytes: Int = 160) throws {
        self.keepBytes = keepBytes
        descriptor = try lab.inside(host) {
            let index = if_nametoindex(interface)
            guard index != 0 else { throw NDError("lab.capture", "no \(interface) on \(host.name)") }
            return nd_capture_open(Int32(index), 256 << 20)
        }
        guard descriptor >= 0 else {
            throw NDError("lab.capture", "can't capture on \(host.name): \(String(cString: strerror(-descriptor)))")
        }
        let thread = Thread { [self] in
            read()
            finished.signal()
        }
        thread.name = "nd-capture"
        thread.start()
    }

    deinit { close(descriptor) }

    private func read() {
        var buffer = [UInt8](repeating: 0, count: max(keepBytes, 160))
        while true {
            let ready = nd_poll([descriptor], 1, 50)
            if ready == 0, !lock.withLock({ running }) { return }
            guard ready > 0 else { continue }
            var batch: [WirePacket] = []
            for _ in 0..<256 {
                var length: UInt32 = 0
                var outgoing = false
                var time: UInt64 = 0
                let count = nd_capture_next(descriptor, &buffer, buffer.count, &length, &outgoing, &time)
                guard count > 0 else { break }
                if let packet = Self.parse(Array(buffer.prefix(Int(count))), Int(length), outgoing, time) {
                    batch.append(packet)
                }
            }
            lock.withLock { packets += batch }
        }
    }

    /// Everything so far. Waits a little so that what was on the wire is in the list.
    public func snapshot(settleMilliseconds: UInt32 = 30) -> [WirePacket] {
        usleep(settleMilliseconds * 1000)
        return lock.withLock { packets }
    }

    public func clear() { lock.withLock { packets = [] } }

    /// Ends the capture. Throws when the socket lost frames: evidence with holes is none.
    public func stop() throws -> [WirePacket] {
        usleep(30_000)
        lock.withLock { running = false }
        _ = finished.wait(timeout: .now() + 5)
        let lost = nd_capture_lost(descriptor)
        guard lost <= 0 else { throw NDError("lab.capture-lost", "the capture lost \(lost) frames") }
        return lock.withLock { packets }
    }

    static func parse(_ frame: [UInt8], _ length: Int, _ outgoing: Bool, _ time: UInt64) -> WirePacket? {
        guard frame.count >= 34 else { return nil }
        var at = 14
        var type = UInt16(frame[12]) << 8 | UInt16(frame[13])
        if type == 0x8100, frame.count >= 38 {
            type = UInt16(frame[16]) << 8 | UInt16(frame[17])
            at = 18
        }
        func ports(_ offset: Int) -> (UInt16, UInt16) {
            guard frame.count >= offset + 4 else { return (0, 0) }
            return (
                UInt16(frame[offset]) << 8 | UInt16(frame[offset + 1]),
                UInt16(frame[offset + 2]) << 8 | UInt16(frame[offset + 3])
            )
        }
        var later = false
        var proto: UInt8
        var l4: Int
        let source: IPAddress?
        let destination: IPAddress?
        if type == 0x0800 {
            l4 = at + Int(frame[at] & 0xf) * 4
            proto = frame[at + 9]
            later = (UInt16(frame[at + 6]) << 8 | UInt16(frame[at + 7])) & 0x1fff != 0
            source = IPAddress(bytes: frame[(at + 12)..<(at + 16)])
            destination = IPAddress(bytes: frame[(at + 16)..<(at + 20)])
        } else if type == 0x86dd, frame.count >= at + 40 {
            proto = frame[at + 6]
            l4 = at + 40
            source = IPAddress(bytes: frame[(at + 8)..<(at + 24)])
            destination = IPAddress(bytes: frame[(at + 24)..<(at + 40)])
            if proto == 44, frame.count >= l4 + 8 {
                later = (UInt16(frame[l4 + 2]) << 8 | UInt16(frame[l4 + 3])) & 0xfff8 != 0
                proto = frame[l4]
                l4 += 8
            }
        } else {
            return nil
        }
        guard let source, let destination else { return nil }
        var packet = WirePacket(
            time: time, outgoing: outgoing, kind: .clear, source: source, destination: destination, proto: proto,
            sourcePort: 0, destinationPort: 0, tcpFlags: 0, length: length, ikeExchange: 0,
            ikeInitiatorCookie: 0, ikeResponderCookie: 0, frame: frame)
        switch proto {
        case IPProtocol.esp:
            packet.kind = .esp
        case IPProtocol.icmp, IPProtocol.icmpv6:
            packet.kind = .icmp
        case IPProtocol.tcp, IPProtocol.udp:
            if later {
                packet.kind = .other
                break
            }
            (packet.sourcePort, packet.destinationPort) = ports(l4)
            if proto == IPProtocol.tcp {
                packet.tcpFlags = frame.count > l4 + 13 ? frame[l4 + 13] : 0
                break
            }
            var isakmp = l4 + 8
            if packet.sourcePort == 4500 || packet.destinationPort == 4500 {
                let marker = frame.count >= isakmp + 4 && frame[isakmp..<(isakmp + 4)].allSatisfy { $0 == 0 }
                guard marker else {
                    packet.kind = .esp
                    break
                }
                isakmp += 4
            } else if packet.sourcePort != 500, packet.destinationPort != 500 {
                break
            }
            packet.kind = .ike
            if frame.count >= isakmp + 20 {
                packet.ikeInitiatorCookie = frame[isakmp..<(isakmp + 8)].reduce(0) { $0 << 8 | UInt64($1) }
                packet.ikeResponderCookie = frame[(isakmp + 8)..<(isakmp + 16)].reduce(0) { $0 << 8 | UInt64($1) }
                packet.ikeExchange = frame[isakmp + 18]
            }
        default:
            packet.kind = .other
        }
        return packet
    }
}
