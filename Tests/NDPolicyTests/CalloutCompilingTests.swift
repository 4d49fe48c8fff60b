import CNDABI
import Foundation
import NDABI
import NDCore
import Testing

@testable import NDPolicy

@Suite("Callouts of third parties, compiled, explained and listed")
struct CalloutCompilingTests {
    private static let look = CalloutProgram(object: "/usr/lib/callouts/a.bpf.o", entry: "look")
    private static let numbers = CalloutNumbers([(look, .changesPackets)], first: 3)

    private static func policy(
        _ kind: Layer.Kind, _ action: FilterAction, conditions: [Condition] = [], family: IPFamily = .v4
    ) -> ExpandedPolicy {
        let callout = Callout(name: "c", layer: Layer(kind, family), program: look)
        return ExpandedPolicy(
            callouts: [callout, Callout(name: "nobody's", layer: Layer(kind, family))],
            filters: [
                Filter(id: 1, name: "f", layer: Layer(kind, family), sublayer: Sublayer.inspection.key, conditions: conditions, action: action)
            ])
    }

    private static func asks(_ kind: Layer.Kind, _ use: CalloutUse = .unknown, _ conditions: [Condition] = []) -> ExpandedPolicy {
        policy(kind, .callout(use, Callout(name: "c", layer: Layer(kind, .v4)).key), conditions: conditions)
    }

    @Test("STREAM, DATAGRAM_DATA and IPPACKET are served: permit, block and programs reach the tables and come back")
    func served() throws {
        for kind in [Layer.Kind.stream, .datagramData, .inboundIPPacket, .outboundIPPacket] {
            for family in IPFamily.allCases {
                for action in [FilterAction.permit, .block, .callout(.unknown, Callout(name: "c", layer: Layer(kind, family)).key)] {
                    let filters = try Self.policy(kind, action, conditions: [.localAddressIsUnicast], family: family).rangeFilters(programs: Self.numbers)
                    let compiled = CompiledPolicy(filters: filters)
                    #expect(filters.count == 1 && filters[0].fields == [.localAddressType: [1...1]])
                    #expect(filters[0].layer.description == kind.rawValue && filters[0].family == family)
                    let back = try #require(CompiledPolicy(try compiled.image(generation: 1)))
                    #expect(back.filters.map(\.plain) == filters.map(\.plain))
                }
            }
        }
    }

    @Test("A filter in the tables has its program's number, and says when the packet must be looked at afterwards")
    func numbers() throws {
        let filter = try Self.asks(.stream).rangeFilters(programs: Self.numbers)[0].abi(next: 1)
        #expect(filter.kind == UInt8(ND_SAYS_PROGRAM.rawValue) && filter.context == 3 && UInt32(filter.flags) == ND_FILTER_CHANGES)
        let looking = try Self.asks(.stream, .inspection).rangeFilters(programs: CalloutNumbers([(Self.look, [])], first: 127))[0].abi(next: 1)
        #expect(looking.kind == UInt8(ND_SAYS_INSPECTION.rawValue) && looking.context == 127 && looking.flags == 0)
    }

    @Test("Where nothing is decided, an inspection that nobody registered is left out and anything else is refused")
    func unserved() throws {
        for kind in [Layer.Kind.ipForward, .streamDiscard, .inboundTransportDiscard] {
            let nobody = FilterAction.callout(.inspection, Callout(name: "nobody's", layer: Layer(kind, .v4)).key)
            #expect(try Self.policy(kind, nobody).rangeFilters() == [])
            for refused in [Self.asks(kind, .inspection), Self.policy(kind, .block)] {
                #expect(throws: NDError.self) { try refused.rangeFilters(programs: Self.numbers) }
            }
        }
    }

