import NDCore
import Yams

/// One item of `callouts`.
struct CalloutReader {
    static let keys = ["name", "key", "layer", "layers", "program", "provider"]

    let objects: ObjectReader
    /// Of the policy file.
    let folder: String
    private var findings: Findings { objects.findings }

    /// One for each of its layers; none where something is wrong.
    func read(_ item: MappingReader) -> [Callout] {
        let before = findings.errors.count
        let name = objects.name(item)
        let key = objects.key(item)
        let layers = layers(item)
        let provider = objects.owner(item)
        let program = program(item)
        guard findings.errors.count == before, let name, let key, let provider, let program else { return [] }
        return layers.map { layer in
            Callout(key: key.given, name: name, layer: layer, provider: provider.given, program: program.given)
        }
    }

    private func layers(_ item: MappingReader) -> [Layer] {
        guard item.has("layers") else { return objects.layer(item).map { [$0] } ?? [] }
        for key in ["layer", "key"] where item.has(key) {
            findings.add(
                "value", at: item.place(key), "'\(item.full(key))' is given beside 'layers'",
                fix: key == "key" ? "leave it out: each layer's callout has a key of its own" : "keep one of them")
        }
        let nodes = item.list("layers", of: "layers", most: Layer.all.count) ?? []
        if nodes.isEmpty, item.has("layers") {
            findings.add("value", at: item.place("layers"), "'\(item.full("layers"))' names none", fix: "such as [STREAM_V4, STREAM_V6]")
        }
        return nodes.compactMap { objects.layer($0, item.full("layers")) }
    }

    private func program(_ item: MappingReader) -> ObjectReader.Optionally<CalloutProgram>? {
        guard item.has("program") else { return .init(given: nil) }
        guard let one = item.mapping("program", keys: ["object", "entry"]), one.isMapping,
            one.require("object", fix: "the path of a BPF object file"),
            one.require("entry", fix: "the name of a program in that file"),
            let object = one.text("object", of: "a path"), let entry = one.text("entry", of: "a program's name")
        else { return nil }
        guard !object.isEmpty, !object.hasSuffix("/"), !object.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }),
            object.utf8.count + folder.utf8.count < 4095
        else {
            findings.add(
                "value", at: one.node("object")?.mark, "'\(one.full("object"))' is '\(clipped(object))', which is no path of a file",
                fix: "a path such as /usr/lib/callouts/mine.bpf.o; a relative one begins in the policy file's folder")
            return nil
        }
        guard Self.isName(entry) else {
            findings.add(
                "value", at: one.node("entry")?.mark, "'\(one.full("entry"))' is '\(clipped(entry))', which is no program's name",
                fix: "the name that its C source gives to ND_CALLOUT_PROGRAM")
            return nil
        }
        let path = object.hasPrefix("/") || folder.isEmpty ? object : folder + "/" + object
        return .init(given: CalloutProgram(object: path, entry: entry))
    }

    /// A C identifier; ELF symbols may be longer than anybody writes them.
    private static func isName(_ word: String) -> Bool {
        guard let first = word.utf8.first, word.utf8.count <= 127 else { return false }
        func isLetter(_ byte: UInt8) -> Bool { byte == 0x5f || (0x41...0x5a).contains(byte & ~0x20) }
        return isLetter(first) && word.utf8.allSatisfy { isLetter($0) || (0x30...0x39).contains($0) }
    }
}
