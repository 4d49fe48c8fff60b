import ArgumentParser
import CESP
import CNDSystem
import Foundation
import NDCore
import NDDatapath
import NDEngine
import NDTelemetry

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What this kernel can do, what is missing, and what to do about it.",
        discussion: "Tries instead of guessing, changes nothing that stays. Exit code 1 when ndbpf can't work here.")

    @OptionGroup var options: GlobalOptions

    struct Finding: Encodable {
        var check: String
        /// "ok", "note" (works, but), "bad" (can't work).
        var verdict: String
        var found: String
        var advice: String?
    }

    func run() throws {
        let findings = Self.examine() + Self.examineLoaded(try Instance(options.instance))
        if options.json {
            print(try JSONOutput.text("doctor", findings))
        } else {
            for finding in findings {
                print("\(finding.verdict.padding(toLength: 5, withPad: " ", startingAt: 0)) \(finding.check): \(finding.found)")
                if let advice = finding.advice { print("      do: \(advice)") }
            }
        }
        let bad = findings.filter { $0.verdict == "bad" }.count
        if !options.json { print(bad == 0 ? "ndbpf can work here." : "ndbpf can't work here: \(bad) findings above.") }
        if bad > 0 { throw ExitCode(1) }
    }

    /// What hangs where, by the kernel's own word.
    static func examineLoaded(_ instance: Instance) -> [Finding] {
        guard geteuid() == 0, instance.isLoaded else { return [] }
        let check = "instance \(instance.name)"
        do {
            switch try instance.residence() {
            case .notLoaded: return []
            case .elsewhere(let home):
                return [Finding(check: check, verdict: "note", found: "loaded in another network namespace, \(home)", advice: "look there: --netns NAME")]
            case .abandoned:
                return [
                    Finding(
                        check: check, verdict: "bad", found: "loaded in a network namespace that is gone: nothing here is protected",
                        advice: "ndbpf run loads it anew; or ndbpf unload")
                ]
            case .here: break
            }
            if let due = try Upgrade.due(instance) {
                return [
                    Finding(
                        check: check, verdict: "note", found: "\(due.text); it enforces as it is",
                        advice: "stop the daemon, then ndbpf run, or ndbpf load, takes over its state (docs/upgrade.md)")
                ]
            }
            guard let record = LoadRecord.read(instance) else {
                return [Finding(check: check, verdict: "bad", found: "\(instance.recordFile) can't be read", advice: "ndbpf unload, then load again")]
            }
            var findings: [Finding] = []
            let keeper = try InterfaceKeeper(instance, record)
            let states = try keeper.look()
            for state in states where state.role != .guarded || !state.isInPlace {
                findings.append(
                    Finding(
                        check: "\(check): \(state.interface)", verdict: state.isInPlace ? "ok" : "bad",
                        found: state.trouble ?? "\(state.role.rawValue), ndbpf's programs stand first (\(state.attachment))",
                        advice: state.isInPlace ? nil : Self.advice(state)))
            }
            let guarded = states.filter { $0.role == .guarded && $0.isInPlace }.count
            if guarded > 0 { findings.append(Finding(check: "\(check): guards", verdict: "ok", found: "on \(guarded) interfaces")) }
            for pattern in try keeper.unmatched() {
                findings.append(Finding(check: "\(check): \(pattern)", verdict: "note", found: "no interface of this name now", advice: "one that comes is protected"))
            }
            if record.missingHooks == nil, !Loader.hooksAreAttached(instance) {
                findings.append(
                    Finding(
                        check: "\(check): guard behind the routing", verdict: "bad", found: "its links are not pinned any more",
                        advice: "a running daemon attaches them again within a second: ndbpf run"))
            }
            return findings
        } catch {
            return [Finding(check: check, verdict: "bad", found: "\(error)", advice: nil)]
        }
    }

    private static func advice(_ state: InterfaceState) -> String {
        state.role == .device
            ? "a running daemon makes it again: ndbpf run"
            : "a running daemon puts it right within a second; who else attaches there: bpftool net show dev \(state.interface)"
    }

    static func examine() -> [Finding] {
        var findings: [Finding] = []
        func add(_ check: String, _ verdict: String, _ found: String, _ advice: String? = nil) {
            findings.append(Finding(check: check, verdict: verdict, found: found, advice: advice))
        }
        var name = utsname()
        uname(&name)
        let release = withUnsafeBytes(of: name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        add("kernel", "ok", release)
        guard geteuid() == 0 else {
            add("privileges", "bad", "not root", "run with sudo")
            return findings
        }
        add("privileges", "ok", "root")
        do {
            try Instance.prepareFileSystem()
            add("bpffs", "ok", "mounted on \(Instance.bpffs)")
        } catch {
            add("bpffs", "bad", "\(error)", "mount -t bpf bpf \(Instance.bpffs)")
        }
        switch Loader.probe() {
        case .success(let kind):
            add("BPF programs", "ok", "the verifier takes them")
            add(
                "attachment", kind == "tcx" ? "ok" : "note",
                kind == "tcx" ? "TCX links" : "clsact (TCX came with Linux 6.6)",
                kind == "tcx" ? nil : "works; filters of preference 1 are used, before which no other can stand")
        case .failure(let error):
            add("BPF programs", "bad", "\(error)", error.hint)
        }
        let hooks = Loader.probeHooks()
        add(
            "guard behind the routing", hooks == nil ? "ok" : "note", hooks ?? "netfilter programs",
            hooks == nil
                ? nil
                : "works; but a device that comes while no daemon runs has no guard: keep the daemon running (the systemd unit starts it again)")
        var offloads: UInt32 = 0
        let tun = nd_tun_open("nd-doctor", &offloads)
        if tun >= 0 {
            close(tun)
            add(
                "TUN (user engine)", offloads == 2 ? "ok" : "note",
                offloads == 2 ? "multi-queue, TSO and USO" : "multi-queue, TSO; no USO (came with Linux 6.2)")
        } else {
            add("TUN (user engine, fragments)", "note", String(cString: strerror(-tun)), "modprobe tun")
        }
        let native = nd_esp_open(false, 0, 4096)
        if native >= 0 { close(native) }
        add(
            "raw sockets", native >= 0 ? "ok" : "bad", native >= 0 ? "usable" : String(cString: strerror(-native)),
            native >= 0 ? nil : "CAP_NET_RAW is needed")
        for port: UInt16 in [500, 4500] {
            let fd = Traffic.tryPort(port)
            add(
                "UDP \(port)", fd == 0 ? "ok" : "note", fd == 0 ? "free" : String(cString: strerror(fd)),
                fd == 0 ? nil : "if it is not ndbpf itself, stop the other IKE daemon: ss -ulpn 'sport = :\(port)'")
        }
        add(
            "AEAD", nd_ipsec_mb_usable() ? "ok" : "note",
            nd_ipsec_mb_usable() ? "ipsec-mb (AES-NI, AVX)" : "OpenSSL only",
            nd_ipsec_mb_usable() ? nil : "works, slower: ipsec-mb wants an x86-64 CPU with AES-NI and AVX")
        let steps = KernelProbe.run()
        for step in steps {
            add(
                "kernel engine: \(step.name)", step.failure == nil ? "ok" : "note", step.failure ?? "works",
                step.failure == nil ? nil : step.advice)
        }
        let kernel = !steps.contains { $0.failure != nil }
        add(
            "engine: auto", kernel || tun >= 0 ? "ok" : "bad",
            kernel ? "would choose the kernel's" : tun >= 0 ? "would choose the user engine" : "would find none",
            kernel || tun >= 0 ? nil : "load the modules of one engine: esp4 esp6 xfrm_interface, or tun")
        let writable = access("/proc/sys/net/ipv4/conf/all/rp_filter", W_OK) == 0
        add(
            "sysctl", writable ? "ok" : "bad", writable ? "/proc/sys is writable" : "/proc/sys is read-only",
            writable ? nil : "in a container: mount /proc/sys writable")
        return findings
    }
}

enum Traffic {
    /// 0 when a UDP socket can have the port, else the error.
    static func tryPort(_ port: UInt16) -> Int32 {
        let fd = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        guard fd >= 0 else { return errno }
        defer { close(fd) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return result == 0 ? 0 : errno
    }
}
