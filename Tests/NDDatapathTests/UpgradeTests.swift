import CLibbpf
import CNDABI
import CNDABI6
import CNDSystem
import Foundation
import NDABI
import NDCore
import Testing

@testable import NDDatapath

/// From pins as the version with ABI 6 left them (StateBefore), while packets of a secured flow are sent all the time.
/// The real version before takes part in ScenarioTests.UpgradeTests.
@Suite("Taking over the state of the version before", .serialized)
struct UpgradeTests {
    /// What has to be so after every upgrade, however it went.
    private func expectWhole(_ before: StateBefore, also more: [FlowKey] = []) throws {
        let instance = before.instance
        #expect(try before.inside { try Upgrade.due(instance) } == nil)
        let datapath = try Datapath(instance)
        for key in before.securedKeys + more {
            let flow = datapath.secured.lookup(nd_flow_key(key))
            #expect(flow?.flags ?? 0 & ND_FLOW_SECURE != 0, "\(key)")
        }
        #expect(datapath.secured.entries().count == before.securedKeys.count + more.count)
        let programs = try before.programs()
        #expect(programs.allSatisfy { $0.count == 1 }, "one program each way: \(programs)")
        let own = try PinnedPrograms(instance).ids
        #expect(programs[0].first == own["nd_ingress"] && programs[1].first == own["nd_egress"])
        let rest = try before.trace().filter { $0.contains("+") }
        #expect(rest == [])
        #expect(LoadRecord.read(instance)?.attachments.filter { $0.role == .protected }.count == 2)
        #expect(before.leaked == 0, "of \(before.packetsSent)")
    }

    @Test("Flows, peers and machines are carried over, and tables keep their size", arguments: [false, true])
    func carries(clsact: Bool) throws {
        let before = try StateBefore(clsact: clsact)
        defer { before.close() }
        let instance = before.instance
        #expect(try before.inside { try Upgrade.due(instance) } == .version(6))
        let record = try before.upgrade()
        #expect(record.tookOver == TakenOver(abi: 6, securedFlows: 100, clearFlows: 20, peers: 6))
        try expectWhole(before)
        let datapath = try Datapath(instance)
        #expect(datapath.secured.capacity == Int(StateBefore.flowRoom) && datapath.peers.capacity == Int(StateBefore.peerRoom))
        let flow = try #require(datapath.secured.lookup(nd_flow_key(before.securedKeys[4])))
        #expect(flow.secured_at != 0 && flow.protected_rx_at != 0 && flow.first_seen < flow.last_seen)
        #expect(flow.packets == (4, 5, 6, 7) && flow.bytes.0 == 104)
        #expect(flow.epoch == 0 && flow.epoch_in == 0, "no verdict of another policy")
        #expect(flow.flags == ND_FLOW_SECURE | ND_FLOW_TRIGGER, "what clear packets could forge ends no connection")
        for key in before.clearKeys {
            let flow = try #require(datapath.flows.lookup(nd_flow_key(key)))
            #expect(flow.flags & ND_FLOW_SECURE == 0)
        }
        for (number, key) in before.peerKeys.enumerated() {
            let mine = nd_peer_key(
                local: nd_addr(IPAddress(high: UInt64(bigEndian: key.local.quads.0), low: UInt64(bigEndian: key.local.quads.1))),
                remote: nd_addr(IPAddress(high: UInt64(bigEndian: key.remote.quads.0), low: UInt64(bigEndian: key.remote.quads.1))),
                context: key.context, zero: 0)
            let peer = try #require(datapath.peers.lookup(mine))
            // Packets that wait ask for the lost one.
            let states = [[ND_PEER_LOST, ND_PEER_NEGOTIATING], [ND_PEER_SECURED], [ND_PEER_CLEAR]][number % 3]
            #expect(states.map(\.rawValue).contains(peer.state))
            #expect(peer.flags == key.context & 3 && (peer.secured_until != 0) == (number % 3 < 2))
            #expect(datapath.protections.lookup(mine)?.machine == 7)
        }
        #expect(datapath.machineNumbers() == ["a": 7])
        #expect(datapath.local.lookup(nd_addr(StateBefore.addresses[0].local)) != nil)
        #expect(datapath.state.lookup(0)?.nd0 == 0, "its device is not there")
        if clsact {
            #expect(record.attachments.allSatisfy { $0.kind == "clsact" } && record.attachments.contains { $0.madeQdisc })
            _ = try before.inside { try Loader.unload(instance) }
            #expect(try before.programs() == [[], []])
            #expect(try before.inside { nd_clsact_remove_qdisc(Int32(if_nametoindex("eth0"))) } != 0, "the qdisc went too")
        }
    }

    @Test("Killed after any step, the next upgrade ends it; no packet of a secured flow leaves meanwhile", arguments: [false, true], Upgrade.Step.allCases)
    func killed(clsact: Bool, step: Upgrade.Step) throws {
        let before = try StateBefore(clsact: clsact, secured: 20)
        defer { before.close() }
        try before.killed(after: step)
        #expect(try before.programs().allSatisfy { !$0.isEmpty })
        let sent = before.packetsSent
        usleep(30_000)
        #expect(before.packetsSent > sent && before.leaked == 0)
        let instance = before.instance
        #expect(try before.inside { try Upgrade.due(instance) } != nil || step == .cleared)
        // And once more, on the way of the second.
        try before.killed(after: .exchanged)
        try before.upgrade()
        try expectWhole(before)
    }

