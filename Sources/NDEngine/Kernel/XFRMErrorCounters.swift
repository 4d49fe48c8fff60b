import CNDABI
import Foundation

/// The kernel's own error counters of this network namespace (/proc/net/xfrm_stat), as far as a
/// reason of nd.h says the same. They count for every user of XFRM, so what they held at the start
/// is taken off.
final class XFRMErrorCounters: Sendable {
    private static let reasons: [String: nd_drop_reason] = [
        "XfrmInNoStates": ND_DROP_UNKNOWN_SPI,
        "XfrmInStateProtoError": ND_DROP_AUTHENTICATION,
        "XfrmInStateSeqError": ND_DROP_REPLAY,
        "XfrmInHdrError": ND_DROP_ESP_MALFORMED,
        "XfrmInBufferError": ND_DROP_DELIVER_FAILED,
        "XfrmInError": ND_DROP_DELIVER_FAILED,
        "XfrmInStateMismatch": ND_DROP_WRONG_ADDRESS,
        "XfrmOutNoStates": ND_DROP_NO_SA,
        "XfrmOutStateSeqError": ND_DROP_SEQUENCE_EXHAUSTED,
        "XfrmOutStateExpired": ND_DROP_NO_SA,
        "XfrmOutStateInvalid": ND_DROP_NO_SA,
        "XfrmOutError": ND_DROP_SEND_FAILED,
        "XfrmOutStateProtoError": ND_DROP_SEND_FAILED,
        "XfrmOutBundleGenError": ND_DROP_SEND_FAILED,
        "XfrmOutBundleCheckError": ND_DROP_SEND_FAILED,
    ]

    private let first: [String: UInt64]

    init() { first = Self.read() }

    func add(to sum: inout EngineStatistics) {
        for (name, value) in Self.read() {
            guard let reason = Self.reasons[name], sum.drops.indices.contains(Int(reason.rawValue)) else { continue }
            sum.drops[Int(reason.rawValue)] &+= value &- min(value, first[name] ?? 0)
        }
    }

    static func read() -> [String: UInt64] {
        // The reading thread's namespace, not the process's.
        parse((try? String(contentsOfFile: "/proc/thread-self/net/xfrm_stat", encoding: .utf8)) ?? "")
    }

    static func parse(_ text: String) -> [String: UInt64] {
        var result: [String: UInt64] = [:]
        for line in text.split(separator: "\n") {
            let fields = line.split(whereSeparator: \.isWhitespace)
            if fields.count == 2, let value = UInt64(fields[1]) { result[String(fields[0])] = value }
        }
        return result
    }
}
