import CNDSystem
import Foundation
import NDCore

/// The kernel's interfaces in this network namespace.
public enum LinkTable {
    private static let most = 65_536

    /// An error when the table can't be read whole: what was not read is not gone.
    public static func read(defaultRoutes: Bool) throws(NDError) -> [NetworkInterface] {
        var routed: Set<UInt32> = []
        if defaultRoutes {
            for ipv6 in [false, true] {
                var indexes = [UInt32](repeating: 0, count: 1024)
                let count = nd_default_routes(ipv6, &indexes, Int32(indexes.count))
                // A kernel without IPv6 has no such routes.
                if ipv6, count == -EAFNOSUPPORT || count == -EOPNOTSUPP { continue }
                routed.formUnion(indexes.prefix(Int(try rows(count, "routes"))))
            }
        }
        var room = 256
        while true {
            var links = [nd_link](repeating: nd_link(), count: room)
            let count = nd_links(&links, Int32(room))
            if count == -ENOSPC, room < most {
                room *= 4
                continue
            }
            return links.prefix(Int(try rows(count, "interfaces"))).map { NetworkInterface($0, routed) }
        }
    }

    private static func rows(_ count: Int32, _ what: String) throws(NDError) -> Int32 {
        guard count >= 0 else {
            throw NDError("interface.read", "can't read this host's \(what): \(String(cString: strerror(-count)))")
        }
        return count
    }
}

extension NetworkInterface {
    fileprivate init(_ link: nd_link, _ routed: Set<UInt32>) {
        func text<T>(_ field: T) -> String {
            withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        self.init(index: link.index, name: text(link.name))
        otherNames = withUnsafeBytes(of: link.other_names) {
            $0.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        }
        isEthernet = link.type == 1
        isLoopback = link.flags & UInt32(IFF_LOOPBACK) != 0
        isUp = link.flags & UInt32(IFF_UP) != 0
        mtu = link.mtu
        kind = text(link.kind)
        hasDefaultRoute = routed.contains(link.index)
    }
}