    @Test("What the old programs still secure is known in the end", arguments: [Upgrade.Step.filled, .ready, .switched, .merged, .exchanged, .takenOff])
    func late(step: Upgrade.Step) throws {
        let before = try StateBefore(secured: 20)
        defer { before.close() }
        let late = Shared<FlowKey>()
        let instance = before.instance
        let record = try before.inside {
            try Upgrade.advance(instance, options: StateBefore.options, commit: StateBefore.commit) { reached in
                if reached == step { late.value = try before.addSecured(port: 40_000) }
            }
        }
        #expect(record.build == BuildMark.own)
        try expectWhole(before, also: [try #require(late.value)])
    }

    @Test("The state of another build with the same ABI is taken over as well")
    func build() throws {
        let before = try StateBefore(secured: 20)
        defer { before.close() }
        let instance = before.instance
        try before.upgrade()
        let datapath = try Datapath(instance)
        let key = nd_flow_key(before.securedKeys[0])
        var flow = try #require(datapath.secured.lookup(key))
        flow.protected_rx_at = 77
        flow.flags |= ND_FLOW_FIN_IN
        try datapath.secured.update(key, flow)
        try instance.writeMark("build", "build-another")
        #expect(try before.inside { try Upgrade.due(instance) } == .build)
        try before.upgrade()
        try expectWhole(before)
        let now = try Datapath(instance)
        let carried = try #require(now.secured.lookup(key))
        #expect(carried.protected_rx_at == 77 && carried.flags == flow.flags)
    }

    @Test("An upgrade that another build left half-way is none of its own: what that knew is kept")
    func otherBuild() throws {
        let before = try StateBefore(secured: 20)
        defer { before.close() }
        try before.killed(after: .switched)
        let next = before.instance.beside("+next")
        try next.writeMark("build", "build-another")
        let key = FlowKey(local: Endpoint(StateBefore.addresses[0].local, 41_000), remote: Endpoint(StateBefore.addresses[0].remote, 9), proto: IPProtocol.tcp)
        let datapath = try Datapath(next)
        var flow = try #require(datapath.secured.entries().first?.value)
        flow.first_seen += 1
        try datapath.secured.update(nd_flow_key(key), flow)
        try before.upgrade()
        try expectWhole(before, also: [key])
    }

    // MARK: refused

    private func expectRefusal(_ before: StateBefore, _ code: String, _ options: LoadOptions = StateBefore.options) throws {
        let trace = try before.trace()
        do {
            try before.upgrade(options)
            Issue.record("it was not refused")
        } catch let error as NDError {
            #expect(error.code == code, "\(error)")
            #expect("\(error)".contains("othing was changed") || code.hasPrefix("instance."), "\(error)")
        }
        #expect(try before.trace() == trace)
        usleep(20_000)
        #expect(before.leaked == 0)
    }

    @Test("An ABI that is not known is refused, and nothing is changed")
    func unknown() throws {
        let before = try StateBefore(abi: 99, secured: 20)
        defer { before.close() }
        try expectRefusal(before, "upgrade.unknown-abi")
        let instance = before.instance
        #expect(throws: NDError.self) { try before.inside { try Loader.openConnections(instance) } }
    }

    @Test("A table that can't be read, or is of another form, is refused, and nothing is changed")
    func unreadable() throws {
        let before = try StateBefore(secured: 20)
        defer { before.close() }
        unlink(before.instance.mapPin("nd_protections"))
        try expectRefusal(before, "instance.open")
        var options = bpf_map_create_opts()
        options.sz = MemoryLayout<bpf_map_create_opts>.size
        let fd = bpf_map_create(BPF_MAP_TYPE_HASH, "nd_protections", 4, 4, 4, &options)
        defer { close(fd) }
        try #require(bpf_obj_pin(fd, before.instance.mapPin("nd_protections")) == 0)
        try expectRefusal(before, "instance.abi")
    }

    @Test("A policy that fails, or leaves a protected interface out, is refused, and nothing is changed")
    func policy() throws {
        let before = try StateBefore(secured: 20)
        defer { before.close() }
        var options = StateBefore.options
        options.interfaces = ["other*"]
        try expectRefusal(before, "upgrade.interfaces", options)
        let trace = try before.trace()
        let instance = before.instance
        #expect(throws: StateBefore.Killed.self) {
            try before.inside { _ = try Upgrade.run(instance, options: StateBefore.options) { _ in throw StateBefore.Killed() } }
        }
        #expect(try before.trace() == trace)
        // In a namespace that has none of its programs.
        let stranger = try StateBefore(secured: 2)
        defer { stranger.close() }
        #expect(throws: NDError.self) { try stranger.inside { try Upgrade.run(instance, options: StateBefore.options, commit: StateBefore.commit) } }
        #expect(try before.trace() == trace)
    }

    @Test("Commands of this version say what to do with a state of the version before: load, not unload")
    func advice() throws {
        let before = try StateBefore(secured: 2)
        defer { before.close() }
        let error = try #require(throws: NDError.self) { try Datapath(before.instance) }
        #expect(error.code == "instance.abi" && error.hint?.contains("`ndbpf load`") == true && error.hint?.contains("unload") == false, "\(error)")
    }
}

final class Shared<Value>: @unchecked Sendable { var value: Value? }
