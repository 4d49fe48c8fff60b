import CLibbpf
import CNDSystem
import Foundation
import NDCore

/// One direction of a device, where programs hang in an order: TCX where the kernel has it, clsact elsewhere.
struct DeviceHook {
    enum Order: Equatable { case first, behind, missing }

    /// Before every other: the smallest preference. Where that is another kind of filter's, the old one.
    static let preferences: [UInt32] = [1, 0x6e64]
    /// Of filters with one preference the newest comes first; it needs another handle than the one before it.
    static let handles: [UInt32] = [0x6e64, 0x6e65]

    var index: UInt32
    var ingress: Bool

    var direction: String { ingress ? "ingress" : "egress" }

    /// Ids in the order in which packets meet them; nil where the device is gone.
    func tcxPrograms() throws(NDError) -> [UInt32]? {
        var ids = [UInt32](repeating: 0, count: 64)
        let count = nd_tcx_programs(Int32(index), ingress, &ids, UInt32(ids.count))
        switch count {
        case 0...: return Array(ids.prefix(Int(count)))
        case -ENODEV: return nil
        case -EINVAL: return []
        default: throw NDError("interface.read", "can't read the TCX programs of \(index): \(String(cString: strerror(-count)))")
        }
    }

    func filters() throws(NDError) -> [nd_tc_filter]? {
        var filters = [nd_tc_filter](repeating: nd_tc_filter(), count: 64)
        let count = nd_tc_filters(index, ingress, &filters, Int32(filters.count))
        switch count {
        case 0...: return Array(filters.prefix(Int(count)))
        case -ENODEV: return nil
        default: throw NDError("interface.read", "can't read the filters of \(index): \(String(cString: strerror(-count)))")
        }
    }

    static func order(of own: [UInt32], in programs: [UInt32]) -> Order {
        guard let first = programs.first else { return .missing }
        return own.contains(first) ? .first : programs.contains { own.contains($0) } ? .behind : .missing
    }
}
