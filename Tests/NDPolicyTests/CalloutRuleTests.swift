import NDCore
import NDPolicy
import Testing

@Suite("Rules of callouts that live with IPsec")
struct CalloutRuleTests {
    private static let object = "/usr/lib/callouts/a.bpf.o"
    private static let look = CalloutProgram(object: object, entry: "look")

    private static func callout(_ kind: Layer.Kind, _ family: IPFamily = .v4, _ program: CalloutProgram? = look) -> Callout {
        Callout(name: "third party", layer: Layer(kind, family), program: program)
    }

    /// Everything that a commit says of the callouts and filters.
    private static func refused(
        _ callouts: [Callout], _ filters: [Filter] = [], sublayers: [Sublayer] = [], traits: ProgramTraits? = nil
    ) -> [String] {
        var engine = FilterEngine()
        let before = engine
        do {
            try engine.transaction(reading: { _ in traits }) {
                for sublayer in sublayers { try $0.add(sublayer) }
                for callout in callouts { try $0.add(callout) }
                for filter in filters { try $0.add(filter) }
            }
            return []
        } catch let errors as EngineErrors {
            #expect(engine == before)
            return errors.errors.map { "\($0)" }
        } catch {
            return ["\(error)"]
        }
    }

    @Test("A program that reads payload is refused at IPPACKET, with the layers named that have it in clear; another is taken")
    func packets() {
        #expect(
            Self.refused([Self.callout(.inboundIPPacket)], traits: .readsPayload) == [
                """
                callout "third party": 'look' of /usr/lib/callouts/a.bpf.o reads payload, and at INBOUND_IPPACKET_V4 a packet may be ESP that is not decrypted yet
                  fix: register it at INBOUND_TRANSPORT_V4, or STREAM_V4 or DATAGRAM_DATA_V4 for payload alone
                """
            ])
        #expect(
            Self.refused([Self.callout(.outboundIPPacket, .v6)], traits: [.readsPayload, .changesPackets]) == [
                """
                callout "third party": 'look' of /usr/lib/callouts/a.bpf.o reads payload, and at OUTBOUND_IPPACKET_V6 a packet may be ESP, encrypted already
                  fix: register it at OUTBOUND_TRANSPORT_V6, or STREAM_V6 or DATAGRAM_DATA_V6 for payload alone
                """
            ])
        for kind in [Layer.Kind.inboundIPPacket, .outboundIPPacket] {
            for traits: ProgramTraits in [[], .changesPackets] { #expect(Self.refused([Self.callout(kind)], traits: traits) == []) }
        }
        // Where payload is in clear it may be read.
        for kind in [Layer.Kind.stream, .datagramData, .aleAuthConnect, .aleAuthRecvAccept] {
            for family in IPFamily.allCases { #expect(Self.refused([Self.callout(kind, family)], traits: .readsPayload) == []) }
        }
    }

    @Test("At the forward layer no program is taken; one that reads payload is told where it can")
    func forward() {
        #expect(
            Self.refused([Self.callout(.ipForward)], traits: .readsPayload) == [
                """
                callout "third party": 'look' of /usr/lib/callouts/a.bpf.o reads payload, and at IPFORWARD_V4 a packet may be ESP between other hosts
                  fix: on the host that it is for, register it at INBOUND_TRANSPORT_V4, or STREAM_V4 or DATAGRAM_DATA_V4 for payload alone
                """
            ])
        for traits in [nil, [] as ProgramTraits] {
            #expect(
                Self.refused([Self.callout(.ipForward, .v6)], traits: traits) == [
                    """
                    callout "third party": no program is asked at IPFORWARD_V6: ndbpf has no say in forwarded packets
                      fix: register it at a transport or IPPACKET layer of the host that the packets are for
                    """
                ])
        }
    }

    @Test("Nor at DISCARD layers, whose drops are events, nor where keying modules look up their policy")
    func noPacket() {
        #expect(
            Self.refused([Self.callout(.streamDiscard)]) == [
                """
                callout "third party": no program is asked at STREAM_V4_DISCARD: what STREAM_V4 drops is told as events
                  fix: `ndbpf monitor` shows every one; to decide, register it at STREAM_V4
                """
            ])
        for kind in Layer.Kind.allCases where kind.isDiscard {
            #expect(Self.refused([Self.callout(kind)]).count == 1)
            #expect(Self.refused([Self.callout(kind, .v4, nil)]) == [])
        }
        #expect(
            Self.refused([Self.callout(.ikeext), Self.callout(.ipsec, .v6)]) == [
                """
                callout "third party": no program is asked at IKEEXT_V4: keying modules look their policy up there, and no packet passes
                  fix: register it at a transport, ALE_AUTH, STREAM, DATAGRAM_DATA or IPPACKET layer
                """,
                """
                callout "third party": no program is asked at IPSEC_V6: keying modules look their policy up there, and no packet passes
                  fix: register it at a transport, ALE_AUTH, STREAM, DATAGRAM_DATA or IPPACKET layer
                """,
            ])
    }

    @Test("A transport callout's object must be at ALE_AUTH_RECV_ACCEPT of its family too, whichever its entry there")
    func accept() {
        #expect(
            Self.refused([Self.callout(.outboundTransport)]) == [
                """
                callout "third party": 'look' of /usr/lib/callouts/a.bpf.o stands at OUTBOUND_TRANSPORT_V4, and /usr/lib/callouts/a.bpf.o has no callout at ALE_AUTH_RECV_ACCEPT_V4: a packet that ALE must classify can't be blocked before that
                  fix: add a callout at ALE_AUTH_RECV_ACCEPT_V4 with a program of that object
                """
            ])
        let other = CalloutProgram(object: Self.object, entry: "accept")
        for kind in [Layer.Kind.inboundTransport, .outboundTransport] {
            for family in IPFamily.allCases {
                let transport = Self.callout(kind, family)
                #expect(Self.refused([transport]).count == 1)
                #expect(Self.refused([transport, Self.callout(.aleAuthRecvAccept, family, other)]) == [])
                #expect(Self.refused([transport, Self.callout(.aleAuthRecvAccept, family == .v4 ? .v6 : .v4)]).count == 1)
                #expect(Self.refused([transport, Self.callout(.aleAuthRecvAccept, family, nil)]).count == 1)
                let foreign = CalloutProgram(object: "/other.o", entry: "look")
                #expect(Self.refused([transport, Self.callout(.aleAuthRecvAccept, family, foreign)]).count == 1)
            }
        }
        // One without a program stands for nobody.
        #expect(Self.refused([Self.callout(.outboundTransport, .v4, nil)]) == [])
    }

    @Test("A filter that asks a program stands in a sublayer below UNIVERSAL")
    func sublayer() {
        let callout = Self.callout(.datagramData)
        func filter(_ sublayer: GUID, _ asked: Callout = callout) -> Filter {
            Filter(name: "ask", layer: asked.layer, sublayer: sublayer, action: .callout(.unknown, asked.key))
        }
        #expect(
            Self.refused([callout], [filter(Sublayer.universal.key)]) == [
                """
                filter "ask" at DATAGRAM_DATA_V4: it asks callout "third party", which has a program, in sublayer UNIVERSAL of weight 0x8000: programs are asked below UNIVERSAL, 0x8000
                  fix: name a sublayer with a lower weight: INSPECTION, or one of your own
                """
            ])
        for (weight, isTaken) in [(UInt16(0x7fff), true), (0x8000, false), (0xffff, false), (0, true)] {
            let mine = Sublayer(name: "mine", weight: weight)
            #expect(Self.refused([callout], [filter(mine.key)], sublayers: [mine]).isEmpty == isTaken)
        }
        #expect(Self.refused([callout], [filter(Sublayer.inspection.key)]) == [])
        let nobody = Self.callout(.datagramData, .v4, nil)
        #expect(Self.refused([nobody], [filter(Sublayer.universal.key, nobody)]) == [])
    }

    @Test("A program that changes packets can't look on only")
    func changing() {
        let callout = Self.callout(.datagramData)
        func refusal(_ use: CalloutUse, _ traits: ProgramTraits) -> [String] {
            Self.refused(
                [callout], [Filter(name: "ask", layer: callout.layer, sublayer: Sublayer.inspection.key, action: .callout(use, callout.key))],
                traits: traits)
        }
        #expect(
            refusal(.inspection, .changesPackets) == [
                """
                filter "ask" at DATAGRAM_DATA_V4: 'look' of /usr/lib/callouts/a.bpf.o changes packets, and CALLOUT_INSPECTION looks on only
                  fix: write action CALLOUT_TERMINATING or CALLOUT_UNKNOWN
                """
            ])
        #expect(refusal(.inspection, .readsPayload) == [])
        for use in [CalloutUse.unknown, .terminating] { #expect(refusal(use, .changesPackets) == []) }
    }

    @Test("Sixty-four programs are taken, the next is refused; callouts may share them")
    func most() {
        func callouts(_ count: Int) -> [Callout] {
            (1...count).map {
                Callout(name: "c\($0)", layer: Layer(.stream, .v4), program: CalloutProgram(object: Self.object, entry: "p\($0)"))
            }
        }
        #expect(Self.refused(callouts(64)) == [])
        #expect(
            Self.refused(callouts(65)) == [
                """
                callout "c65": its program is number 65, the limit is 64
                  fix: let callouts share programs: one may stand at several layers
                """
            ])
        #expect(Self.refused(callouts(64) + [Callout(name: "again", layer: Layer(.stream, .v6), program: callouts(1)[0].program)]) == [])
    }

    @Test("What can't be read is told once, at the first callout that has it, and read once")
    func unreadable() {
        let policy = ExpandedPolicy(callouts: [Self.callout(.stream), Self.callout(.stream, .v6), Self.callout(.datagramData, .v4, nil)])
        nonisolated(unsafe) var reads = 0
        let problems = policy.problems { (program: CalloutProgram) throws(NDError) -> ProgramTraits? in
            reads += 1
            throw NDError("callout.object", "\(program.object) is no BPF object", hint: "build it with clang -target bpf")
        }
        #expect(reads == 1)
        #expect(problems == [Problem(.callout, 0, "program", "program", "/usr/lib/callouts/a.bpf.o is no BPF object", hint: "build it with clang -target bpf")])
    }

    @Test("Programs are listed once in the callouts' order, and numbered in their generation's half")
    func numbers() {
        let other = CalloutProgram(object: Self.object, entry: "other")
        let policy = ExpandedPolicy(callouts: [
            Self.callout(.stream), Self.callout(.datagramData, .v4, nil), Self.callout(.stream, .v6, other), Self.callout(.datagramData, .v6),
        ])
        #expect(policy.programs == [Self.look, other])
        let numbers = CalloutNumbers(policy.programs.map { ($0, $0 == other ? .changesPackets : .readsPayload) }, first: 64)
        #expect(numbers[Self.look]?.number == 64 && numbers[Self.look]?.changes == false)
        #expect(numbers[other]?.number == 65 && numbers[other]?.changes == true)
        #expect(numbers[CalloutProgram(object: "/x", entry: "look")] == nil && CalloutNumbers.none[Self.look] == nil)
    }

    @Test("More filters of a layer than one packet can be asked for are refused")
    func crowded() {
        func problems(_ count: Int) -> [String] {
            let callout = Self.callout(.stream)
            let filters = (0..<count).map { index in
                Filter(
                    id: UInt32(index + 1), name: "f\(index)", layer: callout.layer, sublayer: Sublayer.inspection.key,
                    conditions: [Condition(.remotePort, .equal, .number(UInt64(index)))], action: .callout(.inspection, callout.key))
            }
            return ExpandedPolicy(callouts: [callout], filters: filters).problems.map { "\($0.message)\n\($0.hint ?? "")" }
        }
        #expect(problems(16) == [])
        #expect(
            problems(18) == [
                "it is filter number 17 of STREAM_V4 that asks a program, the limit is 16\njoin filters that ask the same program: conditions of one field are alternatives"
            ])
    }

    @Test("In a policy file a rule's refusal has its line and column")
    func places() {
        let text = """
            version: 1
            authentication: { pre-shared-keys: [ { remote: any, file: /k } ] }
            callouts:
              - { name: early, layers: [DATAGRAM_DATA_V4, INBOUND_IPPACKET_V4], program: { object: a.o, entry: early } }
              - name: gone
                layer: STREAM_V4
                program: { object: gone.o, entry: gone }
            filters:
              - { name: ask, layer: DATAGRAM_DATA_V4, action: CALLOUT_INSPECTION, sublayer: INSPECTION, callout: early }
            """
        do {
            _ = try Policy.parse(text, file: "/etc/nd/p.yaml") { (program: CalloutProgram) throws(NDError) -> ProgramTraits? in
                guard program.entry != "gone" else { throw NDError("callout.object", "there is no \(program.object)", hint: "build it") }
                return [.readsPayload, .changesPackets]
            }
            Issue.record("accepted")
        } catch {
            #expect(
                error.errors.map { "\($0)" }.joined(separator: "\n") == """
                    /etc/nd/p.yaml:4:20: callout "early": 'early' of /etc/nd/a.o reads payload, and at INBOUND_IPPACKET_V4 a packet may be ESP that is not decrypted yet
                      fix: register it at INBOUND_TRANSPORT_V4, or STREAM_V4 or DATAGRAM_DATA_V4 for payload alone
                    /etc/nd/p.yaml:7:5: callout "gone": there is no /etc/nd/gone.o
                      fix: build it
                    /etc/nd/p.yaml:9:43: filter "ask" at DATAGRAM_DATA_V4: 'early' of /etc/nd/a.o changes packets, and CALLOUT_INSPECTION looks on only
                      fix: write action CALLOUT_TERMINATING or CALLOUT_UNKNOWN
                    """)
        }
    }
}
