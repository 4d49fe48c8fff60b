import Foundation

/// Every JSON that ndbpf prints is an object with the version of its form, the kind and, under
/// the kind's name, the content: {"version":1,"kind":"peers","peers":[...]}. Keys are sorted, so
/// the same content is the same text.
public enum JSONOutput {
    public static let version = 1

    public static func text(_ kind: String, _ content: some Encodable, pretty: Bool = false) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if pretty { encoder.outputFormatting.insert(.prettyPrinted) }
        let data = try encoder.encode(Envelope(kind: kind, content: content))
        return String(decoding: data, as: UTF8.self)
    }

    private struct Envelope<Content: Encodable>: Encodable {
        var kind: String
        var content: Content

        struct Key: CodingKey {
            var stringValue: String
            var intValue: Int? { nil }
            init(_ name: String) { stringValue = name }
            init?(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: Key.self)
            try container.encode(JSONOutput.version, forKey: Key("version"))
            try container.encode(kind, forKey: Key("kind"))
            try container.encode(content, forKey: Key(kind))
        }
    }
}
