import Foundation
import NDCore
import NDCrypto
import NDDiscovery
import NDKeying
import NDPolicy

/// Pre-shared keys of the policy's files, read once at start: longest prefix wins.
struct PolicyCredentials: CredentialSource {
    private let keys: [(remote: IPPrefix?, key: SecretBytes)]

    init(_ policy: Policy) throws {
        keys = try policy.preSharedKeys.map { ($0.remote, try PreSharedKeyFile.read(path: $0.file)) }
            .sorted { ($0.0?.mappedLength ?? -1) > ($1.0?.mappedLength ?? -1) }
    }

    func preSharedKey(local: IPAddress, remote: IPAddress) -> SecretBytes? {
        keys.first { $0.remote?.contains(remote) ?? true }?.key
    }
}

/// The policy's filters of IKEEXT and IPSEC.
struct PolicyNegotiation: NegotiationPolicy {
    let filters: NegotiationFilters

    func hasMainMode(local: IPAddress, remote: IPAddress) -> Bool {
        filters.context(.ikeext, local: local, remote: remote) != nil
    }

    func hasQuickMode(local: IPAddress, remote: IPAddress) -> Bool {
        filters.context(.ipsec, local: local, remote: remote) != nil
    }
}

extension KeyingConfiguration {
    /// What the policy says, for an engine that wants ESP in UDP or not.
    init(_ policy: Policy, engineWantsUDP: Bool) throws {
        self.init(credentials: try PolicyCredentials(policy))
        self.policy = PolicyNegotiation(filters: NegotiationFilters(policy.expanded))
        let keying = policy.keying
        mainModeSuites = keying.mainMode.compactMap { proposal in
            guard let group = DHGroup(rawValue: proposal.group.number),
                let hash = HashAlgorithm.allCases.first(where: { "\($0)" == proposal.hash.rawValue })
            else { return nil }
            return MainModeSuite(keyBits: proposal.keyBits, hash: hash, group: group)
        }
        quickModeSuites = keying.quickMode
        pfsGroup = keying.quickModeGroup.flatMap { DHGroup(rawValue: $0.number) }
        extendedSequenceNumbers = keying.extendedSequenceNumbers
        forceUDPEncapsulation = engineWantsUDP && policy.engine.encapsulation == .udp
        boundary = policy.isBoundary
        mainModeLifetime = keying.mainModeLifetime
        quickModeLifetime = keying.quickModeLifetime
        retransmission = RetransmissionPolicy(
            firstInterval: keying.retransmitFirst, tries: keying.retransmitTries)
    }
}

extension Discovery.Configuration {
    init(_ policy: Policy) {
        self.init()
        let discovery = policy.discovery
        backOff = BackOff(
            first: discovery.negativeCacheFirst, factor: discovery.negativeCacheFactor,
            most: discovery.negativeCacheMost)
        concurrent = discovery.concurrent
        perSecond = Double(discovery.perSecond)
        burst = Double(discovery.burst)
        pause = discovery.pause
    }
}

extension FailureReason {
    init(_ failure: KeyingFailure) {
        switch failure {
        case .noAnswer, .unreachable, .timedOut: self = .noAnswer
        case .noProposalChosen: self = .noProposal
        case .authenticationFailed: self = .authentication
        case .peerRefused: self = .refused
        case .malformed: self = .malformed
        case .noCredential, .noPolicy, .limit, .cancelled, .cryptography: self = .local
        }
    }
}

extension NDDiscovery.RemovalReason {
    init(_ reason: NDKeying.RemovalReason) {
        switch reason {
        case .expired: self = .expired
        case .deletedByPeer: self = .deletedByPeer
        case .administrative, .shutdown, .policyChange: self = .deletedLocally
        case .initialContact, .superseded, .rekeyed: self = .replaced
        case .unconfirmed, .deadPeer: self = .dead
        }
    }
}

/// Writes keys for a packet dissector, when the operator asked for it by name.
final class KeyLog: Sendable {
    private let handle: Locked<FileHandle>

    init(path: String) throws {
        unlink(path)
        let fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard fd >= 0 else {
            throw NDError("run.key-log", "can't create \(path): \(String(cString: strerror(errno)))")
        }
        handle = Locked(FileHandle(fileDescriptor: fd, closeOnDealloc: true))
    }

    func write(_ entry: KeyLogEntry) {
        func hex(_ bytes: some Sequence<UInt8>) -> String {
            bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        }
        let line: String
        switch entry {
        case .isakmp(let cookie, let key):
            line = "isakmp \(hex(cookie)) \(key.withUnsafeBytes { hex($0) })\n"
        case .esp(let source, let destination, let spi, let suite, let keymat):
            line = "esp \(source) \(destination) \(hex(withUnsafeBytes(of: spi.bigEndian) { Array($0) })) \(suite) \(keymat.withUnsafeBytes { hex($0) })\n"
        }
        handle.withLock { $0.write(Data(line.utf8)) }
    }
}
