import CNDLab
import Foundation
import Glibc
import NDCore

/// TCX programs of somebody else's on a host's interface, both ways, that let everything pass. They go with the value.
public final class ForeignProgram: @unchecked Sendable {
    private let links: [Int32]

    /// nil: the kernel has no TCX.
    public init?(_ lab: Lab, _ host: Lab.Host, interface: String = "eth0", first: Bool) throws {
        links = try lab.inside(host) {
            let index = Int32(if_nametoindex(interface))
            return [true, false].map { nd_foreign_tcx(index, $0, 0, first) }
        }
        if links.contains(-EINVAL) { return nil }
        if let failed = links.first(where: { $0 < 0 }) {
            throw NDError("lab.tcx", "can't attach to \(interface): \(String(cString: strerror(-failed)))")
        }
    }

    deinit { for link in links where link >= 0 { close(link) } }
}
