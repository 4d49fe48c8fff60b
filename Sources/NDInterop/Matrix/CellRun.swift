import Foundation
import Glibc
import NDCore
import NDLab

/// Walks one cell: negotiate, talk, rekey from both sides, delete, and look at the wire.
struct CellRun {
    let stage: InteropStage
    let cell: InteropCell
    let peer: any InteropPeer
    let connection: PeerConnection
    private(set) var result: CellResult
    private(set) var keys: [KernelState] = []

    private var alpha: IPAddress { connection.remote }
    private var beta: IPAddress { connection.local }

    init(_ stage: InteropStage, _ cell: InteropCell) throws {
        self.stage = stage
        self.cell = cell
        peer = try stage.peer(cell.peer)
        connection = PeerConnection(
            local: peer.host.address(cell.family), remote: stage.alpha.address(cell.family), suite: cell.suite,
            secret: stage.secret,
            // libreswan's trap policy lets clear packets in and then initiates for the answer: with it the
            // peer would start, not ndbpf.
            requiresIPsec: cell.peer == .strongSwan || cell.role == .peer)
        result = CellResult(
            name: cell.name, peer: cell.peer, role: cell.role, suite: "\(cell.suite)", family: cell.family.rawValue,
            encapsulation: cell.encapsulation)
    }

    mutating func run() {
        let daemonMark = stage.daemonLog.utf8.count
        let peerMark = peer.log.utf8.count
        let began = Traffic.now()
        var open: Traffic.Connection?
        _ = step(.negotiation) { run in
            try run.peer.load(run.connection)
            if run.cell.role == .peer { try run.peer.initiate(run.connection) }
            let opened = try run.connect()
            open = opened
            run.result.connectMilliseconds = opened.milliseconds
            try run.checkRole()
        }
        if let open {
            step(.echo) { try $0.echo(open) }
            step(.rekeyByNDBPF) { try $0.rekey(open) { try $0.stage.control.rekey($0.beta) } }
            step(.rekeyByPeer) { try $0.rekey(open) { try $0.peer.rekeyIPsec($0.connection) } }
            step(.delete) { run in
                try open.finish()
                try run.delete()
            }
        }
        open?.close()
        step(.wire) { try $0.inspect(since: began, flow: open?.flow) }
        clean()
        if !result.failures.isEmpty {
            stage.keep("\(cell.name) ndbpf.log", String(decoding: stage.daemonLog.utf8.dropFirst(daemonMark), as: UTF8.self))
            stage.keep("\(cell.name) peer.log", String(decoding: peer.log.utf8.dropFirst(peerMark), as: UTF8.self))
        }
    }

    @discardableResult
    private mutating func step(_ step: CellResult.Step, _ body: (inout CellRun) throws -> Void) -> Bool {
        do {
            try body(&self)
            result.steps[step.rawValue] = .passed
            return true
        } catch {
            result.steps[step.rawValue] = .failed("\(error)")
            keepStates(step)
            return false
        }
    }

    /// Both kernels' SAs at the moment of a failure.
    private func keepStates(_ step: CellResult.Step) {
        for host in [stage.alpha, peer.host] {
            guard let output = try? Shell.capture(["ip", "-n", host.namespace, "-s", "xfrm", "state"]) else { continue }
            // Keys of a lab are no secret, but a log is no place for keys.
            let lines = output.text.split(separator: "\n").filter { !["aead", "enc", "auth-trunc"].contains($0.split(separator: " ").first?.trimmingCharacters(in: .whitespaces)) }
            stage.keep("\(cell.name) \(step.rawValue) \(host.name) states.log", lines.joined(separator: "\n"))
        }
    }

    private func connect() throws -> Traffic.Connection {
        let ours = cell.role == .ndbpf
        let source = ours ? alpha : beta
        let target = Endpoint(ours ? beta : alpha, Servers.echoPort)
        return try stage.lab.inside(ours ? stage.alpha : peer.host) {
            try Traffic.connectTCP(from: source, to: target, timeoutSeconds: 15)
        }
    }

    /// The upgrade of a connection that began in clear may still be on its way.
    private func checkRole() throws {
        let run = self
        try Wait.until("an SA at ndbpf", seconds: 10) {
            try run.stage.control.securityAssociations(with: run.beta).contains { $0.direction == "out" && $0.active }
        }
        let wanted = cell.role == .ndbpf ? "initiator" : "responder"
        let roles = Set(try stage.control.securityAssociations(with: beta).compactMap(\.role))
        // A SYN that arrives between the two halves of strongSwan's installation makes its kernel ask for
        // SAs for the answer: then there is a second pair, of the other role.
        guard roles.contains(wanted) else {
            throw NDError("interop.role", "ndbpf is \(roles.sorted().joined(separator: " and ")), not \(wanted)")
        }
    }

    /// Both ways, more than a segment.
    private mutating func echo(_ open: Traffic.Connection) throws {
        try Traffic.echo(open, (0..<4096).map { UInt8(truncatingIfNeeded: $0) })
        try remember()
    }

