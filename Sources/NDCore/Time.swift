/// A point on CLOCK_MONOTONIC in nanoseconds: the clock of bpf_ktime_get_ns, so instants from
/// BPF and from the daemon compare.
public struct Instant: Hashable, Sendable, Comparable {
    public var nanoseconds: UInt64

    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Saturates instead of trapping: configured durations come from outside.
    public func advanced(by span: Span) -> Instant {
        let (sum, overflow) = nanoseconds.addingReportingOverflow(span.nanoseconds)
        return Instant(nanoseconds: overflow ? .max : sum)
    }

    /// Zero when `earlier` is in fact later.
    public func since(_ earlier: Instant) -> Span {
        Span(nanoseconds: nanoseconds > earlier.nanoseconds ? nanoseconds - earlier.nanoseconds : 0)
    }
}

/// A non-negative length of time.
public struct Span: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var nanoseconds: UInt64

    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    public static func seconds(_ n: Double) -> Span {
        guard n.isFinite, n > 0 else { return Span(nanoseconds: 0) }
        return Span(nanoseconds: n >= 1.8e10 ? .max : UInt64(n * 1e9))
    }

    public static func milliseconds(_ n: Double) -> Span { seconds(n / 1000) }

    public var seconds: Double { Double(nanoseconds) / 1e9 }
    public var milliseconds: Double { Double(nanoseconds) / 1e6 }

    public static func < (a: Span, b: Span) -> Bool { a.nanoseconds < b.nanoseconds }

    /// Saturating multiplication, for back-off.
    public func times(_ factor: Double) -> Span { .seconds(seconds * factor) }

    public var description: String {
        seconds >= 1 ? "\((seconds * 1000).rounded() / 1000) s" : "\((milliseconds * 1000).rounded() / 1000) ms"
    }
}
