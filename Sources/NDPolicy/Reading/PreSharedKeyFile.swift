#if canImport(Glibc)
import Glibc
#endif
import NDCore

/// Reads a pre-shared key and refuses a file that others could read or write.
public enum PreSharedKeyFile {
    public static let mostBytes = 4096

    public static func read(path: String) throws(NDError) -> SecretBytes {
        var (bytes, status) = try RegularFile.read(path, most: mostBytes + 1, code: "psk")
        defer {
            bytes.withUnsafeMutableBytes { buffer in
                if let base = buffer.baseAddress { explicit_bzero(base, buffer.count) }
            }
        }
        let mode = status.st_mode & 0o7777
        guard mode & 0o077 == 0 else {
            throw NDError(
                "psk.mode", "the key can be read or written by others (mode \(octal(mode)))", context: path,
                hint: "chmod 600 \(path)")
        }
        guard status.st_uid == 0 || status.st_uid == geteuid() else {
            throw NDError(
                "psk.owner", "the key belongs to user \(status.st_uid)", context: path, hint: "chown root \(path)")
        }
        var count = bytes.count
        if count > 0, bytes[count - 1] == UInt8(ascii: "\n") { count -= 1 }
        if count > 0, bytes[count - 1] == UInt8(ascii: "\r") { count -= 1 }
        guard (1...mostBytes).contains(count) else {
            throw NDError(
                "psk.size", "the key has \(count) bytes", context: path,
                hint: "1 to \(mostBytes) bytes: head -c 32 /dev/urandom | base64 > \(path)")
        }
        return SecretBytes(bytes[..<count])
    }

    private static func octal(_ mode: mode_t) -> String {
        let digits = String(mode, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }
}
