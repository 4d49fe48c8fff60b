import CNDABI
import Foundation
import Glibc
import NDABI
import NDCore
import NDDatapath
import NDLab
import NDPolicy

/// What filters cost: the classifier alone, and packets of a host whose filters grow, beside nftables with
/// rules of the same meaning: block a pair of remote address and port.
struct FilterBenchmark {
    let runs: Int
    let progress: (String) -> Void

    static let sizes = [10, 1000, 10_000]
    private static let packets = 20_000

    func measure() throws -> [Figure] {
        progress("filters: the classifier alone")
        var figures = try classification()
        progress("filters: commits")
        figures += try commits()
        figures += try traffic()
        return figures
    }

    // MARK: sets

    /// The last filter is the scenario's, the others block pairs that no packet here has.
    private static func policy(_ count: Int, _ family: IPFamily = .v4) -> CompiledPolicy {
        let first: UInt128 = family == .v4 ? 0x0ac8_0000 : 0x2001_0db8 << 96
        let blocks = (0..<max(count - 1, 0)).map { index in
            let address = first + UInt128(index / 4), port = UInt128(1000 + index % 4 + index / 4 % 1000)
            return filter(index, count, family, [.remoteAddress: [address...address], .remotePort: [port...port], .proto: [17...17]], .block)
        }
        return CompiledPolicy(filters: blocks + [filter(count - 1, count, family, [:], .callout(.negotiateDiscover, context: 0))])
    }

    /// Ranges that lie across each other: every value of a field is in thousands of filters.
    private static func overlapping(_ count: Int) -> CompiledPolicy {
        CompiledPolicy(
            filters: (0..<count).map { index in
                let port = UInt128(index * 3), address = UInt128(index) << 16
                return filter(
                    index, count, .v4,
                    [.remotePort: [port...port + 20_000], .remoteAddress: [address...address + 0x1000_0000], .proto: [6...6, 17...17]],
                    index + 1 == count ? .permit : .block)
            })
    }

    private static func filter(
        _ index: Int, _ count: Int, _ family: IPFamily, _ fields: [PacketField: [ClosedRange<UInt128>]],
        _ verdict: RangeFilter.Verdict
    ) -> RangeFilter {
        RangeFilter(
            id: UInt64(index + 1), layer: .outboundTransport, family: family, sublayer: 0, weight: UInt64(count - index),
            fields: fields, verdict: verdict)
    }

    // MARK: the classifier alone

    private func classification() throws -> [Figure] {
        guard let local4 = IPAddress("10.79.0.1"), let remote4 = IPAddress("10.200.3.7"),
            let local6 = IPAddress("fd79::1"), let remote6 = IPAddress("2001:db8::55")
        else { throw NDError("bench.address", "bad address") }
        let probe = try FilterProbe()
        var question = nd_question()
        question.layer = DatapathLayer.outboundTransport.rawValue
        var sets: [(String, PolicyImage, nd_question)] = []
        for family in IPFamily.allCases {
            let (local, remote) = family == .v4 ? (local4, remote4) : (local6, remote6)
            question.key = nd_flow_key(FlowKey(local: Endpoint(local, 40_000), remote: Endpoint(remote, 999), proto: 17))
            question.family = family.rawValue
            for size in Self.sizes {
                sets.append(("classify, IPv\(family.rawValue), \(size) filters", try Self.policy(size, family).image(generation: 1), question))
            }
        }
        question.family = 4
        question.key = nd_flow_key(FlowKey(local: Endpoint(local4, 40_000), remote: Endpoint(remote4, 60_000), proto: 17))
        sets.append(("classify, IPv4, 10000 overlapping ranges", try Self.overlapping(10_000).image(generation: 1), question))
        var empty: [Double] = []
        var costs = [[Double]](repeating: [], count: sets.count)
        for _ in 0..<runs {
            try probe.commit(CompiledPolicy(filters: []).image(generation: 1))
            try probe.put([question])
            empty.append(try probe.run(1, repeats: 100_000).nanoseconds)
            for (index, set) in sets.enumerated() {
                try probe.commit(set.1)
                try probe.put([set.2])
                costs[index].append(try probe.run(1, repeats: 100_000).nanoseconds)
            }
        }
        let floor = Figure("", "", empty).median
        var figures: [Figure] = []
        for (index, set) in sets.enumerated() {
            let own = costs[index].map { max($0 - floor, 0) }
            figures.append(Figure(set.0, "ns", own))
        }
        for (small, large) in [(0, 2), (3, 5)] {
            let ratio = figures[large].median / max(figures[small].median, 1)
            figures[large].goal = "<= 2 x 10 filters: \((ratio * 100).rounded() / 100)"
            figures[large].reached = ratio <= 2
        }
        return figures
    }

