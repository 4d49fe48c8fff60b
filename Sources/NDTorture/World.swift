import CNDLab
import Foundation
import Glibc
import NDCore
import NDLab

/// Two hosts with ndbpf on one wire, their programs, and what can be done to them:
///
///     alpha eth0 -- p0 |        | p1 -- eth0 beta
///          (eth1 -- x0 |  wire  | x1 -- eth1)
///
/// Everything that a host sends arrives at its port of the wire and is seen there; what is lost on the wire is lost
/// behind that point. Forged frames enter at the receiver's port, so they are never taken for a host's.
final class World {
    let plan: WorldPlan
    let options: TortureOptions
    let lab: Lab
    let talk: Talk
    private let key: String
    private var losses: [[WireLoss]] = [[], []]
    private var foreign: [ForeignProgram] = []
    private var extraPolicies = 0
    private var hasSecondInterface = [false, false]

    init(_ plan: WorldPlan, tag: String, seed: UInt64, options: TortureOptions) throws {
        self.plan = plan
        self.options = options
        lab = try Lab(tag: tag, hosts: ["alpha", "beta"])
        do {
            key = try lab.writeKey()
            talk = try Talk(lab, seed: seed, options: options)
        } catch {
            lab.close()
            throw error
        }
        do {
            for index in 0...1 { try startDaemon(index) }
        } catch {
            close()
            throw error
        }
    }

    func close() {
        talk.close()
        foreign = []
        for index in 0...1 {
            daemon(index)?.kill()
            _ = try? unload(index, force: true)
        }
        lab.close()
        // An unload that failed leaves pins, which outlive the namespace.
        for host in lab.hosts {
            for folder in ["/sys/fs/bpf/ndbpf", "/run/ndbpf"] { try? FileManager.default.removeItem(atPath: "\(folder)/\(host.instance)") }
        }
    }

    // MARK: - Commands

    func host(_ index: Int) -> Lab.Host { lab.hosts[index] }
    func daemon(_ index: Int) -> DaemonProcess? { lab.daemon(of: host(index)) }

    func ndbpf(_ index: Int, _ arguments: [String]) throws -> Shell.Output {
        try Shell.capture(
            [options.binary] + arguments + ["--instance", host(index).instance, "--netns", host(index).namespacePath])
    }

    private func startDaemon(_ index: Int) throws {
        keepLog(index)
        try lab.startDaemon(
            host(index), policy: plan.policy(index, key: key, engine: options.engine), binary: options.binary, arguments: plan.arguments,
            readyWithin: 20 * options.pace)
    }

    func logFile(_ index: Int) -> String { "\(lab.directory)/\(host(index).name).all.log" }

    /// A new daemon's log overwrites that of the one before.
    func keepLog(_ index: Int) {
        guard let daemon = daemon(index) else { return }
        let file = logFile(index)
        if access(file, F_OK) != 0 { _ = FileManager.default.createFile(atPath: file, contents: nil) }
        guard let handle = FileHandle(forWritingAtPath: file) else { return }
        defer { try? handle.close() }
        _ = try? handle.seekToEnd()
        try? handle.write(contentsOf: Data(("--- daemon \(daemon.pid)\n" + daemon.logText).utf8))
    }

    /// What the daemons said, and how the hosts are now.
    func keepState(in folder: String) throws {
        for (index, host) in lab.hosts.enumerated() {
            keepLog(index)
            let log = "\(folder)/\(host.name).log"
            try? FileManager.default.removeItem(atPath: log)
            try FileManager.default.copyItem(atPath: logFile(index), toPath: log)
            var text = ""
            for command in [["status"], ["flows"], ["peers"], ["sas"]] {
                text += "$ ndbpf \(command.joined(separator: " "))\n\((try? ndbpf(index, command).text) ?? "")\n"
            }
            for command in ["-d addr", "route", "-6 route", "neigh", "-6 neigh"] {
                let output = try? Shell.capture(["ip", "-n", host.namespace] + command.split(separator: " ").map(String.init))
                text += "$ ip \(command)\n\(output?.text ?? "")\n"
            }
            try text.write(toFile: "\(folder)/\(host.name).state", atomically: true, encoding: .utf8)
        }
    }

    private func unload(_ index: Int, force: Bool) throws -> Shell.Output {
        try ndbpf(index, ["unload"] + (force && options.abilities.forcesUnload ? ["--force"] : []))
    }

    /// The connections that the host's datapath says are secured; nil: it says nothing.
    func listed(_ index: Int) -> Set<FlowKey>? {
        guard let output = try? ndbpf(index, ["flows", "--json"]), output.status == 0,
            let object = try? JSONSerialization.jsonObject(with: Data(output.text.utf8)) as? [String: Any],
            let flows = object["flows"] as? [[String: Any]]
        else { return nil }
        return Set(flows.compactMap(Self.securedKey))
    }

