import CLibbpf
import CNDABI
import Foundation
import NDCore

/// Where programs of third parties stand for BPF to call. Each generation of the policy has a half of the
/// numbers, so that a packet under the old one never meets a program of the new one.
public struct CalloutSlots: Sendable {
    public struct Program: Hashable, Sendable {
        public var object: String
        public var entry: String

        public init(object: String, entry: String) {
            self.object = object
            self.entry = entry
        }
    }

    public static let most = Int(ND_CALLOUTS_MAX)
    static let map = "nd_callouts"
    static let socketMap = "nd_callouts_at_socket"

    public static func first(generation: UInt32) -> UInt32 { generation % 2 == 0 ? 0 : UInt32(ND_CALLOUTS_MAX) }

    /// Loads the programs and puts them in the generation's half, before the generation itself is committed.
    static func fill(_ instance: Instance, generation: UInt32, _ callouts: CalloutCommit, atSocket: Bool) throws {
        guard callouts.programs.count <= most else {
            throw NDError(
                "callout.too-many", "\(callouts.programs.count) programs, the limit is \(most)", hint: "nothing was changed")
        }
        let first = first(generation: generation)
        func put(_ map: String, atSocket: Bool, _ wanted: [(Int, Program)]) throws {
            guard !wanted.isEmpty else { return }
            let slots = bpf_obj_get(instance.mapPin(map))
            guard slots >= 0 else {
                throw NDError("callout.map", "can't open map \(map): \(String(cString: strerror(errno)))", hint: "nothing was changed")
            }
            defer { close(slots) }
            for (offset, program) in wanted {
                guard let object = callouts.objects[program.object] else {
                    throw NDError("callout.object", "\(program.object) was not read", hint: "nothing was changed")
                }
                let fd = try object.descriptor(program.entry, atSocket: atSocket, instance)
                defer { close(fd) }
                try BPFMap<UInt32, UInt32>(descriptor: slots, name: map).update(
                    first + UInt32(clamping: offset), UInt32(bitPattern: fd))
            }
        }
        let numbered = Array(callouts.programs.enumerated()).map { ($0.offset, $0.element) }
        try put(map, atSocket: false, numbered)
        if atSocket { try put(socketMap, atSocket: true, numbered.filter { callouts.inbound.contains($0.1) }) }
    }

    static func clear(_ instance: Instance, generation: UInt32) {
        let first = first(generation: generation)
        for name in [map, socketMap] {
            let slots = bpf_obj_get(instance.mapPin(name))
            guard slots >= 0 else { continue }
            defer { close(slots) }
            for number in first..<first + UInt32(ND_CALLOUTS_MAX) {
                BPFMap<UInt32, UInt32>(descriptor: slots, name: name).delete(number)
            }
        }
    }

    // MARK: pins of programs and their maps

    static func pins(_ instance: Instance) -> Set<String> {
        Set(
            ((try? FileManager.default.contentsOfDirectory(atPath: instance.pinDirectory)) ?? [])
                .filter { $0.hasPrefix("callout_") })
    }

    static func pins(_ instance: Instance, of callouts: CalloutCommit) -> Set<String> {
        let prefixes = callouts.objects.values.map { CalloutObject.pinPrefix($0.digest) }
        return pins(instance).filter { pin in prefixes.contains(where: pin.hasPrefix) }
    }

    static func unpin(_ instance: Instance, otherThan kept: Set<String>) {
        for pin in pins(instance).subtracting(kept) { unlink("\(instance.pinDirectory)/\(pin)") }
    }
}
