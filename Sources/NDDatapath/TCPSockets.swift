import CNDABI
import CNDSystem
import Foundation
import NDABI
import NDCore

/// The TCP connections that sockets of this thread's network namespace have.
struct TCPSockets {
    private static let most = 1 << 22

    private let flows: Set<FlowKey>

    static func current() throws(NDError) -> TCPSockets {
        var room = 4096
        while true {
            var rows = [nd_tcp_socket](repeating: nd_tcp_socket(), count: room)
            let count = nd_tcp_sockets(&rows, Int32(clamping: room))
            if count >= 0 { return TCPSockets(rows.prefix(Int(count))) }
            guard count == -ENOSPC, room < most else {
                throw NDError("socket.read", "can't read this host's TCP sockets: \(String(cString: strerror(-count)))")
            }
            room *= 4
        }
    }

    private init(_ rows: ArraySlice<nd_tcp_socket>) {
        flows = Set(
            rows.map { row in
                var key = nd_flow_key()
                withUnsafeMutableBytes(of: &key.local) { to in withUnsafeBytes(of: row.local) { to.copyMemory(from: $0) } }
                withUnsafeMutableBytes(of: &key.remote) { to in withUnsafeBytes(of: row.remote) { to.copyMemory(from: $0) } }
                (key.local_port, key.remote_port, key.proto) = (row.local_port, row.remote_port, IPProtocol.tcp)
                return key.key
            })
    }

    func has(_ flow: FlowKey) -> Bool { flows.contains(flow) }

    /// Whether this namespace sends packets on for others. They may have an address of this host by then (NAT), and
    /// their sockets are not seen here.
    static var mayBeOthers: Bool {
        for family in ["ipv4", "ipv6"] {
            let directory = "/proc/sys/net/\(family)/conf"
            guard let interfaces = try? FileManager.default.contentsOfDirectory(atPath: directory) else {
                if family == "ipv6", access("/proc/sys/net/ipv6", F_OK) != 0 { continue }
                return true
            }
            for interface in interfaces {
                let value = try? String(contentsOfFile: "\(directory)/\(interface)/forwarding", encoding: .utf8)
                if value?.trimmingCharacters(in: .whitespacesAndNewlines) != "0" { return true }
            }
        }
        return false
    }
}
