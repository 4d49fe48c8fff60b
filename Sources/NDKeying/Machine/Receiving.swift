import NDCore
import NDCrypto
import NDWire

extension KeyingMachine {
    mutating func receiveDatagram(_ datagram: [UInt8], local: Endpoint, remote: Endpoint) {
        counters.count(.datagramsReceived)
        var bytes = datagram
        if local.port == configuration.natTraversalPort {
            if datagram == [0xff] {  // RFC 3948 §2.3
                counters.count(.keepalivesReceived)
                return
            }
            guard datagram.starts(with: [0, 0, 0, 0]) else { return drop(.notISAKMP) }
            bytes.removeFirst(4)
        }
        let message: ISAKMPMessage
        do {
            message = try ISAKMPMessage.decode(bytes, limits: configuration.limits.wire)
        } catch {
            return counters.count(error)
        }
        guard message.header.version == 0x10 else { return drop(.badVersion) }
        guard message.header.initiatorCookie != 0 else { return drop(.badCookie) }
        let arrival = Arrival(message: message, bytes: bytes, local: local, remote: remote)
        switch message.header.exchangeType {
        case .mainMode: receiveMainMode(arrival)
        case .quickMode: receiveQuickMode(arrival)
        case .informational: receiveInformational(arrival)
        default: drop(.unsupportedExchange)  // peers stay silent here, too
        }
    }

    /// The exchange a message belongs to by its cookies, if it comes from that peer's address.
    mutating func mainMode(for arrival: Arrival) -> MainMode? {
        let header = arrival.message.header
        let pair = CookiePair(initiator: header.initiatorCookie, responder: header.responderCookie)
        // Message 2 is the first to carry the responder's cookie.
        let id = byCookies[pair] ?? byCookies[CookiePair(initiator: header.initiatorCookie, responder: 0)]
        guard let id, let mode = mainModeRecords[id] else { return nil }
        return mode
    }

    /// An unprotected Informational: a hint for the peer, rate-limited, never in answer to another.
    mutating func hintError(_ notify: NotifyType, _ arrival: Arrival) {
        guard errorReplies.take(now) else { return drop(.rateLimited) }
        counters.count(.errorNotifiesSent)
        sendUnprotected(
            NotificationPayload(protocolID: ProtocolID.isakmp, type: notify), in: arrival)
    }

    mutating func sendUnprotected(_ notify: NotificationPayload, in arrival: Arrival) {
        let header = arrival.message.header
        let reply = ISAKMPMessage(
            header: ISAKMPHeader(
                initiatorCookie: header.initiatorCookie, responderCookie: header.responderCookie,
                exchangeType: .informational, messageID: fresh(UInt32.self) { _ in false }),
            payloads: [.notification(notify)])
        transmit(reply.encode(), from: arrival.local, to: arrival.remote)
    }
}

/// A decoded message and where it came from.
struct Arrival {
    var message: ISAKMPMessage
    /// Without non-ESP marker.
    var bytes: [UInt8]
    var local: Endpoint
    var remote: Endpoint

    var digest: [UInt8] { (try? HashAlgorithm.sha256.digest(bytes)) ?? bytes }
}
