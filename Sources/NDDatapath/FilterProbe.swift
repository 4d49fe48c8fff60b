import CLibbpf
import CNDABI
import CNDObjects
import Glibc
import NDABI
import NDCore

/// The classifier by itself (bpf/nd_ask.bpf.c), by BPF_PROG_TEST_RUN: attached to nothing.
public final class FilterProbe {
    private let object: LoadedProgram
    private let program: Int32
    private let policies: BPFMap<UInt32, UInt32>
    private let questions: BPFMap<UInt32, nd_question>
    public let local: BPFMap<nd_addr, UInt32>

    public static let mostQuestions = Int(ND_QUESTIONS)

    public init() throws {
        object = try LoadedProgram(nd_object_ask, "nd_ask")
        program = try object.program("nd_ask_filters")
        policies = BPFMap(descriptor: try object.map("nd_policies"), name: "nd_policies")
        questions = BPFMap(descriptor: try object.map("nd_questions"), name: "nd_questions")
        local = BPFMap(descriptor: try object.map("nd_local"), name: "nd_local")
    }

    public func commit(_ policy: PolicyImage) throws {
        try PolicySlot.commit(policy, to: policies, typesOf: questions.descriptor)
    }

    public func put(_ asked: [nd_question]) throws {
        var keys = (0..<UInt32(clamping: min(asked.count, Self.mostQuestions))).map { $0 }
        var count = UInt32(clamping: keys.count)
        guard count > 0 else { return }
        guard bpf_map_update_batch(questions.descriptor, &keys, asked, &count, nil) == 0 else {
            throw NDError("probe.put", "can't write the questions: \(String(cString: strerror(errno)))")
        }
    }

    /// Asks the first questions that were put; the generation that answered, and nanoseconds a run.
    @discardableResult
    public func run(_ count: Int, repeats: UInt32 = 1) throws -> (generation: UInt32, nanoseconds: Double) {
        let packet = [UInt8](repeating: 0, count: 64)
        var generation: UInt32 = 0
        var nanoseconds: UInt32 = 0
        let error = nd_bpf_test_run(
            program, packet, UInt32(packet.count), nil, nil, 0, UInt32(clamping: count), repeats, &generation, &nanoseconds)
        guard error == 0 else { throw NDError("probe.run", "BPF_PROG_TEST_RUN: \(String(cString: strerror(-error)))") }
        return (generation, Double(nanoseconds))
    }

    /// The first questions with their answers.
    public func answers(_ count: Int) throws -> [nd_question] {
        var result = [nd_question](repeating: nd_question(), count: min(max(count, 1), Self.mostQuestions))
        var keys = [UInt32](repeating: 0, count: result.count)
        var got = UInt32(clamping: result.count)
        var batch: UInt32 = 0
        let failed = bpf_map_lookup_batch(questions.descriptor, nil, &batch, &keys, &result, &got, nil)
        guard failed == 0 || errno == ENOENT, got == UInt32(clamping: result.count) else {
            throw NDError("probe.answers", "can't read the answers: \(String(cString: strerror(errno)))")
        }
        return result
    }
}
