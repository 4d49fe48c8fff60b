import CNDObjects
import Foundation
import NDCore

/// The scenario files that the binary carries: Tests/Scenarios as it was when it was built.
public enum ScenarioCatalog {
    public struct File: Sendable, Hashable {
        /// Without its extension.
        public var name: String
        public var text: String
    }

    private static let archive: [(name: String, bytes: [UInt8])] = {
        var size = 0
        guard let start = nd_object_scenarios(&size) else { return [] }
        return TarArchive.files(in: UnsafeRawBufferPointer(start: start, count: size))
    }()

    public static let files: [File] = archive.compactMap { entry in
        guard entry.name.hasSuffix(".yaml"), let text = String(validating: entry.bytes, as: UTF8.self) else { return nil }
        return File(name: String(entry.name.dropLast(5)), text: text)
    }

    /// The examples of callouts (bpf/examples), compiled, by their files' names.
    public static let callouts = archive.filter { $0.name.hasSuffix(".bpf.o") }

    public static func scenario(_ name: String, conditions: RunConditions) throws -> Scenario {
        guard let file = files.first(where: { $0.name == name }) else {
            throw NDError(
                "usage.scenario", "there is no scenario '\(name)'",
                hint: "`ndbpf demo --list` lists them; `--scenario FILE` plays a file")
        }
        return try ScenarioFile.parse(file.text, file: "\(name).yaml", conditions: conditions)
    }

    /// In the order of the demo, the rest behind it by name.
    public static func all(conditions: RunConditions) throws -> [Scenario] {
        try files.map { try scenario($0.name, conditions: conditions) }.sorted {
            ($0.chapter?.number ?? .max, $0.name) < ($1.chapter?.number ?? .max, $1.name)
        }
    }
}

/// POSIX ustar: 512-byte headers, each with its file behind it.
enum TarArchive {
    static func files(in archive: UnsafeRawBufferPointer) -> [(name: String, bytes: [UInt8])] {
        var result: [(name: String, bytes: [UInt8])] = []
        var at = 0
        while at + 512 <= archive.count {
            let header = archive[at..<(at + 512)]
            let name = text(header, 0, 100)
            guard !name.isEmpty, let size = Int(text(header, 124, 12), radix: 8), size <= archive.count - at - 512 else { break }
            result.append((name, Array(archive[(at + 512)..<(at + 512 + size)])))
            at += 512 + (size + 511) / 512 * 512
        }
        return result
    }

    private static func text(_ header: Slice<UnsafeRawBufferPointer>, _ offset: Int, _ length: Int) -> String {
        let field = header.dropFirst(offset).prefix(length).prefix { $0 != 0 && $0 != 0x20 }
        return String(decoding: field, as: UTF8.self)
    }
}