    @Test("At DATAGRAM_DATA the destination is the remote end of what goes out and the local end of what comes in")
    func destination() throws {
        let multicast = Condition(.destinationAddressType, .equal, .number(UInt64(NLAddressType.multicast.rawValue)))
        let policy = Self.policy(.datagramData, .block, conditions: [multicast])
        #expect(
            try policy.rangeFilters().map(\.fields) == [
                [.direction: [0...0], .remoteAddressType: [3...3]], [.direction: [1...1], .localAddressType: [3...3]],
            ])
        #expect(try Self.policy(.datagramData, .block, conditions: [multicast, .direction(.inbound)]).rangeFilters().map { $0.fields[.direction] } == [[], [1...1]])
        let compiled = CompiledPolicy(filters: try policy.rangeFilters())
        var packet = World.udp(Endpoint(address("224.0.0.251"), 5353))
        for (direction, isBlocked) in [(PacketDirection.outbound, true), (.inbound, false)] {
            packet.direction = direction
            #expect((compiled.decide(.datagramData, packet)?.action == .block) == isBlocked)
            #expect((policy.classify(.datagramData, packet).decision != nil) == isBlocked)
        }
    }

    @Test("Decrypted packets are asked for where a filter can block them or asks a program, and by no scenario")
    func decrypted() throws {
        func asks(_ policy: ExpandedPolicy) throws -> Bool {
            CompiledPolicy(filters: try policy.rangeFilters(programs: Self.numbers)).asksDecrypted
        }
        for scenario in Scenario.allCases { #expect(try !Examples.policy(scenario).compiled().asksDecrypted) }
        for kind in [Layer.Kind.inboundTransport, .aleAuthRecvAccept, .stream, .datagramData] {
            #expect(try asks(Self.policy(kind, .block)))
            #expect(try !asks(Self.policy(kind, .permit)))
            for use in CalloutUse.allCases { #expect(try asks(Self.asks(kind, use))) }
            let nobody = Callout(name: "nobody's", layer: Layer(kind, .v4)).key
            #expect(try asks(Self.policy(kind, .callout(.unknown, nobody))))
            #expect(try !asks(Self.policy(kind, .callout(.inspection, nobody))))
            #expect(try !asks(Self.policy(kind, .block, conditions: [.flags(.flagsNoneSet, .isIPsecSecured)])))
            #expect(try asks(Self.policy(kind, .block, conditions: [.flags(.flagsAllSet, .isIPsecSecured)])))
        }
        for kind in [Layer.Kind.outboundTransport, .aleAuthConnect, .inboundIPPacket, .outboundIPPacket] {
            #expect(try !asks(Self.policy(kind, .block)) && !asks(Self.asks(kind)))
        }
        #expect(try !asks(Self.policy(.stream, .block, conditions: [.direction(.outbound)])))
        #expect(try asks(Self.policy(.stream, .block, conditions: [.direction(.inbound)])))
    }

    @Test("An explanation shows a program as asked, its answer open, and what may change by it")
    func explained() {
        let layer = Layer(.outboundTransport, .v4)
        let asked = Callout(name: "c", layer: layer, program: Self.look)
        let policy = ExpandedPolicy(
            callouts: [asked],
            filters: [
                Filter(id: 1, name: "ask", layer: layer, sublayer: Sublayer.inspection.key, weight: .explicit(2), action: .callout(.terminating, asked.key)),
                Filter(id: 2, name: "watch", layer: layer, sublayer: Sublayer.inspection.key, weight: .explicit(1), action: .callout(.inspection, asked.key)),
            ])
        #expect(
            Explanation(World.tcp(.syn), .outbound, in: policy).text() == """
                packet      tcp 192.0.2.1:40000 > 192.0.2.2:443, outbound, clear

                FWPM_LAYER_OUTBOUND_TRANSPORT_V4
                  FWPM_SUBLAYER_INSPECTION (0x0000)
                    filter 1 "ask" 0x0000000000000002: matches and asks 'look' of /usr/lib/callouts/a.bpf.o; taken here as if it leaves the word to the next filter
                      CALLOUT_TERMINATING "c"
                    filter 2 "watch" 0x0000000000000001: matches and shows the packet to 'look' of /usr/lib/callouts/a.bpf.o, which looks on only
                      CALLOUT_INSPECTION "c"
                  decision  none

                verdict     pass: no filter has a say; what the programs asked answer is not known here and may change it

                """)
        // What nobody registered does decide.
        let nobody = ExpandedPolicy(callouts: [Callout(name: "c", layer: layer)], filters: policy.filters)
        #expect(Explanation(World.tcp(.syn), .outbound, in: nobody).verdict == "drop")
    }

    @Test("An explanation goes by IPPACKET and payload layers too where filters stand there")
    func layers() {
        func verdict(_ kind: Layer.Kind, _ packet: Packet, _ direction: PacketDirection) -> String {
            let explanation = Explanation(packet, direction, in: Self.policy(kind, .block))
            return "\(explanation.layers.map(\.layer).contains("FWPM_LAYER_\(kind.rawValue)_V4") ? "asked" : "not asked"), \(explanation.verdict): \(explanation.reason)"
        }
        #expect(verdict(.inboundIPPacket, World.tcp(.syn), .inbound) == "asked, drop: filter 1 blocks it as it comes")
        #expect(verdict(.inboundIPPacket, World.tcp(.syn), .outbound) == "not asked, pass: no filter has a say")
        #expect(verdict(.outboundIPPacket, World.proto(IPProtocol.esp), .outbound) == "asked, drop: filter 1 blocks it as it goes")
        #expect(verdict(.datagramData, World.udp(), .outbound) == "asked, drop: filter 1 blocks its payload")
        #expect(verdict(.datagramData, World.tcp(.syn), .outbound) == "not asked, pass: no filter has a say")
        #expect(verdict(.stream, World.tcp(.syn), .inbound) == "asked, pass: no filter asks new inbound connections for protection; filter 1 blocks its payload")
    }

    @Test("Listing, comparison and JSON name object and entry")
    func listed() throws {
        let policy = Self.asks(.stream)
        #expect(policy.listing.contains("  layer     FWPM_LAYER_STREAM_V4 {3b89653c-c170-49e4-b1cd-e0eeeee19a3e}\n  program   look of /usr/lib/callouts/a.bpf.o\n"))
        var old = Examples.policy(.boundary), new = old
        old.objects = policy
        new.objects = policy
        new.objects.callouts[0].program?.entry = "look_again"
        #expect(
            PolicyDifference(from: old, to: new).text
                == "~ callout \"c\" at STREAM_V4\n    program look of /usr/lib/callouts/a.bpf.o -> look_again of /usr/lib/callouts/a.bpf.o\n")
        #expect(FilterRecord(policy.filters[0], in: policy).program == Self.look)
        let json = try #require(String(data: try JSONEncoder().encode(policy.callouts[0]), encoding: .utf8))
        #expect(json.contains("\"program\":{") && json.contains("\"entry\":\"look\"") && json.contains("\"object\":\"\\/usr\\/lib\\/callouts\\/a.bpf.o\""))
    }
}
