import CNDABI
import Foundation
import NDABI
import NDCore

/// Tells of secured TCP connections whether their socket is gone. On the kernel's engine the end of a connection is not
/// seen inbound: without this each would be remembered for TCP's whole time.
///
/// A socket that this network namespace does not have may be one of another's behind this host (NAT). Where any
/// interface forwards, only what sent its own end and was idle for long counts as gone. Should such a connection speak
/// again all the same, its next packet is protected or waits as that of any entry that was lost.
public struct GoneSockets {
    /// Nothing younger is looked at: a socket may be on its way from one table of the kernel to another.
    public static let leastIdle = Span.seconds(60)

    private let sockets: TCPSockets
    private let addresses: Set<IPAddress>
    private let mayBeOthers: Bool

    public init() throws(NDError) {
        sockets = try TCPSockets.current()
        addresses = Set(try LocalAddresses.current().keys)
        mayBeOthers = TCPSockets.mayBeOthers
    }

    /// `securedIdle`: how long the policy remembers secured flows of other protocols.
    public func has(_ key: FlowKey, _ flow: nd_flow, idle: UInt64, securedIdle: UInt64) -> Bool {
        guard key.proto == IPProtocol.tcp, idle > Self.leastIdle.nanoseconds, addresses.contains(key.local.address),
            !sockets.has(key)
        else { return false }
        return !mayBeOthers || (flow.flags & (ND_FLOW_FIN_OUT | ND_FLOW_RESET) != 0 && idle > securedIdle)
    }
}
