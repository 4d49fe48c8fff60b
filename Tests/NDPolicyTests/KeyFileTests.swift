import Foundation
import NDCore
import NDPolicy
import Testing

@Suite("Pre-shared key files", .serialized)
struct KeyFileTests {
    private func withFile<R>(_ bytes: [UInt8], mode: Int, _ body: (String) throws -> R) throws -> R {
        let path = NSTemporaryDirectory() + "/nd-psk-\(UInt64.random(in: 0 ... .max))"
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body(path)
    }

    private func error(_ path: String) -> NDError? {
        do {
            _ = try PreSharedKeyFile.read(path: path)
            return nil
        } catch { return error }
    }

    @Test("A key is read without its line end")
    func reads() throws {
        for (text, expected) in [("secret\n", "secret"), ("secret", "secret"), ("a\r\n", "a"), ("a\n\n", "a\n")] {
            let key = try withFile(Array(text.utf8), mode: 0o600) { try PreSharedKeyFile.read(path: $0) }
            #expect(key.withUnsafeBytes { Array($0) } == Array(expected.utf8))
        }
        let largest = try withFile([UInt8](repeating: 7, count: 4096) + [10], mode: 0o400) {
            try PreSharedKeyFile.read(path: $0)
        }
        #expect(largest.count == 4096)
    }

    @Test("A key that others can touch is refused with its mode and the chmod that mends it", arguments: [0o640, 0o604, 0o602, 0o660])
    func mode(_ mode: Int) throws {
        try withFile([1], mode: mode) { path in
            let error = error(path)
            #expect(error?.code == "psk.mode")
            #expect(error?.context == path)
            #expect(error?.message.contains("0\(String(mode, radix: 8))") == true)
            #expect(error?.hint == "chmod 600 \(path)")
        }
    }

    @Test("Empty, too large, absent and strange files are refused")
    func strange() throws {
        try withFile([], mode: 0o600) { #expect(error($0)?.code == "psk.size") }
        try withFile([10], mode: 0o600) { #expect(error($0)?.code == "psk.size") }
        try withFile([UInt8](repeating: 7, count: 4097), mode: 0o600) { #expect(error($0)?.code == "psk.size") }
        try withFile([UInt8](repeating: 7, count: 4099), mode: 0o600) { #expect(error($0)?.code == "psk.too-large") }
        #expect(error("/nonexistent/psk")?.code == "psk.unreadable")
        #expect(error("/dev/null")?.code == "psk.not-a-file")
        #expect(error("/etc")?.code == "psk.not-a-file")
    }
}
