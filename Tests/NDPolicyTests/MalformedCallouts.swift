/// What an operator may get wrong with callouts of third parties, and what ndbpf says to it.
enum MalformedCallouts {
    private static let head = "version: 1\nauthentication: { pre-shared-keys: [ { remote: any, file: /k } ] }\n"

    private static func callout(_ fields: String) -> String { head + "callouts: [ { name: c, \(fields) } ]\nfilters: []\n" }

    static let cases: [MalformedTests.Case] = [
        .init(
            name: "program as a number",
            text: callout("layer: STREAM_V4, program: 7"),
            expected: """
                p.yaml:3:51: 'callouts.program' must be a mapping, found a single value
                  fix: known here: object, entry
                """),
        .init(
            name: "program without an entry",
            text: callout("layer: STREAM_V4, program: { object: /a.o }"),
            expected: """
                p.yaml:3:51: 'callouts.program.entry' is missing
                  fix: the name of a program in that file
                """),
        .init(
            name: "program without an object",
            text: callout("layer: STREAM_V4, program: { entry: look }"),
            expected: """
                p.yaml:3:51: 'callouts.program.object' is missing
                  fix: the path of a BPF object file
                """),
        .init(
            name: "misspelled key of a program",
            text: callout("layer: STREAM_V4, program: { objekt: /a.o, entry: look }"),
            expected: """
                p.yaml:3:51: 'callouts.program.object' is missing
                  fix: the path of a BPF object file
                p.yaml:3:53: unknown key 'objekt' in 'callouts.program'
                  fix: did you mean 'object'?
                """),
        .init(
            name: "folder for an object",
            text: callout("layer: STREAM_V4, program: { object: /usr/lib/callouts/, entry: look }"),
            expected: """
                p.yaml:3:61: 'callouts.program.object' is '/usr/lib/callouts/', which is no path of a file
                  fix: a path such as /usr/lib/callouts/mine.bpf.o; a relative one begins in the policy file's folder
                """),
        .init(
            name: "section for an entry",
            text: callout("layer: STREAM_V4, program: { object: a.o, entry: cgroup_skb/ingress }"),
            expected: """
                p.yaml:3:73: 'callouts.program.entry' is 'cgroup_skb/ingress', which is no program's name
                  fix: the name that its C source gives to ND_CALLOUT_PROGRAM
                """),
        .init(
            name: "layer and layers",
            text: callout("layer: STREAM_V4, layers: [STREAM_V6]"),
            expected: """
                p.yaml:3:24: 'callouts.layer' is given beside 'layers'
                  fix: keep one of them
                """),
        .init(
            name: "one key for several callouts",
            text: callout("key: 01234567-89ab-cdef-0123-456789abcdef, layers: [STREAM_V4, STREAM_V6]"),
            expected: """
                p.yaml:3:24: 'callouts.key' is given beside 'layers'
                  fix: leave it out: each layer's callout has a key of its own
                """),
        .init(
            name: "no layers",
            text: callout("layers: []"),
            expected: """
                p.yaml:3:24: 'callouts.layers' names none
                  fix: such as [STREAM_V4, STREAM_V6]
                """),
        .init(
            name: "misspelled layer in a list",
            text: callout("layers: [STREAM_V4, DATAGRAM_DAT_V4]"),
            expected: """
                p.yaml:3:44: there is no layer 'DATAGRAM_DAT_V4'
                  fix: did you mean 'DATAGRAM_DATA_V4'?
                """),
        .init(
            name: "layer twice",
            text: callout("layers: [STREAM_V4, STREAM_V4]"),
            expected: """
                p.yaml:3:15: callout "c": there are two callouts "c"
                  fix: give one of them another name, or a key of its own
                """),
        .init(
            name: "program where packets are forwarded",
            text: callout("layer: IPFORWARD_V4, program: { object: a.o, entry: look }"),
            expected: """
                p.yaml:3:24: callout "c": no program is asked at IPFORWARD_V4: ndbpf has no say in forwarded packets
                  fix: register it at a transport or IPPACKET layer of the host that the packets are for
                """),
        .init(
            name: "program at a DISCARD layer",
            text: callout("layer: INBOUND_IPPACKET_V6_DISCARD, program: { object: a.o, entry: look }"),
            expected: """
                p.yaml:3:24: callout "c": no program is asked at INBOUND_IPPACKET_V6_DISCARD: what INBOUND_IPPACKET_V6 drops is told as events
                  fix: `ndbpf monitor` shows every one; to decide, register it at INBOUND_IPPACKET_V6
                """),
        .init(
            name: "transport callout that is not at ALE",
            text: callout("layers: [INBOUND_TRANSPORT_V4, ALE_AUTH_RECV_ACCEPT_V6], program: { object: a.o, entry: look }"),
            expected: """
                p.yaml:3:24: callout "c": 'look' of a.o stands at INBOUND_TRANSPORT_V4, and a.o has no callout at ALE_AUTH_RECV_ACCEPT_V4: a packet that ALE must classify can't be blocked before that
                  fix: add a callout at ALE_AUTH_RECV_ACCEPT_V4 with a program of that object
                """),
        .init(
            name: "program asked in UNIVERSAL",
            text: head + "callouts: [ { name: c, layer: STREAM_V4, program: { object: a.o, entry: look } } ]\nfilters:\n  - { name: f, layer: STREAM_V4, action: CALLOUT_UNKNOWN, callout: c }\n",
            expected: """
                p.yaml:5:5: filter "f" at STREAM_V4: it asks callout "c", which has a program, in sublayer UNIVERSAL of weight 0x8000: programs are asked below UNIVERSAL, 0x8000
                  fix: name a sublayer with a lower weight: INSPECTION, or one of your own
                """),
    ]
}
