import CNDABI
import Foundation
import NDDatapath

/// Runs the classifier without a pause on a thread of its own, and looks whether the answers of one run
/// are all of the generation that the run says it is.
final class PacketStream: @unchecked Sendable {
    struct Seen {
        var runs = 0
        var mixed = 0
        var failed = 0
        var generations: [UInt32: Int] = [:]
    }

    private let probe: FilterProbe
    private let questions: Int
    private let lock = NSLock()
    private var isStopped = false
    private var seen = Seen()
    private let done = DispatchSemaphore(value: 0)

    init(_ probe: FilterProbe, questions: Int) {
        self.probe = probe
        self.questions = questions
    }

    func start() {
        Thread.detachNewThread { [self] in
            while !lock.withLock({ isStopped }) { look() }
            done.signal()
        }
    }

    private func look() {
        seen.runs += 1
        guard let run = try? probe.run(questions), let answers = try? probe.answers(questions) else {
            seen.failed += 1
            return
        }
        seen.generations[run.generation, default: 0] += 1
        let isWhole = answers.allSatisfy { $0.found >= 0 && $0.found >> 8 == Int64(run.generation) && $0.filter == UInt64(run.generation) }
        if !isWhole { seen.mixed += 1 }
    }

    func stop() -> Seen {
        lock.withLock { isStopped = true }
        done.wait()
        return seen
    }
}
