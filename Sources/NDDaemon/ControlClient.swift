import Foundation
import Glibc
import NDCore

/// The command's side of the control socket.
public final class ControlClient {
    private let descriptor: Int32
    private var pending: [UInt8] = []

    /// Connects to a running daemon; `timeout` bounds each wait for an answer.
    public init(path: String, instance: String, timeoutSeconds: Int = 5) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            close(descriptor)
            throw NDError("control.path", "the control socket's path is too long: \(path)")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard connected == 0 else {
            let error = errno
            close(descriptor)
            throw NDError(
                "control.no-daemon", "no daemon answers for instance '\(instance)': \(String(cString: strerror(error)))",
                hint: error == EACCES ? "run as root" : "start it: ndbpf run --policy FILE --instance \(instance)")
        }
        setTimeout(seconds: timeoutSeconds)
    }

    deinit { close(descriptor) }

    /// 0 waits for ever.
    public func setTimeout(seconds: Int) {
        var time = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    public func send(_ request: ControlRequest) throws {
        let bytes = try JSONEncoder().encode(request) + [0x0a]
        let sent = bytes.withUnsafeBytes {
            Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard sent == bytes.count else { throw NDError("control.closed", "the daemon closed the control socket") }
    }

    /// The next line; nil when the daemon closed the socket.
    public func next() throws -> ControlAnswer? {
        while true {
            if let end = pending.firstIndex(of: 0x0a) {
                let line = Data(pending[..<end])
                pending.removeSubrange(...end)
                let answer = try JSONDecoder().decode(ControlAnswer.self, from: line)
                if let error = answer.error {
                    throw NDError(error.code, error.message, hint: error.hint)
                }
                return answer
            }
            guard pending.count < 1 << 24 else { throw NDError("control.too-long", "the daemon's answer is too long") }
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count == 0 { return nil }
            guard count > 0 else {
                if errno == EINTR { continue }
                throw NDError("control.timeout", "the daemon does not answer", hint: "see its log; is it busy or stopped?")
            }
            pending += buffer.prefix(count)
        }
    }

    public func ask(_ request: ControlRequest) throws -> ControlAnswer {
        try send(request)
        guard let answer = try next() else {
            throw NDError("control.closed", "the daemon closed the control socket")
        }
        return answer
    }
}
