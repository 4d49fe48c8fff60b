import CLibbpf
import CNDABI
import Foundation
import NDCore

/// Where programs of third parties stand for BPF to call. Each generation of the policy has a half of the
/// numbers, so that a packet under the old one never meets a program of the new one.
public enum CalloutSlots {
    public struct Program: Sendable {
        public var object: CalloutObject
        public var entry: String
        /// It is asked about packets that arrive protected.
        public var isInbound: Bool

        public init(object: CalloutObject, entry: String, isInbound: Bool) {
            self.object = object
            self.entry = entry
            self.isInbound = isInbound
        }
    }

    public static let most = Int(ND_CALLOUTS_MAX)
    static let map = "nd_callouts"
    static let socketMap = "nd_callouts_at_socket"

    public static func first(generation: UInt32) -> UInt32 { generation % 2 == 0 ? 0 : UInt32(ND_CALLOUTS_MAX) }

    /// Loads the programs and puts them in the generation's half, before the generation itself is committed.
    static func fill(_ instance: Instance, generation: UInt32, _ programs: [Program], atSocket: Bool) throws {
        guard programs.count <= most else {
            throw NDError(
                "callout.too-many", "\(programs.count) programs, the limit is \(most)", hint: "nothing was changed")
        }
        let numbered = Array(zip(first(generation: generation)..., programs))
        try put(numbered, in: map, atSocket: false, instance)
        if atSocket { try put(numbered.filter { $0.1.isInbound }, in: socketMap, atSocket: true, instance) }
    }

    private static func put(_ programs: [(UInt32, Program)], in map: String, atSocket: Bool, _ instance: Instance) throws {
        guard !programs.isEmpty else { return }
        let slots = BPFMap<UInt32, UInt32>(descriptor: try instance.openPin(map), name: map)
        defer { close(slots.descriptor) }
        for (number, program) in programs {
            let fd = try program.object.descriptor(program.entry, atSocket: atSocket, instance)
            defer { close(fd) }
            try slots.update(number, UInt32(bitPattern: fd))
        }
    }

    static func clear(_ instance: Instance, generation: UInt32) {
        let first = first(generation: generation)
        for name in [map, socketMap] {
            guard let fd = try? instance.openPin(name) else { continue }
            defer { close(fd) }
            for number in first..<first + UInt32(ND_CALLOUTS_MAX) {
                BPFMap<UInt32, UInt32>(descriptor: fd, name: name).delete(number)
            }
        }
    }

    // MARK: pins of programs and their maps

    static func pins(_ instance: Instance) -> Set<String> { Set(instance.pins(CalloutObject.pins)) }

    static func pins(_ instance: Instance, of programs: [Program]) -> Set<String> {
        Set(programs.flatMap { instance.pins($0.object.pinPrefix) })
    }

    static func unpin(_ instance: Instance, otherThan kept: Set<String>) {
        for pin in pins(instance).subtracting(kept) { unlink(instance.mapPin(pin)) }
    }
}
