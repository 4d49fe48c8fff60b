import CLibbpf
import CNDObjects
import Foundation
import NDCore

/// What a kernel's verifier made of one program, loaded by itself and let go of again.
public struct VerifierReport: Sendable, Codable {
    public var program: String
    /// Instructions that it processed, on all ways; nil: it did not come to say so.
    public var steps: Int?
    /// 0: accepted, or without steps of a type that this kernel has not; else the error.
    public var error: Int32
    /// The last thing it said before it counted.
    public var remark: String?

    /// A verifier gives up at 1,000,000; what ndbpf's programs take at most, and where its tests fail.
    public static let goal = 150_000
    public static let most = 250_000

    /// Not loaded, for the kernel has no programs of its type.
    public var isAbsent: Bool { error == 0 && steps == nil }

    /// Every program of every object that the binary carries.
    public static func all() throws(NDError) -> [VerifierReport] {
        var reports: [VerifierReport] = []
        for (image, name) in objects { reports += try of(image, name) }
        return reports
    }

    typealias Image = (UnsafeMutablePointer<Int>) -> UnsafeRawPointer?

    private static var objects: [(Image, String)] {
        [
            (nd_object_tc, "nd_tc"), (nd_object_guard, "nd_guard"), (nd_object_hook, "nd_hook"),
            (nd_object_socket, "nd_socket"), (nd_object_ask, "nd_ask"), (nd_object_floor, "nd_floor"),
        ]
    }

    /// `programs`: these alone.
    static func of(_ image: Image, _ name: String, programs: [String]? = nil) throws(NDError) -> [VerifierReport] {
        let object = try open(image, name)
        defer { bpf_object__close(object) }
        var reports: [VerifierReport] = []
        var next = bpf_object__next_program(object, nil)
        while let program = next {
            let this = String(cString: bpf_program__name(program))
            if programs?.contains(this) ?? true {
                let isAbsent = name == "nd_hook" && !NetfilterHooks.areKnown(to: kernelRelease)
                reports.append(isAbsent ? VerifierReport(absent: this) : try alone(image, name, this))
            }
            next = bpf_object__next_program(object, program)
        }
        return reports
    }

    private static func open(_ image: Image, _ name: String) throws(NDError) -> OpaquePointer {
        var size = 0
        let bytes = image(&size)
        guard let object = nd_bpf_open(bytes, size, name) else {
            throw NDError("load.object", "can't open the BPF object \(name): \(String(cString: nd_bpf_log()))")
        }
        return object
    }

    private static func alone(_ image: Image, _ name: String, _ wanted: String) throws(NDError) -> VerifierReport {
        let object = try open(image, name)
        defer { bpf_object__close(object) }
        for map in ["nd_flows", "nd_peers", "nd_protections", "nd_floor_flows"] {
            if let map = bpf_object__find_map_by_name(object, map) { bpf_map__set_max_entries(map, 64) }
        }
        let log = UnsafeMutableBufferPointer<CChar>.allocate(capacity: 1 << 18)
        defer { log.deallocate() }
        log.initialize(repeating: 0)
        var next = bpf_object__next_program(object, nil)
        while let program = next {
            let isWanted = String(cString: bpf_program__name(program)) == wanted
            bpf_program__set_autoload(program, isWanted)
            if isWanted {
                if name == "nd_hook" { nd_netfilter_program(program) }
                // Totals and, of a program that it refuses, the reason: not every step.
                bpf_program__set_log_level(program, 4)
                bpf_program__set_log_buf(program, log.baseAddress, log.count)
            }
            next = bpf_object__next_program(object, program)
        }
        let error = bpf_object__load(object)
        _ = nd_bpf_log()
        let text = log.baseAddress.map { String(cString: $0) } ?? ""
        return VerifierReport(program: wanted, error: error, log: text)
    }

    init(absent program: String) {
        self.program = program
        error = 0
        remark = "netfilter programs came with Linux 6.4"
    }

    init(program: String, error: Int32, log: String) {
        self.program = program
        self.error = error
        let lines = log.split(separator: "\n").map(String.init)
        for line in lines {
            let words = line.split(separator: " ")
            if words.count > 2, words[0] == "processed", words[2] == "insns" { steps = Int(words[1]) }
        }
        // Behind the reason come the totals.
        let totals = ["processed ", "verification time ", "stack depth ", "subprog ", "Func#", "Validating "]
        remark = lines.last { line in !totals.contains { line.hasPrefix($0) } }
    }
}

extension VerifierReport {
    /// Why an object could not be loaded: the first program that the verifier refuses, with the kernel and its
    /// steps; without one it was something else, of which libbpf's messages tell.
    static func refusal(
        _ image: Image, _ name: String, programs: [String]? = nil, error: Int32, code: String = "load.verifier"
    ) -> NDError {
        let messages = String(cString: nd_bpf_log())
        let cause = String(cString: strerror(-error))
        if error == -EPERM {
            return NDError(
                code, "the kernel refused the BPF programs of \(name): \(cause)", context: String(messages.suffix(500)),
                hint: "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed; `ndbpf doctor` tells what is missing")
        }
        guard let reports = try? of(image, name, programs: programs), let refused = reports.first(where: { $0.error != 0 })
        else {
            return NDError(
                code, "the BPF object \(name) can't be loaded: \(cause)", context: String(messages.suffix(500)),
                hint: "`ndbpf doctor` tells what this kernel can do; nothing was changed")
        }
        return refused.refusal(kernel: kernelRelease, code: code)
    }

    func refusal(kernel: String, code: String) -> NDError {
        let counted = steps.map { " after \(Self.grouped($0)) steps" } ?? ""
        return NDError(
            code, "the verifier of Linux \(kernel) refuses the program \(program)\(counted): \(String(cString: strerror(-error)))",
            context: remark,
            hint: "`ndbpf bench --verifier` prints what this kernel counts for each program; ndbpf is tested to need no more than \(Self.grouped(Self.most)). Report the kernel, or boot another; nothing was changed")
    }

    public static var kernelRelease: String {
        var name = utsname()
        uname(&name)
        return withUnsafeBytes(of: name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// 1000001 as "1,000,001".
    private static func grouped(_ number: Int) -> String {
        var digits = Array(String(number))
        var at = digits.count - 3
        while at > 0 {
            digits.insert(",", at: at)
            at -= 3
        }
        return String(digits)
    }
}
