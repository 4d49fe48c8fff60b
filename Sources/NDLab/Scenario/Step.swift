import NDCore

/// One thing that a scenario does or claims.
public struct Step: Sendable {
    public var action: Action
    /// What it shows. A step without a claim must just work.
    public var claim: String?
    /// file:line, for what goes wrong.
    public var place: String

    /// Itself, or in what it repeats.
    var claimsSomething: Bool {
        switch action {
        case .together(let parts): parts.contains { $0.contains(where: \.claimsSomething) }
        case .again(let again): again.steps.contains(where: \.claimsSomething)
        default: claim != nil
        }
    }

    public indirect enum Action: Sendable {
        case capture(on: String, name: String)
        /// Forgets what a capture has seen so far.
        case forget(capture: String)
        case connect(Connect)
        case echo(Echo)
        case close(connection: String)
        case transfer(Transfer)
        case datagram(Datagram)
        case scatter(Scatter)
        case ping(from: String, to: String, count: Int)
        case forge(Forge)
        case daemon(host: String, DaemonAction)
        case command(Command)
        case metrics(on: String, contains: [String], show: [String])
        case compareConnects(CompareConnects)
        case wait(Span)
        case together([[Step]])
        case again(Again)
        case packets(PacketExpectation)
        case drops(on: String, reason: String, count: CountRange)
    }

    public enum DaemonAction: String, Sendable, CaseIterable { case start, stop, kill, unload }

    public struct Connect: Sendable {
        public var from: String
        public var to: String
        public var name: String
        public var timeout: Span
        /// Longer than this breaks the claim.
        public var within: Span?
        /// It must not be answered.
        public var refused: Bool
    }

    public struct Echo: Sendable {
        public var connection: String
        public var text: String?
        public var times: Int
        public var within: Span
        public var answered: Bool
    }

    /// Checkable bytes into a sink.
    public struct Transfer: Sendable {
        public var from: String
        public var to: String
        public var name: String
        public var megabytes: Int
        public var longestStall: Span?
    }

    /// Datagrams to an echo server, one after the other.
    public struct Datagram: Sendable {
        public var from: String
        public var to: String
        public var sizes: [Int]
        /// One of these bytes instead, and what comes back, if not the same.
        public var text: String?
        public var back: String?
        public var timeout: Span
        public var answered: Bool
        /// 0: another one each time.
        public var sourcePort: UInt16
    }

    /// Datagrams that nobody answers.
    public struct Scatter: Sendable {
        public var from: String
        public var to: [IPAddress]
        public var port: UInt16
        public var sourcePort: UInt16
    }

    /// A TCP segment that claims to be of a connection, towards the end that opened it.
    public struct Forge: Sendable {
        public var from: String
        public var into: String
        /// The source port of another connection between the two hosts; nil: this one's.
        public var port: UInt16?
        public var flags: UInt8
        public var payload: String
    }

    /// An `ndbpf` command, or a shell's, in a host.
    public struct Command: Sendable {
        public var on: String
        public var ndbpf: Bool
        public var text: String
        public var status: Int
        public var contains: [String]
        /// A value in the command's JSON.
        public var finds: JSONExpectation?
    }

    public struct JSONExpectation: Sendable {
        /// Keys with dots between; `*` is any item of a list.
        public var path: String
        public var oneOf: [String]
        public var range: CountRange?
    }

    /// Connects of a host with ndbpf beside those of a plain one, in interleaved pairs. The ratio is told; what fails
    /// is a lower quartile of the pairs above `broken`: so slow that no noise of the machine explains it.
    public struct CompareConnects: Sendable {
        public var guarded: String
        public var plain: String
        public var to: String
        public var broken: Double
        public var pairs: Int
        public var samples: Int
    }

    public struct Again: Sendable {
        /// Whichever comes first.
        public var times: Int
        public var duration: Span?
        public var every: Span
        public var steps: [Step]
    }
}

/// How many there may be: `3`, `2..3`, `8..`, `..5`.
public struct CountRange: Sendable, Hashable, CustomStringConvertible {
    public var least: Int
    public var most: Int?

    public init(_ least: Int, _ most: Int?) {
        self.least = least
        self.most = most
    }

    public init?(_ text: String) {
        guard let dots = text.range(of: "..") else {
            guard let count = Int(text), count >= 0 else { return nil }
            self.init(count, count)
            return
        }
        let (low, high) = (text[..<dots.lowerBound], text[dots.upperBound...])
        guard !(low.isEmpty && high.isEmpty), low.isEmpty || Int(low) != nil, high.isEmpty || Int(high) != nil else {
            return nil
        }
        let least = Int(low) ?? 0
        let most = Int(high)
        guard least >= 0, most.map({ $0 >= least }) ?? true else { return nil }
        self.init(least, most)
    }

    public func contains(_ count: Int) -> Bool { count >= least && most.map { count <= $0 } ?? true }

    public var description: String {
        guard let most else { return "at least \(least)" }
        return least == most ? "\(least)" : least == 0 ? "at most \(most)" : "\(least) to \(most)"
    }
}
