import NDCore
import NDPolicy
import Testing

@Suite("The objects of WFP")
struct ModelTests {
    @Test("Keys of layers, callouts, sublayers and providers are well formed, distinct and found by name")
    func keys() {
        let layers = Layer.all.map(\.key)
        let callouts = BuiltInCallout.allCases.flatMap { callout in IPFamily.allCases.map { callout.key($0) } }
        let others = Sublayer.builtIn.map(\.key) + Provider.builtIn.map(\.key)
        let all = layers + callouts + others
        #expect(Set(all).count == all.count)
        for key in all {
            // A misspelled literal would be all zero.
            #expect(key.high != 0 && GUID("\(key)") == key && GUID("{\(key)}") == key)
        }
        for layer in Layer.all {
            #expect(Layer(layer.name) == layer && Layer(layer.shortName) == layer && Layer("\(layer.key)") == layer)
        }
        for callout in BuiltInCallout.allCases {
            for family in IPFamily.allCases {
                #expect(BuiltInCallout.find(callout.key(family))?.callout == callout)
                #expect(BuiltInCallout.name(of: callout.key(family)) == callout.name(family))
            }
        }
        for bad in ["", "x", "eebecc03-ced4-4380-819a-2734397b2b7", "eebecc03ced44380819a2734397b2b74", "eebecc03-ced4-4380-819a-2734397b2b7g"] {
            #expect(GUID(bad) == nil)
        }
    }

    @Test("Discard layers stand beside theirs, the family before the suffix as in fwpmu.h")
    func discard() {
        #expect(Layer(.streamDiscard, .v6).name == "FWPM_LAYER_STREAM_V6_DISCARD")
        #expect(Layer(.inboundIPPacket, .v4).name == "FWPM_LAYER_INBOUND_IPPACKET_V4")
        for kind in Layer.Kind.allCases where kind.isDiscard {
            #expect(kind.shown.map { "\($0.rawValue)_DISCARD" } == kind.rawValue)
        }
        #expect(Layer.Kind.allCases.filter(\.isDiscard).count == 9)
        #expect(BuiltInCallout.silentDrop.name(.v6) == "FWPM_CALLOUT_WFP_TRANSPORT_LAYER_V6_SILENT_DROP")
    }

    @Test("UNIVERSAL is the default, INSPECTION the lightest, and equal weights have an order")
    func sublayers() {
        let sublayers = ExpandedPolicy(sublayers: [Sublayer(name: "b", weight: 7), Sublayer(name: "a", weight: 7)]).allSublayers
        #expect(sublayers.last == .inspection)
        #expect(sublayers.map(\.weight) == sublayers.map(\.weight).sorted(by: >))
        #expect(Filter(name: "x", layer: Layer(.ipsec, .v4), action: .permit).sublayer == Sublayer.universal.key)
        let twice = ExpandedPolicy(sublayers: [Sublayer(name: "a", weight: 7), Sublayer(name: "b", weight: 7)]).allSublayers
        #expect(sublayers == twice)
    }

    @Test("The same name has the same key, another kind or name another, in the form of RFC 9562's version 8")
    func namedKeys() {
        let key = GUID(named: "x", kind: "filter")
        #expect(key == GUID(named: "x", kind: "filter"))
        #expect(Set([key, GUID(named: "x", kind: "sublayer"), GUID(named: "y", kind: "filter")]).count == 3)
        let text = Array("\(key)")
        #expect(text[14] == "8" && "89ab".contains(text[19]))
    }

    @Test("Explicit weights are taken as they are, ranges fill the top four bits, automatic ones stay below 2^60")
    func weights() throws {
        func filter(_ weight: FilterWeight, _ conditions: [Condition] = [], id: UInt32 = 1) -> Filter {
            Filter(id: id, name: "w", layer: Layer(.outboundTransport, .v6), weight: weight, conditions: conditions, action: .permit)
        }
        #expect(filter(.explicit(.max)).effectiveWeight == .max)
        let range = FilterWeight.Range.ikeExemptions
        #expect(filter(.range(range)).effectiveWeight >> 60 == 0xc)
        #expect(filter(.range(range)).effectiveWeight & (1 << 60 - 1) == filter(.automatic).effectiveWeight)
        #expect(FilterWeight.Range(rawValue: 16) == nil)
        let host = Condition(.remoteAddress, .equal, .address(address("2001:db8::1")))
        let net = Condition(.remoteAddress, .prefix, .prefix(try prefix("2001:db8::/32")))
        // More specific weighs more, then older.
        let order = [
            filter(.automatic, [host, .proto(6), .localPort(22...22)]), filter(.automatic, [host, .proto(6)]),
            filter(.automatic, [host]), filter(.automatic, [net]), filter(.automatic, [.localPort(1...1024)]),
            filter(.automatic), filter(.automatic, id: 2),
        ].map(\.effectiveWeight)
        #expect(order == order.sorted(by: >) && Set(order).count == order.count)
        #expect(order.allSatisfy { $0 < 1 << 60 })
    }

    @Test("Raw contexts have the name that their callout gives them")
    func rawContexts() {
        #expect(RawContext.outboundNegotiateDiscover.name(for: .outboundTransport) == "OUTBOUND_NEGOTIATE_DISCOVER")
        #expect(RawContext.inboundPersistConnectionSecurity.name(for: .inboundTransport) == "INBOUND_PERSIST_CONNECTION_SECURITY")
        #expect(RawContext(9).name(for: .inboundTransport) == "0x9")
        #expect(RawContext("INBOUND_PASSTHRU", for: .inboundTransport) == .inboundPassthru)
        #expect(RawContext("INBOUND_PASSTHRU", for: .outboundTransport) == nil)
        #expect(RawContext("0x1f", for: nil) == RawContext(31))
    }
}
