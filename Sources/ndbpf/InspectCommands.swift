import ArgumentParser
import CNDABI
import Foundation
import NDABI
import NDCore
import NDDaemon
import NDDatapath
import NDDiscovery
import NDTelemetry

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "What the daemon does and how it fares.")
    @OptionGroup var options: GlobalOptions

    func run() throws {
        let instance = try Instance(options.instance)
        let client = try ControlClient(path: instance.controlSocket, instance: instance.name)
        guard let status = try client.ask(ControlRequest(.status)).status else {
            throw NDError("control.answer", "the daemon's answer has no status")
        }
        if options.json {
            print(try JSONOutput.text("status", status))
            return
        }
        func counts(_ values: [String: Int]) -> String {
            values.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
        }
        print("instance      \(status.instance), pid \(status.pid), up \(Span.seconds(status.uptimeSeconds))")
        print("policy        \(status.scenario) (\(status.policyFile))")
        let guarded = status.interfaceStates.filter { $0.role == .guarded }
        let troubled = guarded.filter { !$0.isInPlace }.count
        print(
            "interfaces    \(status.interfaces.isEmpty ? "none" : status.interfaces.joined(separator: ", ")) by \(status.attachment); guards on \(guarded.count - troubled)\(troubled == 0 ? "" : " of \(guarded.count)") others")
        print("engine        \(status.engine) (\(status.engineReason)), \(status.aead), ESP in \(status.encapsulation), device \(status.device)")
        print("addresses     \(status.addresses.joined(separator: ", "))")
        print("peers         \(counts(status.peers))")
        print("flows         \(counts(status.flows)); \(status.upgrades) upgraded")
        print("tables        \(status.tables.map { "\($0.name) \($0.entries) of \($0.size)" }.joined(separator: ", "))")
        print("SAs           \(status.securityAssociations)")
        print("negotiations  \(counts(status.negotiations.mapValues { Int(clamping: $0) }))")
        let drops = status.drops.filter { $0.value > 0 }
        print("drops         \(drops.isEmpty ? "none" : counts(drops.mapValues { Int(clamping: $0) }))")
        if let metrics = status.metrics { print("metrics       \(metrics)") }
        for warning in status.warnings { print("warning       \(warning)") }
    }
}

struct SAs: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "sas", abstract: "The security associations.")
    @OptionGroup var options: GlobalOptions

    @Option(help: "Delete the SAs with this peer (an address, or `all`). Secured flows are latched until a new negotiation succeeds.")
    var delete: String?

    @Option(help: "Renew the SAs with this peer (an address, or `all`) now, without a gap.")
    var rekey: String?

    func validate() throws {
        guard delete == nil || rekey == nil else { throw ValidationError("--delete and --rekey exclude each other") }
    }

    func run() throws {
        let instance = try Instance(options.instance)
        let client = try ControlClient(path: instance.controlSocket, instance: instance.name)
        func peer(_ text: String) throws -> String? {
            guard text == "all" || IPAddress(text) != nil else {
                throw NDError("usage.address", "'\(text)' is no IP address", hint: "an address, or `all`")
            }
            return text == "all" ? nil : text
        }
        if let rekey {
            let count = try client.ask(ControlRequest(.rekey, remote: try peer(rekey))).rekeyed ?? 0
            if options.json {
                print(try JSONOutput.text("rekeyed", count))
            } else {
                print(
                    count == 0
                        ? "no SA pair with \(rekey); nothing was changed"
                        : "renewing the SAs with \(count) peers; `ndbpf sas` shows the old ones until traffic has moved")
            }
            return
        }
        if let delete {
            let count = try client.ask(ControlRequest(.delete, remote: try peer(delete))).deleted ?? 0
            if options.json {
                print(try JSONOutput.text("deleted", count))
            } else {
                print(count == 0 ? "no SA pair with \(delete); nothing was changed" : "deleted \(count) SA pairs")
            }
            return
        }
        let sas = try client.ask(ControlRequest(.sas)).sas ?? []
        if options.json {
            print(try JSONOutput.text("sas", sas))
            return
        }
        var table = TextTable([
            .init("DIR"), .init("SPI"), .init("LOCAL"), .init("REMOTE"), .init("SUITE"), .init("VIA"),
            .init("STATE"), .init("PACKETS", .right), .init("BYTES", .right), .init("EXPIRES", .right),
        ])
        for sa in sas {
            table.add([
                sa.direction, sa.spi, sa.local, sa.remote, sa.suite, sa.encapsulation,
                sa.active ? "active" : "standby", "\(sa.packets)", "\(sa.bytes)",
                sa.expiresInSeconds.map { "\(Int($0)) s" } ?? "-",
            ])
        }
        print(table.text, terminator: "")
    }
}