    // MARK: commits

    private func commits() throws -> [Figure] {
        let probe = try FilterProbe()
        var figures: [Figure] = []
        for size in Self.sizes {
            let policy = Self.policy(size)
            let times = try (0..<max(runs, 3)).map { run in
                let begun = Instant.now()
                try probe.commit(policy.image(generation: UInt32(run)))
                return Double(Instant.now().nanoseconds - begun.nanoseconds) / 1e6
            }
            figures.append(Figure("commit of \(size) filters", "ms", times))
        }
        figures[figures.count - 1].goal = "<= 500 ms"
        figures[figures.count - 1].reached = figures[figures.count - 1].median <= 500
        return figures
    }

    // MARK: packets

    private struct Candidate {
        var name: String
        var isEstablished: Bool
        var prepare: () throws -> Void
        var times: [Double] = []
    }

    /// Datagrams that nobody takes; the cost is what they take more than without filters.
    private func traffic() throws -> [Figure] {
        let lab = try Lab(tag: "bf", hosts: ["alpha"])
        defer { lab.close() }
        let host = try lab.host("alpha")
        // The other end is nobody's: its stack drops what comes at once.
        for line in [
            "link add flt0 type veth peer name flt1", "link set flt1 up", "addr add 10.79.0.1/30 dev flt0", "link set flt0 up",
            "neigh add 10.79.0.2 lladdr 02:00:00:00:00:99 nud permanent dev flt0", "route add 10.79.0.0/16 via 10.79.0.2",
        ] {
            let output = try Shell.capture(["ip", "-n", host.namespace] + line.split(separator: " ").map(String.init))
            guard output.status == 0 else { throw NDError("bench.device", "can't make a device", context: output.text) }
        }
        let instance = try Instance(host.instance)
        func unload() { if instance.isLoaded { _ = try? Lab.inside(host.namespacePath) { _ = try Loader.unload(instance) } } }
        defer { unload() }
        func nft(_ ruleset: String) throws {
            _ = try Shell.capture(["ip", "netns", "exec", host.namespace, "nft", "flush", "ruleset"])
            guard !ruleset.isEmpty else { return }
            let file = "\(lab.directory)/nft"
            try ruleset.write(toFile: file, atomically: false, encoding: .utf8)
            let output = try Shell.capture(["ip", "netns", "exec", host.namespace, "nft", "-f", file])
            guard output.status == 0 else { throw NDError("bench.nft", "nft refused the ruleset", context: String(output.text.prefix(300))) }
        }
        func apply(_ size: Int) throws {
            try nft("")
            let image = try Self.policy(size).image(generation: 1)
            if instance.isLoaded { return try Datapath(instance).commit(image) }
            try Lab.inside(host.namespacePath) {
                var options = LoadOptions(interfaces: ["flt0"])
                options.flows = 1 << 20
                _ = try Loader.load(instance, policy: image, options: options)
            }
        }
        var candidates = [Candidate(name: "no filters", isEstablished: false) { try nft("") }, Candidate(name: "no filters", isEstablished: true) { try nft("") }]
        let hasNFT = try Shell.capture(["ip", "netns", "exec", host.namespace, "nft", "list", "ruleset"]).status == 0
        if hasNFT {
            for size in Self.sizes {
                candidates.append(Candidate(name: "nft, \(size) linear rules", isEstablished: true) { try nft(Self.linearRules(size)) })
            }
            candidates.append(Candidate(name: "nft, set of 10000", isEstablished: true) { try nft(Self.setRule(10_000)) })
        } else {
            progress("nft does not work here: left out")
        }
        // Whatever runs before a load must not meet its programs.
        let unloaded = candidates.count
        for size in Self.sizes {
            candidates.append(Candidate(name: "first packet, \(size) filters", isEstablished: false) { try apply(size) })
            candidates.append(Candidate(name: "established flow, \(size) filters", isEstablished: true) { try apply(size) })
        }
        var flows = 0
        for run in 1...runs {
            progress("filters: packets \(run)/\(runs)")
            unload()
            for index in candidates.indices {
                try candidates[index].prepare()
                let isEstablished = candidates[index].isEstablished
                let from = flows
                if !isEstablished { flows += Self.packets }
                candidates[index].times.append(
                    try Lab.inside(host.namespacePath) { try Self.send(isEstablished: isEstablished, from: from) })
            }
        }
        func base(_ isEstablished: Bool) -> Double {
            Figure("", "", candidates.first { $0.name == "no filters" && $0.isEstablished == isEstablished }?.times ?? []).median
        }
        let (fresh, same) = (base(false), base(true))
        var figures = candidates.dropFirst(2).map { candidate in
            Figure("added: \(candidate.name)", "ns", candidate.times.map { $0 - (candidate.isEstablished ? same : fresh) })
        }
        // The last six: first, established of each size.
        let own = unloaded - 2
        let firsts = [own, own + 2, own + 4], established = [own + 1, own + 3, own + 5]
        let (small, large) = (figures[firsts[0]].median, figures[firsts[2]].median)
        figures[firsts[2]].goal = "<= 2 x 10 filters: \(rounded(large / max(small, 1))); aim 400 ns"
        figures[firsts[2]].reached = large <= 2 * small
        let spread = figures[established[2]].median / max(figures[established[0]].median, 1)
        figures[established[2]].goal = "as with 10 filters: \(rounded(spread)); aim 120 ns"
        figures[established[2]].reached = spread <= 1.25
        return figures
    }

