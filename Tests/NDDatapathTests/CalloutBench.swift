import CLibbpf
import CNDABI
import CNDObjects
import Foundation
import NDABI
import NDCore
import NDPolicy

@testable import NDDatapath

/// What Tests/Callouts/witness.bpf.c writes down.
struct Witness {
    var seen: UInt64
    var answer: UInt64
    var told: nd_callout_metadata
    var payload: [UInt8]
}

/// A bench whose policy asks programs of the objects in bpf/build/callouts, as the loader would have put them there.
final class CalloutBench {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appendingPathComponent("bpf/build/callouts").path

    let bench: Bench
    private let witnesses: [OpaquePointer]
    private let socket: OpaquePointer
    private let witnessMap: Int32

    static func path(_ object: String) -> String { "\(folder)/\(object).bpf.o" }

    /// The program with the number N is the N-th of the names; of the object "witness" unless it says otherwise.
    init(_ filters: [RangeFilter], programs: [String], object: String = "witness") throws {
        bench = try Bench()
        var policy = CompiledPolicy(filters: Rules.discovery.rangeFilters.map { $0.below() } + filters)
        policy.overheadV4 = 62
        policy.overheadV6 = 62
        try bench.commit(policy)

        // The program for the socket, with the maps of the others.
        var size = 0
        let image = nd_object_socket(&size)
        guard let socket = nd_bpf_open(image, size, "nd_socket") else { throw NDError("test.open", "nd_socket") }
        try Self.share(socket, bench.object.maps)
        guard bpf_object__load(socket) == 0 else { throw NDError("test.load", String(cString: nd_bpf_log())) }
        self.socket = socket
        let bytes = try Data(contentsOf: URL(fileURLWithPath: Self.path(object)))
        guard let file = bytes.withUnsafeBytes({ nd_bpf_open($0.baseAddress, $0.count, "nd_test") }) else {
            throw NDError("test.open", Self.path(object), hint: "make bpf")
        }
        try Self.share(file, bench.object.maps)
        guard bpf_object__load(file) == 0 else { throw NDError("test.load", String(cString: nd_bpf_log())) }
        witnesses = [file]
        witnessMap = bpf_object__find_map_by_name(file, "witnesses").map { bpf_map__fd($0) } ?? -1
        let atSocket = bpf_object__find_map_by_name(socket, CalloutSlots.socketMap).map { bpf_map__fd($0) } ?? -1
        for (number, name) in programs.enumerated() {
            for (map, suffix) in [(bench.object.maps[CalloutSlots.map] ?? -1, ""), (atSocket, CalloutObject.socketSuffix)] {
                guard let program = bpf_object__find_program_by_name(file, name + suffix) else { continue }
                try BPFMap<UInt32, UInt32>(descriptor: map, name: CalloutSlots.map)
                    .update(UInt32(number), UInt32(bitPattern: bpf_program__fd(program)))
            }
        }
    }

    deinit {
        // The object is lent: the next test must not find our programs.
        for number in 0..<UInt32(ND_CALLOUT_SLOTS) {
            BPFMap<UInt32, UInt32>(descriptor: bench.object.maps[CalloutSlots.map] ?? -1, name: "").delete(number)
        }
        for object in witnesses { bpf_object__close(object) }
        bpf_object__close(socket)
    }

    private static func share(_ object: OpaquePointer, _ maps: [String: Int32]) throws {
        for (name, fd) in maps {
            guard let map = bpf_object__find_map_by_name(object, name) else { continue }
            guard bpf_map__reuse_fd(map, fd) == 0 else { throw NDError("test.share", name) }
        }
    }

    // MARK: the witness

    private struct Raw {
        var seen: UInt64 = 0
        var answer: UInt64 = 0
        var told = nd_callout_metadata()
        var payload: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
    }

    private var map: BPFMap<UInt32, Raw> { BPFMap(descriptor: witnessMap, name: "witnesses") }

    func answer(_ answer: nd_callout_answer, from which: UInt32 = 0) throws {
        try map.update(which, Raw(answer: UInt64(answer.rawValue)))
    }

    func witness(_ which: UInt32 = 0) throws -> Witness {
        guard let raw = map.lookup(which) else { throw NDError("test.witness", "no witness \(which)") }
        return Witness(
            seen: raw.seen, answer: raw.answer, told: raw.told, payload: withUnsafeBytes(of: raw.payload) { Array($0) })
    }

    // MARK: the program at the socket

    enum SocketVerdict: Equatable { case pass, drop }

    /// Only the kernel's engine has need of it. `decrypted`: from nd0, as the kernel says of what its ESP decrypted.
    func atSocket(_ packet: [UInt8], decrypted: Bool = true) throws -> SocketVerdict {
        guard let program = bpf_object__find_program_by_name(socket, "nd_socket") else { throw NDError("test.program", "nd_socket") }
        // A test's packets come in by the loopback: nd0 has its index, or another one.
        try bench.raiseEpoch {
            $0.nd0 = decrypted ? 1 : 77
            $0.flags |= ND_STATE_KERNEL_ENGINE
        }
        defer { try? bench.raiseEpoch { $0.flags &= ~ND_STATE_KERNEL_ENGINE } }
        var value: UInt32 = 0
        var duration: UInt32 = 0
        let frame = Ethernet.frame(packet)
        let error = nd_bpf_test_run(
            bpf_program__fd(program), frame, UInt32(frame.count), nil, nil, 1, 0, 1, &value, &duration)
        guard error == 0 else { throw NDError("test.run", String(cString: strerror(-error))) }
        bench.forgetCounts()
        return value == 0 ? .drop : .pass
    }

    func stats() -> nd_stats {
        var sum = nd_stats()
        let words = MemoryLayout<nd_stats>.size / 8
        let all = bench.rawStats()
        withUnsafeMutableBytes(of: &sum) { bytes in
            let into = bytes.bindMemory(to: UInt64.self)
            for word in 0..<min(words, into.count) { into[word] = all[word] }
        }
        return sum
    }
}

extension RangeFilter {
    /// A filter that asks the program, in a sublayer of its own.
    static func asks(
        _ number: UInt32, at layer: DatapathLayer, _ family: IPFamily = .v4, sublayer: Int = 1, inspection: Bool = false,
        changes: Bool = false, isHard: Bool = false, id: UInt64 = 900, fields: [PacketField: [ClosedRange<UInt128>]] = [:]
    ) -> RangeFilter {
        RangeFilter(
            id: id + UInt64(number), layer: layer, family: family, sublayer: sublayer, weight: 1, fields: fields,
            verdict: .program(number, inspection: inspection, changes: changes), isHard: isHard)
    }

    /// The same filter in the sublayer before the callouts'.
    func below() -> RangeFilter {
        var filter = self
        filter.sublayer = 0
        return filter
    }
}