struct Peers: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The peers and their state, from the datapath's own table.")
    @OptionGroup var options: GlobalOptions

    struct Row: Encodable {
        var local: String
        var remote: String
        var context: UInt32
        var state: String
        var boundary: Bool
        var changedSecondsAgo: Double
        var clearForSeconds: Double?
        var everSecured: Bool
    }

    func run() throws {
        let datapath = try Datapath(try Instance(options.instance))
        let now = Instant.now()
        let rows = datapath.peers.entries().map { key, value -> Row in
            let peer = key.key
            return Row(
                local: "\(peer.local)", remote: "\(peer.remote)", context: peer.context,
                state: ABILabels.peerState(value.state), boundary: value.flags & ND_PEER_BOUNDARY != 0,
                changedSecondsAgo: now.since(Instant(nanoseconds: value.changed_at)).seconds,
                clearForSeconds: value.state == ND_PEER_CLEAR.rawValue
                    ? Instant(nanoseconds: value.clear_until).since(now).seconds : nil,
                everSecured: value.secured_until != 0)
        }.sorted { ($0.remote, $0.local) < ($1.remote, $1.local) }
        if options.json {
            print(try JSONOutput.text("peers", rows))
            return
        }
        var table = TextTable([
            .init("REMOTE"), .init("LOCAL"), .init("STATE"), .init("SINCE", .right), .init("NOTE"),
        ])
        for row in rows {
            var note = row.boundary ? "boundary" : ""
            if let left = row.clearForSeconds { note = "asked again in \(Int(left.rounded(.up))) s at the earliest" }
            table.add([row.remote, row.local, row.state, "\(Span.seconds(row.changedSecondsAgo))", note])
        }
        print(table.text, terminator: "")
    }
}

struct Flows: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "The connections as the datapath knows them.")
    @OptionGroup var options: GlobalOptions

    @Option(help: "Show at most so many: 1 to 1000000.")
    var most = 1000

    struct Row: Encodable {
        var protocolName: String
        var local: String
        var remote: String
        var direction: String
        var state: String
        var packetsOutClear: UInt64
        var packetsOutProtected: UInt64
        var packetsInClear: UInt64
        var packetsInProtected: UInt64
        var bytesOut: UInt64
        var bytesIn: UInt64
        var ageSeconds: Double
        var idleSeconds: Double
    }

    func validate() throws {
        guard (1...1_000_000).contains(most) else { throw ValidationError("--most is 1 to 1000000") }
    }

    static func rows(_ datapath: Datapath, most: Int) -> [Row] {
        let now = Instant.now()
        let secured = datapath.secured.entries(most: most)
        return (secured + datapath.flows.entries(most: max(0, most - secured.count))).map { key, flow in
            let known = key.key
            let state: String
            if flow.flags & ND_FLOW_SECURE != 0 {
                state = "secure"
            } else if flow.flags & ND_FLOW_EXEMPT != 0 {
                state = "exempt"
            } else {
                state = "clear"
            }
            return Row(
                protocolName: IPProtocol.name(known.proto), local: "\(known.local)", remote: "\(known.remote)",
                direction: flow.direction == UInt8(ND_FLOW_OUTBOUND.rawValue) ? "out" : "in", state: state,
                packetsOutClear: flow.packets.0, packetsOutProtected: flow.packets.1,
                packetsInClear: flow.packets.2, packetsInProtected: flow.packets.3,
                bytesOut: flow.bytes.0 &+ flow.bytes.1, bytesIn: flow.bytes.2 &+ flow.bytes.3,
                ageSeconds: now.since(Instant(nanoseconds: flow.first_seen)).seconds,
                idleSeconds: now.since(Instant(nanoseconds: flow.last_seen)).seconds)
        }.sorted { ($0.remote, $0.local, $0.protocolName) < ($1.remote, $1.local, $1.protocolName) }
    }

    func run() throws {
        let datapath = try Datapath(try Instance(options.instance))
        let rows = Self.rows(datapath, most: most)
        if options.json {
            print(try JSONOutput.text("flows", rows))
            return
        }
        var table = TextTable([
            .init("PROTO"), .init("LOCAL"), .init("DIR"), .init("REMOTE"), .init("STATE"),
            .init("CLEAR OUT/IN", .right), .init("PROTECTED OUT/IN", .right), .init("BYTES OUT/IN", .right),
            .init("IDLE", .right),
        ])
        for row in rows {
            table.add([
                row.protocolName, row.local, row.direction == "out" ? ">" : "<", row.remote, row.state,
                "\(row.packetsOutClear)/\(row.packetsInClear)",
                "\(row.packetsOutProtected)/\(row.packetsInProtected)", "\(row.bytesOut)/\(row.bytesIn)",
                "\(Int(row.idleSeconds)) s",
            ])
        }
        print(table.text, terminator: "")
        if rows.count == most { print("only the first \(most) are shown: --most") }
    }
}

