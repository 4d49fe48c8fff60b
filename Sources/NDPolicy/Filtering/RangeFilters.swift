import NDCore

extension ExpandedPolicy {
    /// The filters of the layers that BPF serves, in the form that BPF's tables are built from. Fails on what
    /// BPF can't tell, since a filter that is left out would open or close something silently.
    public func rangeFilters(
        interfaceIndex: (String) -> UInt32? = { _ in nil }, programs numbers: CalloutNumbers = .none,
        machines: MachineNumbers = .none
    ) throws(NDError) -> [RangeFilter] {
        let ranks = Dictionary(
            allSublayers.enumerated().map { ($0.element.key, $0.offset) }, uniquingKeysWith: { first, _ in first })
        let programs = Dictionary(callouts.map { ($0.key, $0.program) }, uniquingKeysWith: { first, _ in first })
        var result: [RangeFilter] = []
        result.reserveCapacity(filters.count)
        for filter in filters where filter.layer.kind.server != .controlPlane {
            guard let layer = filter.layer.datapathLayer else {
                // What nobody registered and only looks on, nothing is lost of.
                if case .callout(.inspection, let key) = filter.action, (programs[key] ?? nil) == nil { continue }
                throw filter.unsupported(
                    "nothing is decided at \(filter.layer.name)", "decide at a transport, ALE_AUTH or IPPACKET layer")
            }
            guard let rank = ranks[filter.sublayer] else {
                throw filter.unsupported("its sublayer {\(filter.sublayer)} doesn't exist", "add the sublayer first")
            }
            var program: CalloutNumbers.Entry?
            if case .callout(_, let key) = filter.action, let named = programs[key] ?? nil { program = numbers[named] }
            for direction in filter.directions {
                result.append(
                    try filter.rangeFilter(layer, sublayer: rank, program: program, direction, interfaceIndex, machines))
            }
        }
        return result
    }
}

extension Filter {
    /// Where packets of both directions pass, their destination is at one end or at the other: a filter that
    /// asks for its type is compiled for each direction.
    fileprivate var directions: [PacketDirection?] {
        layer.kind.direction == nil && conditions.contains { $0.field == .destinationAddressType }
            ? PacketDirection.allCases : [nil]
    }

    fileprivate func rangeFilter(
        _ datapathLayer: DatapathLayer, sublayer: Int, program: CalloutNumbers.Entry?, _ direction: PacketDirection?,
        _ interfaceIndex: (String) -> UInt32?, _ machines: MachineNumbers
    ) throws(NDError) -> RangeFilter {
        var fields: [PacketField: [ClosedRange<UInt128>]] = [:]
        if let direction { fields[.direction] = [UInt128(direction.rawValue)...UInt128(direction.rawValue)] }
        for (field, conditions) in conditionGroups {
            guard let tested = field.packetField(layer.kind, direction) else {
                throw unsupported(
                    "\(field.rawValue) can't be tested: no keying module of this version authenticates users",
                    "match the machine that authenticated with ALE_REMOTE_MACHINE_ID, or the peer's addresses")
            }
            let width = tested.width(layer.family)
            var values = RangeSet.none
            for condition in conditions {
                if tested == .interface, case .name(let name) = condition.value, interfaceIndex(name) == nil {
                    throw unsupported("there is no interface '\(name)'", "`ip -brief link` lists them")
                }
                values = values.union(
                    condition.values(layer.family, width: width) { name in
                        tested == .remoteMachine ? machines[name] : interfaceIndex(name)
                    })
            }
            // Two of WFP's fields can be one of the packet's (IP_DESTINATION_ADDRESS_TYPE).
            if let before = fields[tested] { values = values.intersection(RangeSet(before)) }
            fields[tested] = values.ranges
        }
        let verdict = try verdict(program)
        return RangeFilter(
            id: UInt64(id), layer: datapathLayer, family: layer.family, sublayer: sublayer, weight: effectiveWeight,
            fields: fields, verdict: verdict, isHard: isHard || verdict.isPlainBlock)
    }

    private func verdict(_ program: CalloutNumbers.Entry?) throws(NDError) -> RangeFilter.Verdict {
        switch action {
        case .permit: return .permit
        case .block: return .block
        case .callout(let use, _):
            if builtInCallout != nil { return .callout(try ruleAction, context: 0) }
            guard let program else { return .unregistered(terminating: use != .inspection) }
            return .program(program.number, inspection: use == .inspection, changes: program.changes)
        }
    }

    /// What BPF does at a match.
    var ruleAction: RuleAction {
        get throws(NDError) {
            switch action {
            case .permit: return .permit
            case .block: return .block
            case .callout:
                switch (builtInCallout, context.raw) {
                case (.outboundTransport, .outboundNegotiateDiscover): return .negotiateDiscover
                case (.outboundTransport, .none): return .requireOutbound
                case (.inboundTransport, .none), (.inboundTransport, .inboundPersistConnectionSecurity):
                    return .persistSecurity
                case (.inboundInitiateSecure, .none): return .initiateSecure
                case (let callout?, let raw):
                    throw unsupported(
                        "\(callout.rawValue) with raw context \(raw.name(for: callout) ?? "0") is not supported",
                        "transport mode has OUTBOUND_NEGOTIATE_DISCOVER, INBOUND_PERSIST_CONNECTION_SECURITY, or none")
                case (nil, _):
                    throw unsupported("its callout is not built in", "the datapath of this version asks built-in callouts only")
                }
            }
        }
    }

    func unsupported(_ what: String, _ hint: String) -> NDError {
        NDError("policy.unsupported", "filter \(id) \"\(name)\" at \(layer.shortName): \(what)", hint: hint)
    }
}

extension RangeFilter.Verdict {
    /// A filter's own block is hard, and so is what stands in for a callout that nobody registered.
    fileprivate var isPlainBlock: Bool { self == .block || self == .unregistered(terminating: true) }
}
