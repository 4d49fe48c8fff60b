import NDCore
import NDCrypto
import NDWire

/// Phase-1 suites as Oakley attributes (RFC 2409 appendix A) and back.
enum MainModeProposal {
    static let keyIKE: UInt8 = 1
    private static let encryption: UInt16 = 1
    private static let hash: UInt16 = 2
    private static let authentication: UInt16 = 3
    private static let group: UInt16 = 4
    private static let lifeType: UInt16 = 11
    private static let lifeDuration: UInt16 = 12
    private static let keyLength: UInt16 = 14
    private static let aesCBC: UInt64 = 7
    private static let preSharedKey: UInt64 = 1

    static func offer(_ configuration: KeyingConfiguration) -> SecurityAssociationPayload {
        let seconds = UInt32(clamping: UInt64(configuration.mainModeLifetime.seconds))
        let transforms = configuration.mainModeSuites.prefix(254).enumerated().map { index, suite in
            Transform(
                number: UInt8(truncatingIfNeeded: index + 1), id: keyIKE,
                attributes: [
                    DataAttribute(encryption, UInt16(aesCBC)),
                    DataAttribute(keyLength, UInt16(truncatingIfNeeded: suite.keyBits)),
                    DataAttribute(hash, number(of: suite.hash)),
                    DataAttribute(group, suite.group.rawValue),
                    DataAttribute(authentication, UInt16(preSharedKey)),
                    DataAttribute(lifeType, 1),
                    DataAttribute(lifeDuration, number: seconds),
                ])
        }
        return SecurityAssociationPayload(proposals: [
            Proposal(number: 1, protocolID: ProtocolID.isakmp, spi: [], transforms: transforms)
        ])
    }

    struct Choice {
        var suite: MainModeSuite
        var lifetime: Lifetime
        /// What goes back: the proposal with the one transform, unchanged.
        var answer: SecurityAssociationPayload
    }

    /// The responder's choice: its own preference wins ([MS-IKEE] §3.1.5).
    static func choose(
        _ sa: SecurityAssociationPayload, _ configuration: KeyingConfiguration
    ) throws(Refusal) -> Choice {
        try checkDOI(sa)
        for suite in configuration.mainModeSuites {
            for proposal in sa.proposals where proposal.protocolID == ProtocolID.isakmp {
                for transform in proposal.transforms where parse(transform) == suite {
                    return Choice(
                        suite: suite,
                        lifetime: Lifetime(transform.attributes, type: lifeType, duration: lifeDuration),
                        answer: SecurityAssociationPayload(proposals: [
                            Proposal(
                                number: proposal.number, protocolID: proposal.protocolID, spi: [],
                                transforms: [transform])
                        ]))
                }
            }
        }
        throw Refusal(.noProposal, notify: .noProposalChosen)
    }

    /// What the responder chose of our offer.
    static func accept(
        _ sa: SecurityAssociationPayload, offered: [MainModeSuite]
    ) throws(Refusal) -> (MainModeSuite, Lifetime) {
        try checkDOI(sa)
        guard sa.proposals.count == 1, let proposal = sa.proposals.first,
            proposal.protocolID == ProtocolID.isakmp, proposal.transforms.count == 1,
            let transform = proposal.transforms.first, let suite = parse(transform), offered.contains(suite)
        else { throw Refusal(.badSecurityAssociation, failure: .malformed) }
        return (suite, Lifetime(transform.attributes, type: lifeType, duration: lifeDuration))
    }

    private static func checkDOI(_ sa: SecurityAssociationPayload) throws(Refusal) {
        guard sa.doi == SecurityAssociationPayload.ipsecDOI,
            sa.situation == SecurityAssociationPayload.identityOnly
        else { throw Refusal(.badSecurityAssociation, notify: .noProposalChosen) }
    }

    /// nil for anything this host does not speak. Unknown attributes are no obstacle.
    static func parse(_ transform: Transform) -> MainModeSuite? {
        guard transform.id == keyIKE, transform.number(of: encryption) == aesCBC,
            transform.number(of: authentication) == preSharedKey,
            let bits = transform.number(of: keyLength), [128, 192, 256].contains(bits),
            let hash = transform.number(of: hash).flatMap(algorithm),
            let group = transform.number(of: group).flatMap({ UInt16(exactly: $0) }).flatMap(
                DHGroup.init(rawValue:))
        else { return nil }
        return MainModeSuite(keyBits: Int(bits), hash: hash, group: group)
    }

    private static func number(of hash: HashAlgorithm) -> UInt16 {
        switch hash {
        case .sha1: 2
        case .sha256: 4
        case .sha384: 5
        case .sha512: 6
        }
    }

    private static func algorithm(_ number: UInt64) -> HashAlgorithm? {
        switch number {
        case 2: .sha1
        case 4: .sha256
        case 5: .sha384
        case 6: .sha512
        default: nil
        }
    }
}