    private mutating func remember() throws {
        let own = try states()
        guard let first = own.first else { throw NDError("interop.states", "the peer's kernel has no SA") }
        guard own.allSatisfy({ $0.mode == "transport" }) else { throw NDError("interop.mode", "not in transport mode") }
        guard first.inUDP == (cell.encapsulation == .udp) else {
            throw NDError("interop.encapsulation", "ESP is \(first.inUDP ? "" : "not ")in UDP")
        }
        keys += own
    }

    private func states() throws -> [KernelState] {
        try KernelState.all(peer.host).filter {
            Set([$0.source, $0.destination]) == Set(["\(alpha)", "\(beta)"])
        }
    }

    /// A new pair appears in the peer's kernel and ndbpf moves the open connection on to it. A kernel
    /// takes the state of the latest second: of two made in one second either. So each has its own.
    private mutating func rekey(_ open: Traffic.Connection, _ start: (CellRun) throws -> Void) throws {
        let before = Set(try states().map(\.spi))
        let run = self
        let second = time(nil)
        try Wait.until("the next second", seconds: 2, every: 20_000) { time(nil) != second }
        try start(run)
        try Wait.until("two new SAs in the peer's kernel", seconds: 20, every: 50_000) {
            try run.states().filter { !before.contains($0.spi) }.count >= 2
        }
        try remember()
        let fresh = Set(try states().map(\.spi)).subtracting(before)
        let mark = try watch().count
        // What is on the way may still use the old pair: a few round trips.
        try Wait.until("ESP of the new pair", seconds: 10) {
            try Traffic.echo(open)
            return try run.watch().dropFirst(mark).contains { packet in
                packet.source == run.alpha && (packet.spi.map(fresh.contains) ?? false)
            }
        }
    }

    /// By the side that started; the other one must let go too. libreswan negotiates anew at once when
    /// it was ever told to initiate, so it is the old SAs that must be gone.
    private mutating func delete() throws {
        let run = self
        let before = Set(try states().map(\.spi))
        if cell.role == .ndbpf { try stage.control.delete(beta) } else { try peer.terminate(connection) }
        try Wait.until("the old SAs gone from the peer's kernel", seconds: 10, every: 50_000) {
            before.isDisjoint(with: try run.states().map(\.spi))
        }
        try Wait.until("the old SAs gone from ndbpf", seconds: 10) {
            try run.stage.control.securityAssociations(with: run.beta).allSatisfy { sa in
                !before.contains { sa.spi == Self.hex($0) }
            }
        }
    }

    private static func hex(_ spi: UInt32) -> String {
        let text = String(spi, radix: 16)
        return "0x" + String(repeating: "0", count: 8 - text.count) + text
    }

    private func watch() throws -> [WirePacket] {
        guard let capture = stage.captures[cell.peer] else { throw NDError("interop.capture", "no capture") }
        return capture.snapshot().filter { $0.isBetween(alpha, beta) }
    }

    private mutating func inspect(since began: UInt64, flow: FlowKey?) throws {
        let packets = try watch().filter { $0.time >= began }
        for spi in packets.compactMap(\.spi) { result.spis[spi, default: 0] += 1 }
        result.espPackets = result.spis.values.reduce(0, +)
        result.fragments = packets.count { $0.kind == .esp && $0.isLaterFragment }
        guard let flow, let first = packets.first(where: { $0.kind == .esp })?.time else {
            throw NDError("interop.wire", "no ESP on the wire")
        }
        // ndbpf's own: a peer that was not told to require IPsec sends in clear until its outbound SA is in place.
        result.clearAfterUpgrade =
            packets.filter { $0.time > first && $0.kind == .clear && $0.belongs(to: flow) && $0.source == alpha }.count
        // Towards a peer that requires IPsec nothing but the SYN that asked for it was ever in clear.
        let early = packets.contains { $0.kind == .clear && $0.belongs(to: flow) && !$0.isSYN }
        guard result.clearAfterUpgrade == 0, !(early && connection.requiresIPsec) else {
            throw NDError("interop.wire", "\(result.clearAfterUpgrade) packets of ndbpf's in clear after the upgrade")
        }
        let used = Set(packets.compactMap(\.spi))
        let known = Set(keys.map(\.spi))
        guard used.isSubset(of: known) else {
            throw NDError("interop.wire", "ESP with SPIs that the peer's kernel never had")
        }
    }

    /// The next cell starts from nothing, whatever became of this one.
    private func clean() {
        // The peer first, or it would negotiate anew.
        try? peer.unload(connection)
        try? stage.control.delete(beta)
        if let left = try? states(), !left.isEmpty {
            _ = try? Shell.run("ip", "-n", peer.host.namespace, "xfrm", "state", "flush")
        }
    }
}

extension Traffic.Connection {
    /// Both sides have closed and know it: a FIN that finds no SA would start a negotiation at a peer
    /// with a trap policy.
    func finish() throws {
        shutdown(descriptor, Int32(SHUT_WR))
        var byte: UInt8 = 0
        guard recv(descriptor, &byte, 1, 0) == 0 else {
            throw NDError("interop.close", "the connection did not end in order: \(String(cString: strerror(errno)))")
        }
    }
}