    private static func securedKey(_ item: [String: Any]) -> FlowKey? {
        guard item["state"] as? String == "secure", let proto = (item["protocolName"] ?? item["protocol"]) as? String, let number = ["tcp": 6, "udp": 17][proto],
            let local = (item["local"] as? String).flatMap(endpoint), let remote = (item["remote"] as? String).flatMap(endpoint)
        else { return nil }
        return FlowKey(local: local, remote: remote, proto: UInt8(number))
    }

    private static func endpoint(_ text: String) -> Endpoint? {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]),
            let address = IPAddress(text[..<colon].trimmingCharacters(in: ["[", "]"]))
        else { return nil }
        return Endpoint(address, port)
    }

    /// A command of `ip` in a host's namespace. One that fails finds the host in a state that another event made.
    private func ip(_ index: Int, _ command: String) {
        _ = try? Shell.capture(["ip", "-n", host(index).namespace] + command.split(separator: " ").map(String.init))
    }

    private func ip(_ index: Int, batch commands: [String]) {
        let file = "\(lab.directory)/\(host(index).name).ip"
        guard (try? (commands.joined(separator: "\n") + "\n").write(toFile: file, atomically: false, encoding: .utf8)) != nil else { return }
        _ = try? Shell.capture(["ip", "-n", host(index).namespace, "-force", "-batch", file])
    }

    private func addressCommands(_ index: Int) -> [String] {
        ["addr replace \(host(index).ipv4)/24 brd + dev eth0", "addr replace \(host(index).ipv6)/64 dev eth0 nodad"]
    }

    /// nil while it has another name, or is gone.
    private func mac(_ index: Int) throws -> [UInt8]? {
        let text = try Shell.capture(["ip", "-n", host(index).namespace, "-br", "link", "show", "eth0"]).text
        guard let field = text.split(separator: " ").first(where: { $0.split(separator: ":").count == 6 }) else { return nil }
        return field.split(separator: ":").compactMap { UInt8($0, radix: 16) }
    }

    // MARK: - The wire

    private func lose(_ index: Int, _ loss: WireLoss) {
        losses[index].append(loss)
        filter(index)
    }

    private func keep(_ index: Int, _ loss: WireLoss) {
        if let at = losses[index].firstIndex(of: loss) { losses[index].remove(at: at) }
        filter(index)
    }

    private func filter(_ index: Int) {
        let port = "p\(index)"
        let filter =
            losses[index].isEmpty
            ? "true" : "tc filter add dev \(port) ingress pref 1 protocol all bpf da bytecode \"\(WireFilter.bytecode(losses[index]))\""
        _ = try? Shell.capture([
            "ip", "netns", "exec", lab.wire, "sh", "-c",
            "tc qdisc add dev \(port) clsact 2>/dev/null; tc filter del dev \(port) ingress 2>/dev/null; \(filter)",
        ])
    }

    /// To a host, from its port of the wire.
    private func inject(_ index: Int, _ frames: [[UInt8]]) -> Int {
        let port = "p\(index)"
        return (try? Lab.inside("/run/netns/\(lab.wire)") {
            let device = Int32(if_nametoindex(port))
            return frames.count { nd_frame_send(device, $0, $0.count) > 0 }
        }) ?? 0
    }

    // MARK: - Events

    /// What became of it, for the report.
    func begin(_ event: PlannedEvent) throws -> String {
        let index = event.host
        let namespace = host(index).namespace
        var dice = Dice(event.seed)
        switch event.kind {
        case .kill: daemon(index)?.kill()
        case .term:
            // A daemon that was stopped would keep the signal.
            daemon(index)?.signal(SIGCONT)
            return "exit \(daemon(index)?.stop().map(String.init) ?? "by force")"
        case .stop: daemon(index)?.signal(SIGSTOP)
        case .delete, .rekey: return brief(try ndbpf(index, ["sas", "--\(event.kind.rawValue)", "all"]))
        case .expiry, .dropIKE: for side in event.kind == .expiry ? [0, 1] : sides(&dice, index) { lose(side, .ike) }
        case .dropESP: for side in sides(&dice, index) { lose(side, .esp) }
        case .lossy: for side in sides(&dice, index) { lose(side, .some(30)) }
        case .cut: for side in sides(&dice, index) { lose(side, .everything) }
        case .reboot:
            talk.vanish(host: index)
            daemon(index)?.kill()
            // Packets that wait for a neighbour's address are gone too.
            ip(index, "link set eth0 down")
            let unloaded = try unload(index, force: true)
            ip(index, batch: ["link set eth0 up"] + addressCommands(index))
            return brief(unloaded)
        case .unload:
            if dice.oneIn(2) { daemon(index)?.kill() }
            return brief(try unload(index, force: false))
        case .policy:
            extraPolicies += 1
            let file = "\(lab.directory)/\(host(index).name).new.yaml"
            let more = "{ protocol: tcp, local-port: \(20_000 + extraPolicies), direction: both }"
            try plan.policy(index, key: key, engine: options.engine, more: more).write(toFile: file, atomically: true, encoding: .utf8)
            return brief(try ndbpf(index, ["policy", "apply", file]))
        case .upgrade:
            daemon(index)?.kill()
            let load = try ndbpf(index, ["load", "--policy", lab.policyFile(host(index))] + plan.arguments)
            try? startDaemon(index)
            return brief(load)
        case .linkDown: ip(index, "link set eth0 down")
        case .noIPv4: ip(index, "addr del \(host(index).ipv4)/24 dev eth0")
        case .noIPv6: ip(index, "addr del \(host(index).ipv6)/64 dev eth0")
        case .rename: ip(index, "link set eth0 name lan0")
        case .recreate:
            guard let octets = try mac(index) else { return "no eth0 now" }
            let mac = octets.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined(separator: ":")
            ip(index, "link del eth0")
            _ = try? Shell.capture([
                "sh", "-c",
                """
                ip link add eth0 address \(mac) netns \(namespace) type veth peer name p\(index) netns \(lab.wire) &&
                ip -n \(lab.wire) link set p\(index) master br0 up
                """,
            ])
            ip(index, batch: ["link set eth0 up"] + addressCommands(index))
            filter(index)
        case .route:
            _ = try? Shell.capture([
                "sh", "-c",
                """
                ip link add eth1 netns \(namespace) type veth peer name x\(index) netns \(lab.wire) &&
                ip -n \(lab.wire) link set x\(index) master br0 up
                """,
            ])
            hasSecondInterface[index] = true
            let other = host(1 - index)
            ip(
                index,
                batch: [
                    "link set eth1 up", "route replace \(other.ipv4)/32 dev eth1 src \(host(index).ipv4)",
                    "route replace \(other.ipv6)/128 dev eth1 src \(host(index).ipv6)",
                ])
        case .deviceDeleted: ip(index, "link del nd0")
        case .deviceDown: ip(index, "link set nd0 down")
        case .evict: return try evict(index, &dice)
        case .forge: return try forge(index, &dice)
        case .forgeIKE:
            guard let to = try mac(index) else { return "no eth0 now" }
            let macs = to + (try mac(1 - index) ?? [2, 0, 0, 0, 0, 8])
            let cookies = talk.lastCookies
            let frames = Lab.Family.allCases.flatMap { family in
                [500, 4500].map {
                    Forger.deletion(
                        macs: macs, from: host(1 - index).address(family), to: host(index).address(family), port: $0, cookies: cookies)
                }
            }
            return "\(inject(index, frames)) frames"
        case .inFront:
            guard !plan.clsact else { return "not with clsact" }
            guard let program = try ForeignProgram(lab, host(index), first: true) else { return "no TCX here" }
            foreign.append(program)
        case .detach:
            // What waits in a neighbour's queue is past every guard: docs/policy.md.
            let neighbours = try Shell.capture(["ip", "-n", namespace, "neigh", "show", "dev", "eth0"]).text
            if [host(1 - index).ipv4, host(1 - index).ipv6].contains(where: { !neighbours.contains("\($0) lladdr") }) {
                return "not while a neighbour is asked for"
            }
            if plan.clsact {
                _ = try? Shell.capture(["tc", "-n", namespace, "qdisc", "del", "dev", "eth0", "clsact"])
            } else {
                let pins = "/sys/fs/bpf/ndbpf/\(host(index).instance)"
                let names = (try? FileManager.default.contentsOfDirectory(atPath: pins)) ?? []
                for pin in names where pin.hasPrefix("link_") && pin.hasSuffix("gress") { Glibc.unlink("\(pins)/\(pin)") }
            }
        case .connect:
            let family = dice.pick(Lab.Family.allCases)
            let id = talk.open(client: index, family: family, tcp: dice.oneIn(2))
            return id.map { "flow \($0)" } ?? "not possible now"
        }
        return ""
    }

    func end(_ event: PlannedEvent) throws {
        let index = event.host
        var dice = Dice(event.seed)
        switch event.kind {
        // It can't where eth0 has another name just now; `restore` says when it still can't.
        case .kill, .term, .reboot, .unload: try? ensureDaemon(index)
        case .stop: daemon(index)?.signal(SIGCONT)
        case .expiry, .dropIKE: for side in event.kind == .expiry ? [0, 1] : sides(&dice, index) { keep(side, .ike) }
        case .dropESP: for side in sides(&dice, index) { keep(side, .esp) }
        case .lossy: for side in sides(&dice, index) { keep(side, .some(30)) }
        case .cut: for side in sides(&dice, index) { keep(side, .everything) }
        case .linkDown: ip(index, batch: ["link set eth0 up"] + addressCommands(index))
        case .noIPv4, .noIPv6: ip(index, batch: addressCommands(index))
        case .rename: ip(index, "link set lan0 name eth0")
        case .route: dropRoute(index)
        case .inFront: foreign = []
        default: break
        }
    }

    private func dropRoute(_ index: Int) {
        guard hasSecondInterface[index] else { return }
        hasSecondInterface[index] = false
        ip(index, "link del eth1")
        // The peer could have learned the address of eth1 for ours.
        for side in 0...1 { ip(side, "neigh flush all") }
    }

    private func ensureDaemon(_ index: Int) throws {
        if daemon(index)?.isRunning != true { try startDaemon(index) }
    }

    /// Whatever was done and not undone. Cheap where nothing was.
    func restore() throws {
        foreign = []
        for index in 0...1 {
            daemon(index)?.signal(SIGCONT)
            try ensureDaemon(index)
            if !losses[index].isEmpty {
                losses[index] = []
                filter(index)
            }
            dropRoute(index)
            ip(index, batch: ["link set eth0 up"] + addressCommands(index))
        }
    }

    /// What is lost on the way from one host, or both ways.
    private func sides(_ dice: inout Dice, _ index: Int) -> [Int] { dice.oneIn(3) ? [index] : [0, 1] }

    private func brief(_ output: Shell.Output) -> String {
        let line = output.text.split(separator: "\n").first.map(String.init) ?? ""
        return "exit \(output.status)\(line.isEmpty ? "" : ": \(line.prefix(160))")"
    }

    private func evict(_ index: Int, _ dice: inout Dice) throws -> String {
        let family = dice.pick(Lab.Family.allCases)
        let port = dice.oneIn(4) ? Talk.serverPort : WorldPlan.exemptPort
        guard let to = try mac(index) else { return "no eth0 now" }
        let macs = to + [2, 0, 0, 0, 0, 9]
        let proto = dice.pick([IPProtocol.tcp, IPProtocol.udp])
        let frame = Forger.stranger(macs: macs, to: Endpoint(host(index).address(family), port), proto: proto)
        let times = Int(Double(dice.pick([3_000, 10_000, 10_000, 80_000])) / options.pace)
        let (device, seed) = ("p\(index)", UInt32(truncatingIfNeeded: dice.next()))
        let sent = try Lab.inside("/run/netns/\(lab.wire)") {
            nd_frame_flood(Int32(if_nametoindex(device)), frame, frame.count, Int32(times), seed)
        }
        return "\(sent) \(IPProtocol.name(proto)) packets of strangers to port \(port)"
    }

    /// To `index`, as if its peer had sent them on secured connections.
    private func forge(_ index: Int, _ dice: inout Dice) throws -> String {
        guard let to = try mac(index) else { return "no eth0 now" }
        let peer = dice.oneIn(2) ? try mac(1 - index) : nil
        let macs = to + (peer ?? [2, 0, 0, 0, 0, 7])
        var frames: [[UInt8]] = []
        var kinds: [String: Int] = [:]
        talk.with { flows in
            let secured = flows.filter { $0.isOpen && $0.securedAt != nil }
            guard !secured.isEmpty else { return }
            for _ in 0..<dice.within(5...40) {
                let flow = dice.pick(secured)
                let end = flow.ends.firstIndex(of: index) ?? 0
                var forger = Forger(
                    flow: end == 0 ? FlowKey(local: flow.key.remote, remote: flow.key.local, proto: flow.key.proto) : flow.key, id: flow.id,
                    macs: macs)
                var next: UInt32 = 0
                if flow.isTCP {
                    if flow.sockets[end] >= 0, nd_tcp_next(flow.sockets[end], &next) == 0 { forger.sequence = next }
                    if flow.sockets[1 - end] >= 0, nd_tcp_next(flow.sockets[1 - end], &next) == 0 { forger.acknowledges = next }
                }
                let contents: [Forger.Content] = flow.isTCP ? Forger.Content.allCases : [.data, .data, .data, .unreachable, .tooBig]
                let content = dice.pick(contents)
                let wrapping = dice.pick(Forger.Wrapping.allCases)
                kinds["\(content.rawValue) \(wrapping.rawValue)", default: 0] += 1
                frames += forger.frames(content, wrapping, identification: UInt16(truncatingIfNeeded: dice.next()))
            }
        }
        let sent = inject(index, frames)
        return "\(sent) frames: \(kinds.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", "))"
    }
}