struct Maps: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The BPF maps: type, size and fill; with a name, its entries.")
    @OptionGroup var options: GlobalOptions

    @Argument(help: "flows, secured, peers, local, fragments, state, policy or stats (or the map's full name).")
    var name: String?

    @Flag(help: "Entries as hexadecimal bytes: key and value.")
    var raw = false

    struct Map: Encodable {
        var name: String
        var type: String
        var keyBytes: Int
        var valueBytes: Int
        var capacity: Int
        var entries: Int?
    }

    struct Entry: Encodable {
        var key: String
        var value: String
    }

    func run() throws {
        let datapath = try Datapath(try Instance(options.instance))
        guard let name else { return try list(datapath) }
        let entries: [Entry]
        switch name.hasPrefix("nd_") ? String(name.dropFirst(3)) : name {
        case "flows", "secured":
            entries = decode(name.hasSuffix("flows") ? datapath.flows : datapath.secured) { key, flow in
                ("\(key.key)", "flags \(Self.flags(flow.flags)) out \(flow.packets.0)+\(flow.packets.1) in \(flow.packets.2)+\(flow.packets.3) packets (clear+protected) epoch \(flow.epoch)/\(flow.epoch_in)")
            }
        case "peers":
            entries = decode(datapath.peers) { key, peer in
                ("\(key.key)", "\(ABILabels.peerState(peer.state)) changed \(peer.changed_at) secured \(peer.secured_at) until \(peer.secured_until == .max ? "now" : "\(peer.secured_until)") clear until \(peer.clear_until)")
            }
        case "local":
            entries = decode(datapath.local) { key, kind in
                ("\(key.address)", kind & ND_LOCAL_BROADCAST != 0 ? "broadcast" : "unicast")
            }
        case "fragments":
            entries = decode(datapath.fragments) { key, value in
                ("\(key.source.address) > \(key.destination.address) id \(key.id)", ["pass", "redirect", "drop"].indices.contains(Int(value.verdict)) ? ["pass", "redirect", "drop"][Int(value.verdict)] : "\(value.verdict)")
            }
        case "interfaces":
            entries = decode(datapath.interfaces) { index, value in
                let role = ["unknown", "protected", "guarded", "device"]
                return (
                    "\(index)",
                    "\(role.indices.contains(Int(value.role)) ? role[Int(value.role)] : "\(value.role)")\(value.flags & ND_INTERFACE_CLSACT != 0 ? " by clsact" : "")"
                )
            }
        case "protections":
            let names = Dictionary(datapath.machineNumbers().map { ($0.value, $0.key) }, uniquingKeysWith: { first, _ in first })
            entries = decode(datapath.protections) { key, value in
                let machine = names[UInt32(value.machine)].map { ", \($0) to filters" } ?? ""
                return (
                    "\(key.key)",
                    "SPI in 0x\(String(value.spi_in, radix: 16)) out 0x\(String(value.spi_out, radix: 16))\(value.in_udp != 0 ? " in UDP" : ""), identity of type \(value.identity_type), \(value.identity_length) bytes\(machine)"
                )
            }
        case "machines":
            entries = decode(datapath.machines) { machine, number in (machine.text, "\(number)") }
        case "state":
            entries = decode(datapath.state) { _, state in
                ("state", "epoch \(state.epoch) nd0 \(state.nd0) flags \(state.flags) mtu \(state.mtu) drop sample \(state.drop_sample)")
            }
        case "stats":
            let stats = datapath.stats()
            let drops = withUnsafeBytes(of: stats.drops) { Array($0.bindMemory(to: UInt64.self)) }
            let passes = withUnsafeBytes(of: stats.packets) { Array($0.bindMemory(to: UInt64.self)) }
            entries =
                zip(ABILabels.passKinds, passes).map { Entry(key: "packets \($0)", value: "\($1)") }
                + zip(ABILabels.dropReasons, drops).map { Entry(key: "drops \($0)", value: "\($1)") }
                + [
                    Entry(key: "upgrades", value: "\(stats.upgrades)"),
                    Entry(key: "events lost", value: "\(stats.events_lost)"),
                    Entry(key: "peers full", value: "\(stats.peers_full)"),
                    Entry(key: "secured full", value: "\(stats.secured_full)"),
                    Entry(key: "guarded", value: "\(stats.guarded)"),
                    Entry(key: "callouts asked", value: "\(stats.callouts_asked)"),
                    Entry(key: "callouts overridden", value: "\(stats.callouts_overridden)"),
                    Entry(key: "callouts missing", value: "\(stats.callouts_missing)"),
                ]
        case "policy", "policies":
            entries = try policy(datapath)
        default:
            throw NDError(
                "usage.map", "there is no map '\(name)'",
                hint: "flows, secured, peers, local, fragments, protections, machines, state, policy or stats")
        }
        if options.json {
            print(try JSONOutput.text("entries", entries))
            return
        }
        for entry in entries { print("\(entry.key)  \(entry.value)") }
        if entries.isEmpty { print("empty") }
    }

    private func list(_ datapath: Datapath) throws {
        let maps = datapath.describeMaps().map {
            Map(
                name: $0.name, type: $0.type, keyBytes: $0.keyBytes, valueBytes: $0.valueBytes,
                capacity: $0.capacity, entries: $0.entries)
        }
        if options.json {
            print(try JSONOutput.text("maps", maps))
            return
        }
        var table = TextTable([
            .init("MAP"), .init("TYPE"), .init("KEY", .right), .init("VALUE", .right), .init("ENTRIES", .right),
            .init("CAPACITY", .right), .init("FILL", .right),
        ])
        for map in maps {
            let fill = map.entries.map { map.capacity > 0 ? "\($0 * 100 / map.capacity)%" : "-" } ?? "-"
            table.add([
                map.name, map.type, "\(map.keyBytes)", "\(map.valueBytes)", map.entries.map { "\($0)" } ?? "-",
                "\(map.capacity)", fill,
            ])
        }
        print(table.text, terminator: "")
    }

    private func policy(_ datapath: Datapath) throws -> [Entry] {
        guard let image = try datapath.currentImage() else { return [] }
        if raw { return [Entry(key: "0", value: Self.hex(image.header))] }
        let filters = image.filters() ?? []
        let header = image.header
        return [
            Entry(
                key: "policy",
                value: "generation \(header.generation) filters \(filters.count) banks \(header.banks) overhead \(header.overhead_v4)/\(header.overhead_v6) bytes grace \(Span(nanoseconds: header.grace_ns))")
        ] + filters.map { Entry(key: "\($0.layer)_V\($0.family.rawValue) filter \($0.id)", value: $0.description) }
    }

    private func decode<K, V>(_ map: BPFMap<K, V>, _ body: (K, V) -> (String, String)) -> [Entry] {
        map.entries().map { key, value in
            if raw { return Entry(key: Self.hex(key), value: Self.hex(value)) }
            let (key, value) = body(key, value)
            return Entry(key: key, value: value)
        }.sorted { $0.key < $1.key }
    }

    private static func hex<T>(_ value: T) -> String {
        withUnsafeBytes(of: value) { $0.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined() }
    }

    private static func flags(_ flags: UInt32) -> String {
        let names: [(UInt32, String)] = [
            (ND_FLOW_SECURE, "secure"), (ND_FLOW_EXEMPT, "exempt"), (ND_FLOW_FIN_OUT, "fin-out"),
            (ND_FLOW_FIN_IN, "fin-in"), (ND_FLOW_RESET, "reset"), (ND_FLOW_TRIGGER, "trigger"),
            (ND_FLOW_CLEAR_REPLY, "clear-reply"), (ND_FLOW_ANSWER, "answer"), (ND_FLOW_ACCEPTED, "accepted"),
        ]
        let set = names.filter { flags & $0.0 != 0 }.map(\.1)
        return set.isEmpty ? "none" : set.joined(separator: ",")
    }
}

struct Monitor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Events as they happen: first packets, negotiations, SAs, every dropped packet. Ends with Ctrl-C.")
    @OptionGroup var options: GlobalOptions

    @Option(help: "Stop after so many events.")
    var count: Int?

    func run() throws {
        let instance = try Instance(options.instance)
        let client = try ControlClient(path: instance.controlSocket, instance: instance.name)
        client.setTimeout(seconds: 0)
        try client.send(ControlRequest(.monitor))
        var seen = 0
        while let answer = try client.next() {
            guard let event = answer.event else { continue }
            if options.json {
                print(try JSONOutput.text("event", event))
            } else {
                let ends = event.remote.map { "  \($0)" } ?? ""
                print("\(event.time)  \(event.kind)\(ends)  \(event.text)")
            }
            seen += 1
            if let count, seen >= count { return }
        }
        throw NDError("control.closed", "the daemon ended", hint: "see its log")
    }
}
