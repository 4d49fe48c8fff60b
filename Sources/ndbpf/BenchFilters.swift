import CNDABI
import Foundation
import Glibc
import NDABI
import NDCore
import NDDatapath
import NDLab
import NDPolicy

/// What filters cost: the classifier alone, commits, and packets at TC egress, beside nftables with
/// rules of the same meaning: block a pair of remote address and port.
struct FilterBenchmark {
    let runs: Int
    let progress: (String) -> Void

    static let sizes = [10, 1000, 10_000]
    private static let datagrams = 20_000

    func measure() throws -> [Figure] {
        progress("filters: the classifier alone")
        var figures = try classification()
        progress("filters: commits")
        figures += try commits()
        progress("filters: packets")
        figures += try packets()
        figures += try nftables()
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
        question.outbound = 1
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
            figures[large].hold(figures[large].median / max(figures[small].median, 1), atMost: 2, "10 filters")
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
        figures[figures.count - 1].limit = "<= 500 ms"
        figures[figures.count - 1].met = figures[figures.count - 1].median <= 500
        return figures
    }

    // MARK: packets

    /// The whole of TC egress: each packet the first of its flow, or all of one flow.
    private func packets() throws -> [Figure] {
        let images = try Self.sizes.map { try Self.policy($0).image(generation: 1) }
        let host = try MeasuredHost(.v4, flows: 4096)
        var firsts = [[Double]](repeating: [], count: images.count), established = firsts
        for _ in 0..<runs {
            for (index, image) in images.enumerated() {
                try host.commit(image)
                firsts[index].append(try host.firstOut())
                established[index].append(try host.establishedOut())
            }
        }
        var figures: [Figure] = []
        for (values, name, most) in [
            (firsts, "first packet, over an empty program", 2.0), (established, "established flow", 1.15),
        ] {
            var rows = Self.sizes.enumerated().map { Figure("\(name), \($1) filters", "ns", values[$0]) }
            rows[rows.count - 1].hold(rows[rows.count - 1].median / max(rows[0].median, 1), atMost: most, "10 filters")
            figures += rows
        }
        return figures
    }

    /// What nftables adds to a datagram that leaves, with rules of the same meaning that don't match it. A
    /// last rule drops it before the device, so that nothing else is measured.
    private func nftables() throws -> [Figure] {
        let lab = try Lab(tag: "bf", hosts: ["alpha"])
        defer { lab.close() }
        let host = try lab.host("alpha")
        func nft(_ rules: String) throws {
            _ = try Shell.capture(["ip", "netns", "exec", host.namespace, "nft", "flush", "ruleset"])
            let file = "\(lab.directory)/nft"
            let last = "table ip l {\n chain p {\n  type filter hook postrouting priority 300\n  ip protocol udp drop\n }\n}\n"
            try (rules + last).write(toFile: file, atomically: false, encoding: .utf8)
            let output = try Shell.capture(["ip", "netns", "exec", host.namespace, "nft", "-f", file])
            guard output.status == 0 else { throw NDError("bench.nft", "nft refused the rules", context: String(output.text.prefix(300))) }
        }
        guard try Shell.capture(["ip", "netns", "exec", host.namespace, "nft", "list", "ruleset"]).status == 0 else {
            progress("nft does not work here: left out")
            return []
        }
        let candidates = [("", "")] + Self.sizes.map { ("nft, \($0) linear rules", Self.linearRules($0)) }
            + [("nft, a set of 10000", Self.setRule(10_000))]
        var times = [[Double]](repeating: [], count: candidates.count)
        for run in 1...runs {
            progress("filters: nftables \(run)/\(runs)")
            for (index, candidate) in candidates.enumerated() {
                try nft(candidate.1)
                let (local, remote) = (host.ipv4, Endpoint(IPAddress(fieldValue: 0x0a4d_0009, .v4), 9))
                times[index].append(try lab.inside(host) { try Self.send(from: local, to: remote) })
            }
        }
        let base = Figure("", "", times[0]).median
        return zip(candidates, times).dropFirst().map { Figure($0.0, "ns", $1.map { $0 - base }) }
    }

    /// Nanoseconds a datagram.
    private static func send(from: IPAddress, to: Endpoint) throws -> Double {
        let socket = try NDLab.Traffic.openUDP(Endpoint(from, 40_000))
        defer { close(socket) }
        let payload = [UInt8](repeating: 1, count: 64)
        for _ in 0..<100 { NDLab.Traffic.sendUDP(socket, payload, to: to) }
        let begun = Instant.now()
        for _ in 0..<datagrams { NDLab.Traffic.sendUDP(socket, payload, to: to) }
        return Double(Instant.now().nanoseconds - begun.nanoseconds) / Double(datagrams)
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
