import NDCore

extension KeyingMachine {
    /// In no particular order.
    public var mainModes: [MainModeStatus] {
        mainModeRecords.values.map { mode in
            let state: String =
                switch mode.phase {
                case .negotiating(let state): state.name
                case .established: mode.closing ? "closing" : "established"
                }
            return MainModeStatus(
                local: mode.local, remote: mode.remote, role: mode.role, state: state,
                initiatorCookie: mode.cookies.initiator, responderCookie: mode.cookies.responder,
                suite: mode.association?.suite, identity: mode.association?.identity,
                peerNegotiationDiscovery: mode.association?.traits.negotiationDiscovery ?? false,
                started: mode.started, expires: mode.expires)
        }
    }

    /// A responder's pair waits for message 3 or a packet.
    public var hasUnconfirmedPairs: Bool { unconfirmedPairs > 0 }

    /// The installed pairs, in no particular order.
    public var quickModes: [QuickModeStatus] {
        pairs.values.map { pair in
            QuickModeStatus(
                peer: pair.peer, role: pair.role, state: pair.confirmed ? "established" : "unconfirmed",
                inboundSPI: pair.result.inboundSPI, outboundSPI: pair.result.outboundSPI,
                suite: pair.result.parameters.suite, pfsGroup: pair.result.parameters.group,
                encapsulation: pair.encapsulation,
                extendedSequenceNumbers: pair.result.parameters.extendedSequenceNumbers,
                peerBoundary: pair.result.peerBoundary,
                guaranteeEncryption: pair.result.guaranteeEncryption, created: pair.created,
                expires: pair.expires, lifetimeKilobytes: pair.result.kilobytes)
        }
    }
}
