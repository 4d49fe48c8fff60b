import CNetlink
import Glibc
import NDCore
import Synchronization

/// The kernel's answer to a request that it refuses.
struct NetlinkError: Error, Hashable, CustomStringConvertible {
    var code: Int32
    /// What the kernel adds in words (NLMSGERR_ATTR_MSG).
    var text: String?

    var description: String { String(cString: strerror(code)) + (text.map { " (\($0))" } ?? "") }
}

/// Requests to a netlink family; tests put a scripted kernel behind it.
protocol NetlinkTransport: AnyObject, Sendable {
    /// Sends one request and hands each message of its answer to `take`, which must not keep it:
    /// both the request and the answer are wiped. Throws NetlinkError.
    func request(_ request: consuming NetlinkRequest, take: (NetlinkMessage) -> Void) throws
}

extension NetlinkTransport {
    func request(_ request: consuming NetlinkRequest) throws { try self.request(request) { _ in } }
}

/// A netlink socket for requests, one at a time.
final class NetlinkSocket: NetlinkTransport {
    private struct State {
        var sequence: UInt32 = 0
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
    }

    private let descriptor: Int32
    private let state = Mutex(State())

    init(_ protocolNumber: Int32) throws {
        descriptor = nd_netlink_open(protocolNumber, 0)
        guard descriptor >= 0 else { throw NetlinkError(code: -descriptor) }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    func request(_ request: consuming NetlinkRequest, take: (NetlinkMessage) -> Void) throws {
        var request = request
        defer { request.wipe() }
        try state.withLock { state in
            state.sequence &+= 1
            let sequence = state.sequence
            request.finish(sequence: sequence)
            let flags: UInt16 = request.bytes.structure(at: 6) ?? 0
            let dump = flags & UInt16(NLM_F_DUMP) == UInt16(NLM_F_DUMP)
            let sent = nd_netlink_send(descriptor, request.bytes, request.bytes.count)
            guard sent == request.bytes.count else { throw NetlinkError(code: sent < 0 ? -sent : EIO) }
            // Bounded: the kernel answers at once; a dump of a million SAs takes seconds.
            let deadline = Instant.now().advanced(by: .seconds(dump ? 120 : 10))
            while Instant.now() < deadline {
                let size = nd_netlink_receive(descriptor, &state.buffer, state.buffer.count, 1000)
                if size == -EAGAIN || size == 0 { continue }
                guard size > 0 else { throw NetlinkError(code: -size) }
                var messages = NetlinkMessage.parse(state.buffer.prefix(Int(size)))
                state.buffer.withUnsafeMutableBytes { UnsafeMutableRawBufferPointer(rebasing: $0[..<Int(size)]).wipe() }
                var finished = false
                for index in messages.indices where messages[index].sequence == sequence && !finished {
                    switch Int32(messages[index].type) {
                    case NLMSG_ERROR:
                        let code: Int32 = messages[index].payload.structure() ?? -EIO
                        guard code == 0 else { throw NetlinkError(code: -code, text: Self.text(messages[index])) }
                        finished = true
                    case NLMSG_DONE:
                        finished = true
                    default:
                        take(messages[index])
                        finished = flags & UInt16(NLM_F_ACK) == 0 && !dump
                    }
                }
                for index in messages.indices { messages[index].wipe() }
                if finished { return }
            }
            throw NetlinkError(code: ETIMEDOUT)
        }
    }

    /// Extended acknowledgement: behind the error number and the request's header.
    private static func text(_ message: NetlinkMessage) -> String? {
        guard message.flags & 0x200 /* NLM_F_ACK_TLVS */ != 0 else { return nil }
        let capped = message.flags & 0x100 != 0
        let original: UInt32 = message.payload.structure(at: 4) ?? 0
        let skip = 4 + (capped ? NetlinkMessage.headerBytes : NetlinkMessage.aligned(Int(original)))
        return NetlinkMessage.attributes(message.payload.dropFirst(skip))[1].map {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
