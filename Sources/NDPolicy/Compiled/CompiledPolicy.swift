import CNDABI
import NDCore

/// A policy as BPF holds it: the filters of the layers that BPF serves, and times.
public struct CompiledPolicy: Hashable, Sendable {
    public var classifier: LinearClassifier
    /// Families with a main-mode filter: the daemon's IKE ports are exempt.
    public var exemptsIKE: Set<IPFamily>
    public var ikePort: UInt16
    public var natTraversalPort: UInt16
    public var overheadV4: UInt16
    public var overheadV6: UInt16
    public var grace: Span
    public var idle: Span
    public var tcpIdle: Span
    public var askAgain: Span
    /// Life of a secured flow of other protocols than TCP after its last packet.
    public var securedIdle = Self.defaultSecuredIdle
    /// Where ICMP is exempt, errors about secured connections are too.
    public var exemptsICMPErrors = false

    /// Non-TCP flows live 60 s ([MS-AIPS] §3.10.5.2).
    public static let defaultIdle = Span.seconds(60)
    public static let defaultSecuredIdle = Span.seconds(600)
    /// Five days, as the kernel's own connection tracking keeps an established connection.
    public static let defaultTCPIdle = Span.seconds(5 * 24 * 3600)
    public static let defaultAskAgain = Span.seconds(10)

    public init(
        filters: [RangeFilter], exemptsIKE: Set<IPFamily> = Set(IPFamily.allCases), ikePort: UInt16 = UInt16(ND_PORT_IKE),
        natTraversalPort: UInt16 = UInt16(ND_PORT_NATT), overheadV4: UInt16 = 0, overheadV6: UInt16 = 0,
        grace: Span = .seconds(10), idle: Span = Self.defaultIdle, tcpIdle: Span = Self.defaultTCPIdle,
        askAgain: Span = Self.defaultAskAgain
    ) {
        classifier = LinearClassifier(filters)
        self.exemptsIKE = exemptsIKE
        self.ikePort = ikePort
        self.natTraversalPort = natTraversalPort
        self.overheadV4 = overheadV4
        self.overheadV6 = overheadV6
        self.grace = grace
        self.idle = idle
        self.tcpIdle = tcpIdle
        self.askAgain = askAgain
    }

    public var filters: [RangeFilter] {
        get { classifier.filters }
        set { classifier = LinearClassifier(newValue) }
    }

    /// Some filter wants decrypted inbound packets themselves, not their flows: it can block one, or asks a
    /// program about it. The kernel's engine shows them at the socket only.
    public var asksDecrypted: Bool { !filtersForDecrypted.isEmpty }

    /// Numbers of the programs that may be asked about decrypted inbound packets.
    public var programsForDecrypted: Set<UInt32> {
        Set(
            filtersForDecrypted.compactMap { filter -> UInt32? in
                if case .program(let number, _, _) = filter.verdict { number } else { nil }
            })
    }

    private var filtersForDecrypted: [RangeFilter] {
        let layers: Set<DatapathLayer> = [.inboundTransport, .aleAuthRecvAccept, .stream, .datagramData]
        return classifier.filters.filter { layers.contains($0.layer) && $0.asksDecrypted }
    }

    /// What the layer's filters say of a packet; nil: none has a say.
    public func decide(
        _ layer: DatapathLayer, _ packet: Packet, interface: UInt32 = 0, flags: PacketFlags = [],
        callout: (UInt32) -> CalloutAnswer? = { _ in nil }
    ) -> FilterDecision? {
        classifier.decide(
            layer, packet.family, FieldValues(packet, layer, packet.family, interface: interface, flags: flags),
            callout: callout)
    }
}

extension RangeFilter {
    fileprivate var asksDecrypted: Bool {
        switch verdict {
        case .permit, .callout, .unregistered(terminating: false): false
        case .block, .program, .unregistered(terminating: true): takesDecrypted
        }
    }

    /// No filter for clear packets alone, or for outbound ones.
    private var takesDecrypted: Bool {
        func takes(_ field: PacketField, _ values: [UInt128]) -> Bool {
            guard let ranges = fields[field] else { return true }
            return values.contains { value in ranges.contains { $0.contains(value) } }
        }
        let secured = UInt128(PacketFlags.isIPsecSecured.rawValue)
        return takes(.flags, (0...255).filter { $0 & secured != 0 }) && takes(.direction, [1])
    }
}

extension Policy {
    /// Expands and compiles. Interfaces that filters name are looked up; where nobody does, each is there.
    public func compiled(
        interfaceIndex: (String) -> UInt32? = { _ in 1 }, programs: CalloutNumbers = .none,
        machines: MachineNumbers = .none
    ) throws(NDError) -> CompiledPolicy {
        let expanded = expanded
        var policy = CompiledPolicy(
            filters: try expanded.rangeFilters(interfaceIndex: interfaceIndex, programs: programs, machines: machines))
        policy.exemptsIKE = expanded.familiesWithIKE
        let overhead = UInt16(clamping: espOverhead)
        policy.overheadV4 = overhead
        policy.overheadV6 = overhead
        policy.grace = discovery.clearGrace
        policy.exemptsICMPErrors = exemptsICMPErrors
        return policy
    }

    /// What ESP adds to a packet at most with any suite that may be negotiated, UDP encapsulation
    /// (RFC 3948: 8 bytes) included: a NAT asks for it whatever the policy prefers.
    public var espOverhead: Int { (keying.quickMode.map(\.overhead).max() ?? 0) + 8 }
}
