import Glibc
import NDCore
import Testing

@testable import NDDatapath

@Suite("What a verifier said")
struct VerifierReportTests {
    /// Of 7.3.4, cut.
    static let tooLarge = """
        Func#7 ('nd_rows') is global and assumed valid.
        BPF program is too large. Processed 1000001 insn
        verification time 19537149 usec
        stack depth max 0
        subprog 0 (nd_egress) main insns_self 29 insns_total 1000001 stack 24
        processed 1000001 insns (limit 1000000) max_states_per_insn 26 total_states 38456 peak_states 92645 mark_read 0

        """

    @Test("A program that is refused is told with its kernel and its steps, and not as a lack of capabilities")
    func refused() {
        let report = VerifierReport(program: "nd_egress", error: -E2BIG, log: Self.tooLarge)
        #expect(report.steps == 1_000_001)
        #expect(report.remark == "BPF program is too large. Processed 1000001 insn")
        let error = report.refusal(kernel: "7.3.4+deb13-amd64", code: "load.verifier")
        #expect(error.message == "the verifier of Linux 7.3.4+deb13-amd64 refuses the program nd_egress after 1,000,001 steps: Argument list too long")
        #expect(error.context == report.remark)
        #expect(!error.description.contains("CAP_"))
    }

    @Test("A program that is accepted has a count and nothing to be said of it")
    func accepted() {
        let log = "verification time 10 usec\nstack depth 8\nprocessed 42 insns (limit 1000000) max_states_per_insn 0 total_states 3\n"
        let report = VerifierReport(program: "nd_floor", error: 0, log: log)
        #expect(report.steps == 42)
        #expect(report.remark == nil)
    }

    @Test("This kernel counts every program that the binary carries")
    func counted() throws {
        let reports = try VerifierReport.all()
        #expect(
            Set(reports.map(\.program)).isSuperset(
                of: Datapath.programNames + Self.guards + ["nd_hook_in", "nd_hook_out", "nd_socket", "nd_ask_filters", "nd_floor"]))
        for report in reports where !report.isAbsent {
            #expect(report.error == 0 && (report.steps ?? .max) <= VerifierReport.most, "\(report.program)")
        }
        let isOld = !NetfilterHooks.areKnown(to: VerifierReport.kernelRelease)
        #expect(reports.filter(\.isAbsent).map(\.program) == (isOld ? ["nd_hook_out", "nd_hook_in"] : []))
    }

    private static let guards = ["egress", "ingress"].flatMap { ["nd_guard_\($0)", "nd_guard_\($0)_l3"] }

    @Test(
        "Only a kernel older than 6.4 has no netfilter programs",
        arguments: [
            ("6.1.0-40-amd64", false), ("5.15.0", false), ("6.3.13", false), ("6.4.0", true), ("6.12.43+deb12-amd64", true),
            ("7.3.4+deb13-amd64", true), ("7.0-rc1", true),
        ])
    func known(release: String, has: Bool) { #expect(NetfilterHooks.areKnown(to: release) == has) }
}
