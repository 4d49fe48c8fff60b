import Foundation
import Glibc
import NDCore
import NDLab

/// What is wrong after a trial, worst first.
public enum Fault: String, Sendable, CaseIterable {
    /// A host sent a packet of a secured connection in clear, or an ICMP message that quotes one.
    case leak
    /// A program received what was forged, or its socket failed by it.
    case forged
    /// A secured connection was ended though both programs wanted it.
    case broken
    /// A secured connection does not go on though everything was put right.
    case stuck
    /// New connections are not secured though nothing happens.
    case unsecured
    /// A secured connection is not in the datapath's table.
    case unlisted
    /// The witness lost packets: nothing can be said.
    case blind
    /// The trial itself could not be played.
    case trouble
}

struct TrialResult: Sendable {
    var seed: UInt64
    var events: [(planned: PlannedEvent, began: Double, outcome: String)] = []
    var faults: [(Fault, String)] = []
    var leaks: [SentPacket] = []
    var packets: [SentPacket] = []
    var counts = [Int](repeating: 0, count: SentPacket.Kind.allCases.count)
    var secured = 0
    var seconds = 0.0
}

/// One seed's trial in a world that may have seen others.
struct Trial {
    let seed: UInt64
    let world: World
    private var dice: Dice
    private var talk: Talk { world.talk }
    private var pace: Double { world.options.pace }
    private let start = Instant.now()

    init(seed: UInt64, world: World) {
        self.seed = seed
        self.world = world
        dice = Dice(seed)
    }

    mutating func run() -> TrialResult {
        var result = TrialResult(seed: seed)
        do {
            try play(&result)
        } catch {
            result.faults.append((.trouble, "\(error)"))
        }
        let harvest = talk.harvest()
        result.packets = harvest.packets
        result.counts = harvest.counts
        result.leaks = harvest.leaks
        for leak in harvest.leaks.prefix(5) {
            result.faults.append((.leak, "\(world.host(leak.host).name) sent flow \(leak.flow ?? 0) in clear: \(leak.summary)"))
        }
        if harvest.lost > 0 { result.faults.append((.blind, "the capture lost \(harvest.lost) packets")) }
        accuse(&result)
        result.seconds = Instant.now().since(start).seconds
        return result
    }

    private mutating func play(_ result: inout TrialResult) throws {
        let before = talk.securedCount
        for _ in 0..<dice.within(2...4) {
            talk.open(client: dice.below(2), family: dice.pick(Lab.Family.allCases), tcp: dice.oneIn(2))
        }
        // A host learns by silence, after some 20 s, that its peer lost everything, and TCP asks ever more slowly.
        let unsecured = waitForAll(seconds: 60) { $0.securedAt == nil }
        result.secured = talk.securedCount - before
        if !unsecured.isEmpty {
            result.faults.append((.unsecured, unsecured.joined(separator: "; ")))
            return
        }
        checkList(dice.below(2), &result)
        try playEvents(&result)
        try world.restore()
        talk.buryVanished()
        let sent = talk.with { flows in Dictionary(uniqueKeysWithValues: flows.map { ($0.id, $0.sent) }) }
        let stuck = waitForAll(seconds: 40) { flow in
            guard flow.securedAt != nil, let then = sent[flow.id] else { return false }
            return zip(flow.received, then).contains { $0 <= $1 }
        }
        if !stuck.isEmpty { result.faults.append((.stuck, stuck.joined(separator: "; "))) }
        retireSome()
    }

    /// Until it holds for no open connection; the descriptions of those for which it still does.
    private func waitForAll(seconds: Double, _ isMissing: (Flow) -> Bool) -> [String] {
        let deadline = Instant.now().advanced(by: .seconds(seconds * pace))
        while true {
            let missing = talk.with { flows in
                flows.filter { $0.isOpen && isMissing($0) }.map { "flow \($0.id) \($0.key) sent \($0.sent) received \($0.received)" }
            }
            if missing.isEmpty || Instant.now() >= deadline { return missing }
            usleep(10_000)
        }
    }

    /// What the witness knows to be secured has to be in the datapath's own table.
    private func checkList(_ index: Int, _ result: inout TrialResult) {
        let secured = talk.with { flows in flows.filter { $0.isOpen && $0.securedAt != nil }.map { ($0.id, $0.key, $0.ends) } }
        guard let listed = world.listed(index) else {
            result.faults.append((.trouble, "\(world.host(index).name) does not list its connections"))
            return
        }
        for (id, key, ends) in secured {
            let own = ends[0] == index ? key : FlowKey(local: key.remote, remote: key.local, proto: key.proto)
            if !listed.contains(own) { result.faults.append((.unlisted, "\(world.host(index).name) has no flow \(id) \(own)")) }
        }
    }

    private func playEvents(_ result: inout TrialResult) throws {
        let events = PlannedEvent.draw(seed: seed, from: world.options.kinds, lifetime: world.plan.lifetime)
        var steps: [(at: Int, event: Int, ends: Bool)] = []
        for (index, event) in events.enumerated() {
            steps.append((event.at, index, false))
            steps.append((event.at + event.span, index, true))
        }
        steps.sort { ($0.at, $0.ends ? 1 : 0) < ($1.at, $1.ends ? 1 : 0) }
        let begun = Instant.now()
        for step in steps {
            let due = begun.advanced(by: .milliseconds(Double(step.at) * pace))
            while Instant.now() < due { usleep(2_000) }
            let event = events[step.event]
            if step.ends {
                try world.end(event)
            } else {
                let began = Instant.now().since(start).seconds
                result.events.append((event, began, try world.begin(event)))
            }
        }
        // Some of the traffic of a trial is after the last event.
        usleep(UInt32(60_000 * pace))
    }

    /// What the programs saw.
    private func accuse(_ result: inout TrialResult) {
        let grace = UInt64(world.plan.graceMilliseconds + 200) * 1_000_000
        talk.with { flows in
            for flow in flows {
                let name = "flow \(flow.id) \(flow.key)"
                if let since = flow.securedAt {
                    if flow.forgedAt.contains(where: { $0 > since + grace }) {
                        result.faults.append((.forged, "\(name) delivered what its peer did not send"))
                    }
                    if let broken = flow.broken, flow.state == .open { result.faults.append((.broken, "\(name): \(broken)")) }
                    if let refused = flow.refused { result.faults.append((.forged, "\(name): \(refused)")) }
                }
            }
        }
    }

    private mutating func retireSome() {
        let open = talk.open
        for (index, id) in open.enumerated() where index < open.count - 6 || dice.oneIn(3) { talk.retire(id) }
        // One that never came to be.
        for id in talk.with({ $0.filter { !$0.isOpen }.map(\.id) }) { talk.retire(id) }
    }
}
