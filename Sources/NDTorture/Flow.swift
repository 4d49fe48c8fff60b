import Foundation
import NDCore
import NDLab

/// A connection of two hosts' programs, on ports that no other one of this world ever had.
final class Flow {
    enum State: Equatable { case open, retired, vanished }

    let id: UInt32
    /// The client's side comes first.
    let key: FlowKey
    /// Of the hosts: client, server.
    let ends: [Int]
    /// Each of client and server, -1: none (yet, or any more).
    var sockets: [Int32]
    var state = State.open
    /// Whether the server speaks before it heard something.
    let isEager: Bool
    var sent: [UInt32] = [0, 0]
    var received: [UInt32] = [0, 0]
    /// Octets that a stream has taken and not yet made a message of, each way.
    var partial: [[UInt8]] = [[], []]
    /// Octets that a stream did not take.
    var left: [[UInt8]] = [[], []]
    var nextSend: [UInt64] = [0, 0]
    /// CLOCK_REALTIME: from here on everything of it must be protected.
    var securedAt: UInt64?
    /// Messages in a row that arrived and were never on the wire in clear.
    var protectedRun = [0, 0]
    var clearNumbers: Set<UInt64> = []
    /// Whose stream has come to its end.
    var hasEnded = [false, false]
    /// What a socket said that ended the connection.
    var broken: String?
    var refused: String?
    var forgedAt: [UInt64] = []

    init(id: UInt32, key: FlowKey, ends: [Int], sockets: [Int32], isEager: Bool) {
        self.id = id
        self.key = key
        self.ends = ends
        self.sockets = sockets
        self.isEager = isEager
    }

    var isTCP: Bool { key.proto == IPProtocol.tcp }
    var isOpen: Bool { state == .open && broken == nil }

    func close() {
        for end in 0...1 where sockets[end] >= 0 {
            Glibc.close(sockets[end])
            sockets[end] = -1
        }
    }
}

/// One packet that a host put on the wire, as much of it as a report needs.
struct SentPacket: Sendable {
    var time: UInt64
    /// The host's index.
    var host: Int
    var kind: Kind
    var length: Int
    var frame: [UInt8]
    /// The flow that it belongs to or quotes; clear packets only.
    var flow: UInt32?
    var summary: String

    enum Kind: Int, Sendable, CaseIterable { case other, clear, esp, ike, icmp }
}
