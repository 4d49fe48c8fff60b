import CNDABI
import CNDSystem
import Foundation
import NDABI
import NDCore

/// Keeps the map of this host's addresses equal to the kernel's.
public enum LocalAddresses {
    /// RFC 7600 §4.8; nd0 carries it.
    static let dummy = IPAddress(high: 0, low: 0xffff_c000_0008)

    /// Every address of this network namespace with what it is to the host.
    public static func current() throws(NDError) -> [IPAddress: UInt32] {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else {
            throw NDError("address.read", "can't read this host's addresses: \(String(cString: strerror(errno)))")
        }
        defer { freeifaddrs(first) }
        var all: [IPAddress: UInt32] = [:]
        var next = first
        while let entry = next {
            next = entry.pointee.ifa_next
            // The device's dummy address belongs to no traffic.
            if let address = address(entry.pointee.ifa_addr), address != dummy {
                all[address, default: 0] |= ND_LOCAL_UNICAST
            }
            if entry.pointee.ifa_flags & UInt32(IFF_BROADCAST) != 0,
                let broadcast = address(entry.pointee.ifa_ifu.ifu_broadaddr), broadcast.isIPv4
            {
                all[broadcast, default: 0] |= ND_LOCAL_BROADCAST
            }
        }
        return all
    }

    /// Writes what is missing, removes what is gone; raises the epoch when anything changed.
    /// Returns the addresses now. The map is a cache: of an address that it has no room for BPF asks the kernel.
    @discardableResult
    public static func synchronize(_ datapath: Datapath, protected interfaces: [String]) throws -> [IPAddress: UInt32] {
        let wanted = try current()
        var changed = false
        let present = Dictionary(
            datapath.local.entries().map { ($0.key.address, $0.value) }, uniquingKeysWith: { a, _ in a })
        for address in present.keys where wanted[address] == nil {
            datapath.local.delete(nd_addr(address))
            changed = true
        }
        for (address, kind) in wanted where present[address] != kind {
            do {
                try datapath.local.update(nd_addr(address), kind)
                changed = true
            } catch  where datapath.local.isFull {
                break
            }
        }
        let mtu = interfaces.map { nd_interface_mtu($0) }.filter { $0 > 0 }.min() ?? 0
        if changed || datapath.state.lookup(0)?.mtu != UInt32(mtu) {
            try datapath.changeState { $0.mtu = UInt32(mtu) }
        }
        return wanted
    }

    private static func address(_ pointer: UnsafeMutablePointer<sockaddr>?) -> IPAddress? {
        guard let pointer else { return nil }
        switch Int32(pointer.pointee.sa_family) {
        case AF_INET:
            return pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                withUnsafeBytes(of: $0.pointee.sin_addr) { IPAddress(bytes: Array($0)) }
            }
        case AF_INET6:
            return pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                withUnsafeBytes(of: $0.pointee.sin6_addr) { IPAddress(bytes: Array($0)) }
            }
        default:
            return nil
        }
    }
}
