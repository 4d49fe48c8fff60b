import NDCore

/// What ndbpf costs traffic that stays in clear: two veth pairs, one of them with ndbpf on one side and a plain host on
/// the other, each measured in turns.
public struct PairBenchmark {
    private static let connects = 400
    private static let seconds = 0.25

    private let pairs: Int
    private let progress: (String) -> Void

    /// Fewer than 25 pairs say little.
    public init(pairs: Int, progress: @escaping (String) -> Void) {
        self.pairs = max(pairs, 25)
        self.progress = progress
    }

    public func run() throws -> [Figure] {
        progress("hosts and a daemon")
        let plain = try Lab(tag: "p0", hosts: ["alpha", "gamma"], direct: true)
        defer { plain.close() }
        let guarded = try Lab(tag: "p1", hosts: ["alpha", "gamma"], direct: true)
        defer { guarded.close() }
        let policy = Scenarios.policy("negotiation-discovery", key: try guarded.writeKey(), metrics: "none")
        try guarded.startDaemon(try guarded.host("alpha"), policy: policy)
        return try Lab.Family.allCases.flatMap { try run(plain: plain, guarded: guarded, $0) }
    }

    private func run(plain: Lab, guarded: Lab, _ family: Lab.Family) throws -> [Figure] {
        let name = family == .ipv4 ? "IPv4" : "IPv6"
        let transfers = try [plain, guarded].map {
            try TransferWork($0, from: try $0.host("alpha"), to: try $0.host("gamma"), family)
        }
        let connects = try [plain, guarded].map { ($0, try ConnectWork($0, to: try $0.host("gamma"), family)) }
        // The negotiation that nobody answers, neighbour look-ups and windows are not what is measured.
        for transfer in transfers { _ = try transfer.slice(seconds: Self.seconds) }
        for (lab, work) in connects { _ = try work.slice(from: try lab.host("alpha"), connects: Self.connects) }
        var throughput = Pairs(), times = Pairs()
        for pair in 1...pairs {
            progress("pairs of clear paths, \(name) \(pair)/\(pairs)")
            try throughput.add(
                plain: { try transfers[0].slice(seconds: Self.seconds) },
                guarded: { try transfers[1].slice(seconds: Self.seconds) })
            try times.add(
                plain: { try connects[0].1.slice(from: try plain.host("alpha"), connects: Self.connects) },
                guarded: { try connects[1].1.slice(from: try guarded.host("alpha"), connects: Self.connects) })
        }
        var clear = Figure("TCP throughput in pairs, clear through ndbpf, \(name)", "Gbit/s", throughput.guarded)
        clear.hold(throughput.median, atLeast: 0.97, "plain")
        var connect = Figure("connect() in pairs, clear through ndbpf, \(name)", "us", times.guarded)
        connect.hold(times.median, atMost: 1.05, "plain")
        return [
            Figure("TCP throughput in pairs, plain veth, \(name)", "Gbit/s", throughput.plain), clear,
            Figure("connect() in pairs, plain veth, \(name)", "us", times.plain), connect,
        ]
    }
}
