import NDWire

struct CookiePair: Hashable, Sendable {
    var initiator: UInt64
    /// 0 until message 2.
    var responder: UInt64

    var bytes: [UInt8] { [UInt8](u64: initiator) + [UInt8](u64: responder) }
}
