#if canImport(Glibc)
import Glibc
#endif

/// One bounded read of a regular file, its status taken from the opened file so that nothing can be
/// put in its place between the check and the read.
package enum RegularFile {
    package static func read(_ path: String, most: Int, code: String) throws(NDError) -> (bytes: [UInt8], status: stat) {
        // O_NONBLOCK: opening a FIFO must not hang; regular files don't care.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else { throw failure("can't be opened", path, code) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure("can't be examined", path, code) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw NDError("\(code).not-a-file", "not a regular file", context: path, hint: "name a plain file")
        }
        var chunk = [UInt8](repeating: 0, count: min(65536, most + 1))
        // Room from the start: an array that grows would leave copies of a key behind.
        var bytes: [UInt8] = []
        bytes.reserveCapacity(most + chunk.count)
        while bytes.count <= most {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("can't be read", path, code)
            }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        chunk.withUnsafeMutableBytes { buffer in
            if let base = buffer.baseAddress { explicit_bzero(base, buffer.count) }
        }
        guard bytes.count <= most else {
            throw NDError(
                "\(code).too-large", "more than \(most) bytes", context: path, hint: "is this the right file?")
        }
        return (bytes, status)
    }

    private static func failure(_ what: String, _ path: String, _ code: String) -> NDError {
        let cause = errno
        let reason = strerror(cause).map { String(cString: $0) } ?? "error \(cause)"
        return NDError(
            "\(code).unreadable", "\(what): \(reason)", context: path,
            hint: cause == ENOENT ? "create it or correct the path" : cause == EACCES ? "run as root" : nil)
    }
}
