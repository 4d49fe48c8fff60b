import NDCore
import NDPolicy
import Testing

@Suite("Transactions of the filter engine")
struct TransactionTests {
    private static let layer = Layer(.outboundTransport, .v4)

    private static func refused(_ body: (inout Transaction) throws -> Void) -> [String] {
        var engine = FilterEngine()
        let before = engine
        do {
            try engine.transaction(body)
            return []
        } catch let errors as EngineErrors {
            #expect(engine == before)
            return errors.errors.map { "\($0.code): \($0)" }
        } catch let error as NDError {
            #expect(engine == before)
            return ["\(error.code): \(error)"]
        } catch {
            return ["\(error)"]
        }
    }

    @Test("A commit takes everything, an abort nothing, and either ends the transaction")
    func commitAbort() throws {
        var engine = FilterEngine()
        var first = engine.begin()
        try first.add(Sublayer(name: "mine", weight: 9))
        #expect(try first.add(Filter(name: "a", layer: Self.layer, sublayer: GUID(named: "mine", kind: "sublayer"), action: .permit)) == 1)
        #expect(engine.state.filters.isEmpty && first.state.filters.count == 1)
        try engine.commit(&first)
        #expect(engine.generation == 1 && engine.state.filters.map(\.name) == ["a"] && engine.state.sublayers.map(\.name) == ["mine"])
        #expect(throws: NDError.self) { try first.add(Provider(name: "late")) }
        var second = engine.begin()
        try second.deleteFilter(key: engine.state.filters[0].key)
        engine.abort(&second)
        #expect(engine.state.filters.count == 1)
        #expect(throws: NDError.self) { try engine.commit(&second) }
        // Numbers are never given twice.
        try engine.transaction { try $0.deleteFilter(key: $0.state.filters[0].key) }
        try engine.transaction { try $0.add(Filter(name: "b", layer: Self.layer, action: .permit)) }
        #expect(engine.state.filters.map(\.id) == [2])
    }

    @Test("Every kind of object is added, found by key, enumerated and deleted")
    func objects() throws {
        var engine = FilterEngine()
        let provider = Provider(name: "p")
        let sublayer = Sublayer(name: "s", weight: 1, provider: provider.key)
        let callout = Callout(name: "c", layer: Self.layer, provider: provider.key)
        let context = ProviderContext(name: "x", provider: provider.key, kind: .ikeMainMode, proposals: ["aes256-sha256-ecp256"])
        let filter = Filter(
            name: "f", provider: provider.key, layer: Self.layer, sublayer: sublayer.key, action: .callout(.inspection, callout.key))
        let main = Filter(name: "m", layer: Layer(.ikeext, .v6), action: .permit, context: .provider(context.key))
        try engine.transaction {
            // The order does not matter inside a transaction.
            try $0.add(filter)
            try $0.add(main)
            try $0.add(context)
            try $0.add(callout)
            try $0.add(sublayer)
            try $0.add(provider)
        }
        let state = engine.state
        #expect(state.provider(key: provider.key) == provider && state.sublayer(key: sublayer.key) == sublayer)
        #expect(state.callout(key: callout.key) == callout && state.providerContext(key: context.key) == context)
        #expect(state.filter(key: filter.key)?.name == "f" && state.filter(id: 2)?.name == "m")
        #expect(state.allSublayers.count == Sublayer.builtIn.count + 1)
        #expect(state.filters(at: Self.layer).map(\.filter.key) == [filter.key])
        try engine.transaction {
            try $0.deleteProvider(key: provider.key)
            try $0.deleteSublayer(key: sublayer.key)
            try $0.deleteCallout(key: callout.key)
            try $0.deleteProviderContext(key: context.key)
            try $0.deleteFilter(key: filter.key)
            try $0.deleteFilter(key: main.key)
        }
        #expect(engine.state == ExpandedPolicy())
    }

