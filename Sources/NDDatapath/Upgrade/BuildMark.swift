import CNDObjects
import Foundation
import NDCore

/// Tells which build of ndbpf loaded what is pinned: a sum over the programs that the binary carries.
public enum BuildMark {
    /// This build's.
    public static let own: String = {
        // FNV-1a by words: tells builds apart, no more.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for image in [nd_object_tc, nd_object_guard, nd_object_hook, nd_object_socket] {
            var size = 0
            guard let start = image(&size) else { continue }
            let bytes = UnsafeRawBufferPointer(start: start, count: size)
            for word in stride(from: 0, to: size - size % 8, by: 8) {
                hash = (hash ^ bytes.loadUnaligned(fromByteOffset: word, as: UInt64.self)) &* 0x100_0000_01b3
            }
            for byte in bytes[(size - size % 8)...] { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        }
        return String(hash, radix: 16)
    }()

    private static let pin = "build"
    private static let prefix = "build-"

    /// nil: loaded by a version that left no mark.
    static func read(_ instance: Instance) -> String? {
        guard let text = instance.readMark(pin), text.hasPrefix(prefix) else { return nil }
        return String(text.dropFirst(prefix.count))
    }

    static func write(_ instance: Instance) throws(NDError) { try instance.writeMark(pin, prefix + own) }
}

extension Instance {
    /// A symbolic link among the pins, so that it lives exactly as long as they do.
    func writeMark(_ name: String, _ text: String) throws(NDError) {
        unlink(mapPin(name))
        guard symlink(text, mapPin(name)) == 0 else {
            throw NDError("load.pin", "can't pin the mark \(name): \(String(cString: strerror(errno)))")
        }
    }

    func readMark(_ name: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 128)
        let count = readlink(mapPin(name), &buffer, buffer.count - 1)
        return count > 0 ? String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self) : nil
    }
}
