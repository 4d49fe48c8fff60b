import NDCore
import NDCrypto
import NDWire

/// ESP suites as IPsec DOI attributes (RFC 2407 §4.5, RFC 4106, RFC 4304) and back.
enum QuickModeProposal {
    private static let lifeType: UInt16 = 1
    private static let lifeDuration: UInt16 = 2
    private static let group: UInt16 = 3
    private static let encapsulation: UInt16 = 4
    private static let authentication: UInt16 = 5
    private static let keyLength: UInt16 = 6
    private static let extendedSequence: UInt16 = 11
    private static let aesCBC: UInt8 = 12
    private static let aesGCM16: UInt8 = 20
    private static let hmacSHA256: UInt64 = 5
    private static let transport: UInt64 = 2

    /// One transform's content.
    struct Parameters: Hashable {
        var suite: ESPSuite
        var extendedSequenceNumbers: Bool
        var group: DHGroup?
    }

    struct Choice {
        var parameters: Parameters
        var lifetime: Lifetime
        var peerSPI: UInt32
        /// To be echoed, with our SPI in it.
        var proposal: Proposal
    }

    /// libreswan 4.10 refuses a whole offer that has attribute 11 anywhere (BAD-PROPOSAL-SYNTAX,
    /// measured) and [MS-IKEE] knows no such attribute: only our own kind is asked for 64-bit sequence
    /// numbers.
    static func offer(
        _ configuration: KeyingConfiguration, to traits: PeerTraits, spi: UInt32, udp: NATTraversal?
    ) -> SecurityAssociationPayload {
        var transforms: [Transform] = []
        let asksForExtended =
            configuration.extendedSequenceNumbers && traits.negotiationDiscovery && !traits.microsoft
        for suite in configuration.quickModeSuites.prefix(32) {
            for extended in asksForExtended ? [true, false] : [false] {
                transforms.append(
                    transform(
                        number: UInt8(truncatingIfNeeded: transforms.count + 1),
                        Parameters(
                            suite: suite, extendedSequenceNumbers: extended, group: configuration.pfsGroup),
                        configuration, udp: udp))
            }
        }
        return SecurityAssociationPayload(proposals: [
            Proposal(number: 1, protocolID: ProtocolID.esp, spi: [UInt8](u32: spi), transforms: transforms)
        ])
    }

    private static func transform(
        number: UInt8, _ parameters: Parameters, _ configuration: KeyingConfiguration, udp: NATTraversal?
    ) -> Transform {
        var attributes = [DataAttribute(keyLength, UInt16(truncatingIfNeeded: parameters.suite.keyBits))]
        if let group = parameters.group { attributes.append(DataAttribute(Self.group, group.rawValue)) }
        attributes.append(DataAttribute(encapsulation, udp?.udpTransportMode ?? UInt16(transport)))
        if !parameters.suite.isAEAD { attributes.append(DataAttribute(authentication, UInt16(hmacSHA256))) }
        if parameters.extendedSequenceNumbers { attributes.append(DataAttribute(extendedSequence, 1)) }
        attributes += [
            DataAttribute(lifeType, 1),
            DataAttribute(
                lifeDuration, number: UInt32(clamping: UInt64(configuration.quickModeLifetime.seconds))),
        ]
        if let kilobytes = configuration.quickModeLifetimeKilobytes {
            attributes += [DataAttribute(lifeType, 2), DataAttribute(lifeDuration, number: kilobytes)]
        }
        return Transform(
            number: number, id: parameters.suite.isAEAD ? aesGCM16 : aesCBC, attributes: attributes)
    }

    /// nil for a transform this host does not speak or an encapsulation the path does not call for.
    static func parse(_ transform: Transform, udp: NATTraversal?) -> Parameters? {
        let mode = transform.number(of: encapsulation)
        // Some peers write the RFC's mode number though only the draft's vendor ID was shared.
        guard udp == nil ? mode == transport : mode == 4 || mode == 61444 else { return nil }
        guard let bits = transform.number(of: keyLength).flatMap({ Int(exactly: $0) }),
            [128, 192, 256].contains(bits)
        else { return nil }
        let suite: ESPSuite
        switch transform.id {
        case aesGCM16: suite = .aesGCM16(keyBits: bits)
        case aesCBC:
            guard transform.number(of: authentication) == hmacSHA256 else { return nil }
            suite = .aesCBCHMACSHA256(keyBits: bits)
        default: return nil
        }
        var parameters = Parameters(
            suite: suite, extendedSequenceNumbers: transform.number(of: extendedSequence) == 1, group: nil)
        if let number = transform.number(of: group) {
            guard let known = UInt16(exactly: number).flatMap(DHGroup.init(rawValue:)) else { return nil }
            parameters.group = known
        }
        return parameters
    }

    /// The responder's choice, its own preference first.
    static func choose(
        _ sa: SecurityAssociationPayload, _ configuration: KeyingConfiguration, udp: NATTraversal?
    ) throws(Refusal) -> Choice {
        guard sa.doi == SecurityAssociationPayload.ipsecDOI,
            sa.situation == SecurityAssociationPayload.identityOnly
        else { throw Refusal(.badSecurityAssociation, notify: .noProposalChosen) }
        let order =
            configuration.extendedSequenceNumbers ? [true, false] : [false, true]
        for suite in configuration.quickModeSuites {
            for extended in order {
                for proposal in sa.proposals where isAlternative(proposal, in: sa) {
                    for transform in proposal.transforms {
                        guard let offered = parse(transform, udp: udp), offered.suite == suite,
                            offered.extendedSequenceNumbers == extended,
                            configuration.pfsGroup == nil || configuration.pfsGroup == offered.group
                        else { continue }
                        return try choice(proposal, transform, offered)
                    }
                }
            }
        }
        throw Refusal(.noProposal, notify: .noProposalChosen)
    }

    /// What the responder chose of our offer.
    static func accept(
        _ sa: SecurityAssociationPayload, _ configuration: KeyingConfiguration, pfsGroup: DHGroup?,
        udp: NATTraversal?
    ) throws(Refusal) -> Choice {
        guard sa.proposals.count == 1, let proposal = sa.proposals.first,
            proposal.protocolID == ProtocolID.esp, proposal.transforms.count == 1,
            let transform = proposal.transforms.first, let parameters = parse(transform, udp: udp),
            configuration.quickModeSuites.contains(parameters.suite), parameters.group == pfsGroup,
            configuration.extendedSequenceNumbers || !parameters.extendedSequenceNumbers
        else { throw Refusal(.badSecurityAssociation, failure: .malformed) }
        return try choice(proposal, transform, parameters)
    }

    /// ESP that stands alone: equal proposal numbers mean "and" (RFC 2408 §4.2).
    private static func isAlternative(_ proposal: Proposal, in sa: SecurityAssociationPayload) -> Bool {
        proposal.protocolID == ProtocolID.esp
            && sa.proposals.count(where: { $0.number == proposal.number }) == 1
    }

    private static func choice(
        _ proposal: Proposal, _ transform: Transform, _ parameters: Parameters
    ) throws(Refusal) -> Choice {
        let spi = proposal.spi.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        // RFC 4303 §2.1 reserves 1 to 255.
        guard proposal.spi.count == 4, spi >= 256 else { throw Refusal(.badSPI, failure: .malformed) }
        return Choice(
            parameters: parameters,
            lifetime: Lifetime(transform.attributes, type: lifeType, duration: lifeDuration), peerSPI: spi,
            proposal: Proposal(
                number: proposal.number, protocolID: proposal.protocolID, spi: proposal.spi,
                transforms: [transform]))
    }
}