    @Test("A dangling key refuses the whole transaction and names the filter")
    func dangling() {
        let key = GUID(named: "nowhere", kind: "test")
        let good = Filter(name: "good", layer: Self.layer, action: .permit)
        #expect(
            Self.refused {
                try $0.add(good)
                try $0.add(Filter(name: "bad", layer: Self.layer, sublayer: key, action: .permit))
            } == ["engine.not-found: filter \"bad\" at OUTBOUND_TRANSPORT_V4: there is no sublayer {\(key)}\n  fix: add the sublayer, or use FWPM_SUBLAYER_UNIVERSAL"])
        #expect(
            Self.refused { try $0.add(Filter(name: "bad", layer: Self.layer, action: .callout(.terminating, key))) }
                == ["engine.not-found: filter \"bad\" at OUTBOUND_TRANSPORT_V4: there is no callout {\(key)}\n  fix: add the callout, or name a built-in one such as FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4"])
        #expect(
            Self.refused { try $0.add(Filter(name: "bad", layer: Layer(.ipsec, .v4), action: .permit, context: .provider(key))) }
                == ["engine.not-found: filter \"bad\" at IPSEC_V4: there is no provider context {\(key)}\n  fix: add the provider context"])
        #expect(
            Self.refused { try $0.add(Filter(name: "bad", provider: key, layer: Self.layer, action: .permit)) }
                == ["engine.not-found: filter \"bad\" at OUTBOUND_TRANSPORT_V4: there is no provider {\(key)}\n  fix: add the provider, or name none"])
        #expect(
            Self.refused { try $0.add(Sublayer(name: "s", weight: 1, provider: key)) }
                == ["engine.not-found: sublayer \"s\": there is no provider {\(key)}\n  fix: add the provider, or name none"])
    }

    @Test("A wrongly typed key refuses it too: a context of another layer, a callout of another layer or family")
    func wrongType() {
        let main = ProviderContext(name: "main", kind: .ikeMainMode, proposals: ["aes256-sha256-ecp256"])
        #expect(
            Self.refused {
                try $0.add(main)
                try $0.add(Filter(name: "bad", layer: Layer(.ipsec, .v4), action: .permit, context: .provider(main.key)))
            } == ["engine.wrong-type: filter \"bad\" at IPSEC_V4: provider context \"main\" is an IPSEC_IKE_MM_CONTEXT, which belongs at IKEEXT\n  fix: name a context of the layer's type, or move the filter to IKEEXT_V4"])
        #expect(
            Self.refused { try $0.add(Filter(name: "bad", layer: Self.layer, action: .callout(.outboundTransport, .v6))) }
                == ["engine.wrong-type: filter \"bad\" at OUTBOUND_TRANSPORT_V4: FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 works at OUTBOUND_TRANSPORT_V6, not at OUTBOUND_TRANSPORT_V4\n  fix: name the callout of this layer, or move the filter"])
        let mine = Callout(name: "c", layer: Layer(.stream, .v4))
        #expect(
            Self.refused {
                try $0.add(mine)
                try $0.add(Filter(name: "bad", layer: Self.layer, action: .callout(.unknown, mine.key)))
            }.first?.hasPrefix("engine.wrong-type: filter \"bad\" at OUTBOUND_TRANSPORT_V4: callout \"c\" was added for STREAM_V4") == true)
        #expect(
            Self.refused { try $0.add(Filter(name: "bad", layer: Self.layer, action: .callout(.unknown, BuiltInCallout.outboundTransport.key(.v4)))) }
                .first?.contains("always decides") == true)
        #expect(Self.refused { try $0.add(Filter(name: "bad", layer: Layer(.streamDiscard, .v4), action: .block)) }.first?.contains("DISCARD") == true)
    }

    @Test("Conditions that can't be asked at the layer, or can't hold, refuse it")
    func conditions() throws {
        func refusal(_ kind: Layer.Kind, _ condition: Condition, _ family: IPFamily = .v4) -> String {
            Self.refused { try $0.add(Filter(name: "f", layer: Layer(kind, family), conditions: [condition], action: .permit)) }.first ?? ""
        }
        #expect(refusal(.ikeext, .localPort(1...1)).contains("IP_LOCAL_PORT is not known at IKEEXT"))
        #expect(refusal(.outboundTransport, Condition(.remoteUser, .equal, .name("a"))).contains("ALE_REMOTE_USER_ID is not known at OUTBOUND_TRANSPORT"))
        #expect(refusal(.aleAuthRecvAccept, Condition(.remoteUser, .equal, .name("a"))) == "")
        #expect(refusal(.outboundTransport, .remoteAddress(try prefix("2001:db8::/32"))).contains("2001:db8:: is no IPv4 address"))
        #expect(refusal(.outboundTransport, .remoteAddress(try prefix("192.0.2.0/24")), .v6).contains("192.0.2.0 is no IPv6 address"))
        #expect(refusal(.outboundTransport, Condition(.localPort, .equal, .number(65536))).contains("a number from 0 to 65535"))
        #expect(refusal(.outboundTransport, Condition(.localPort, .flagsAllSet, .number(1))).contains("can't be asked for FLAGS_ALL_SET"))
        #expect(refusal(.outboundTransport, Condition(.flags, .equal, .number(1))).contains("can't be compared"))
        #expect(refusal(.outboundTransport, Condition(.interface, .greater, .name("eth0"))).contains("can't be asked for GREATER"))
    }

    @Test("What exists can't be added again, what doesn't can't be deleted, what is built in stays")
    func keys() {
        func codes(_ body: (inout Transaction) throws -> Void) -> String { Self.refused(body).first.map { String($0.prefix { $0 != ":" }) } ?? "" }
        let filter = Filter(name: "f", layer: Self.layer, action: .permit)
        #expect(codes { try $0.add(filter); try $0.add(filter) } == "engine.already-exists")
        #expect(codes { try $0.add(Sublayer(name: "s", weight: 1)); try $0.add(Sublayer(name: "s", weight: 2)) } == "engine.already-exists")
        #expect(codes { try $0.add(Sublayer.universal) } == "engine.already-exists")
        #expect(codes { try $0.add(Callout(key: BuiltInCallout.aleConnect.key(.v4), name: "c", layer: Self.layer)) } == "engine.already-exists")
        #expect(codes { try $0.deleteFilter(key: filter.key) } == "engine.not-found")
        #expect(codes { try $0.deleteSublayer(key: Sublayer.inspection.key) } == "engine.built-in")
        #expect(codes { try $0.deleteProvider(key: Provider.ikeext.key) } == "engine.built-in")
        #expect(codes { try $0.deleteCallout(key: BuiltInCallout.inboundTunnel.key(.v6)) } == "engine.built-in")
        #expect(codes { try $0.deleteProviderContext(key: filter.key) } == "engine.not-found")
        #expect(codes { try $0.add(Provider(name: "")) } == "engine.name")
    }

    @Test("What is still named can't go: the filter that names it is told")
    func inUse() throws {
        var engine = FilterEngine()
        let sublayer = Sublayer(name: "s", weight: 1)
        try engine.transaction {
            try $0.add(sublayer)
            try $0.add(Filter(name: "f", layer: Self.layer, sublayer: sublayer.key, action: .permit))
        }
        do {
            try engine.transaction { try $0.deleteSublayer(key: sublayer.key) }
            Issue.record("committed")
        } catch let errors as EngineErrors {
            #expect(errors.errors.first?.message.hasPrefix("filter \"f\" at OUTBOUND_TRANSPORT_V4: there is no sublayer") == true)
        }
        #expect(engine.state.sublayers == [sublayer])
    }

    @Test("Of two transactions that ran side by side the second is refused, and so is one whose effect fails")
    func conflict() throws {
        var engine = FilterEngine()
        var a = engine.begin()
        var b = engine.begin()
        try a.add(Provider(name: "a"))
        try b.add(Provider(name: "b"))
        try engine.commit(&a)
        #expect(throws: NDError.self) { try engine.commit(&b) }
        #expect(engine.state.providers.map(\.name) == ["a"])
        var c = engine.begin()
        try c.add(Provider(name: "c"))
        #expect(throws: NDError.self) { try engine.commit(&c) { _ in throw NDError("test", "no datapath") } }
        #expect(engine.state.providers.map(\.name) == ["a"] && engine.generation == 1)
        // It can be tried again as it is.
        try engine.commit(&c)
        #expect(engine.state.providers.map(\.name) == ["a", "c"])
    }

    @Test("Contexts keep to their type: flags in quick mode, extended mode in AuthIP's, known proposals")
    func contexts() {
        func refusal(_ context: ProviderContext) -> String { Self.refused { try $0.add(context) }.first ?? "" }
        let quick = ["aes128-gcm16"]
        #expect(refusal(ProviderContext(kind: .ikeQuickModeTransport, flags: .ndSecure, proposals: quick)) == "")
        #expect(refusal(ProviderContext(kind: .authIPQuickModeTransport, proposals: quick, extendedMode: .init(methods: [.kerberos]))) == "")
        #expect(refusal(ProviderContext(kind: .authIPMainMode, flags: .ndSecure, proposals: ["aes256-sha256-ecp256"])).contains("flag of quick-mode contexts"))
        #expect(refusal(ProviderContext(kind: .ikeQuickModeTransport, flags: [.ndSecure, .ndBoundary], proposals: quick)).contains("exclude each other"))
        #expect(refusal(ProviderContext(kind: .ikeQuickModeTransport, proposals: quick, extendedMode: .init(methods: [.ntlm]))).contains("has no extended mode"))
        #expect(refusal(ProviderContext(kind: .authIPQuickModeTransport, proposals: quick, extendedMode: .init(methods: []))).contains("names no method"))
        #expect(refusal(ProviderContext(kind: .ikeMainMode, proposals: quick)).contains("'aes128-gcm16' is no main-mode proposal"))
        #expect(refusal(ProviderContext(kind: .ikeMainMode, proposals: [])).contains("it offers nothing"))
    }

    @Test("Every scenario is a policy that a commit takes, and the engine adopts it")
    func scenarios() throws {
        for scenario in Scenario.allCases {
            let expanded = Examples.policy(scenario).expanded
            #expect(expanded.problems.isEmpty)
            var engine = try FilterEngine(expanded)
            try engine.transaction { try $0.add(Filter(name: "one more", layer: Self.layer, action: .block)) }
            #expect(engine.state.filters.last.map { $0.id == UInt32(expanded.filters.count + 1) } == true)
        }
    }

    @Test("Ten thousand filters are added and committed in a moment")
    func many() throws {
        var engine = FilterEngine()
        let clock = ContinuousClock()
        let took = try clock.measure {
            try engine.transaction { transaction in
                for port in UInt16(1)...10_000 {
                    try transaction.add(Filter(name: "port \(port)", layer: Self.layer, conditions: [.proto(6), .localPort(port...port)], action: .block))
                }
            }
        }
        #expect(engine.state.filters.count == 10_000)
        #expect(took < .seconds(20))
    }
}