    private func rounded(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }

    /// Nanoseconds a datagram: all of one flow, or each of a flow of its own.
    private static func send(isEstablished: Bool, from: Int) throws -> Double {
        guard let local = IPAddress("10.79.0.1") else { throw NDError("bench.address", "bad address") }
        let socket = try NDLab.Traffic.openUDP(Endpoint(local, 40_000))
        defer { close(socket) }
        let targets = (0..<packets).map { index -> Endpoint in
            let number = isEstablished ? 0 : from + index
            // 50,000 ports an address.
            return Endpoint(IPAddress(fieldValue: 0x0a4f_0102 + UInt128(number / 50_000), .v4), UInt16(10_000 + number % 50_000))
        }
        let payload = [UInt8](repeating: 1, count: 64)
        NDLab.Traffic.sendUDP(socket, payload, to: targets[0])
        let begun = Instant.now()
        for target in targets { NDLab.Traffic.sendUDP(socket, payload, to: target) }
        return Double(Instant.now().nanoseconds - begun.nanoseconds) / Double(packets)
    }

    private static func pairs(_ count: Int) -> [(String, Int)] {
        (0..<count).map { index in
            ("\(IPAddress(fieldValue: 0x0ac8_0000 + UInt128(index / 4), .v4))", 1000 + index % 4 + index / 4 % 1000)
        }
    }

    private static func linearRules(_ count: Int) -> String {
        "table ip f {\n chain o {\n  type filter hook output priority 0\n"
            + pairs(count).map { "  ip daddr \($0.0) udp dport \($0.1) drop\n" }.joined() + " }\n}\n"
    }

    private static func setRule(_ count: Int) -> String {
        "table ip f {\n set s {\n  type ipv4_addr . inet_service\n  elements = { "
            + pairs(count).map { "\($0.0) . \($0.1)" }.joined(separator: ", ")
            + " }\n }\n chain o {\n  type filter hook output priority 0\n  ip protocol udp ip daddr . udp dport @s drop\n }\n}\n"
    }
}
