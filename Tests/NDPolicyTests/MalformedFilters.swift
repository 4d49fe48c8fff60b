/// What an operator may get wrong in the full WFP form, and what ndbpf says to it.
enum MalformedFilters {
    /// Six lines, so what a case adds to the list begins at line 7.
    private static let base = """
        version: 1
        authentication: { pre-shared-keys: [ { remote: any, file: /k } ] }
        provider-contexts: [ { name: mm, type: IPSEC_IKE_MM_CONTEXT, proposals: [aes256-sha256-ecp256] }, { name: qm, type: IPSEC_IKE_QM_TRANSPORT_CONTEXT, flags: [ND_SECURE], proposals: [aes128-gcm16] } ]
        sublayers: [ { name: mine, weight: 0x9000 } ]
        callouts: [ { name: inspect, layer: STREAM_V4 } ]
        filters:

        """

    private static let head = "version: 1\nauthentication: { pre-shared-keys: [ { remote: any, file: /k } ] }\n"

    static let cases: [MalformedTests.Case] = [
        .init(
            name: "unknown key in a filter",
            text: base + "  - { name: f, layer: IPSEC_V4, acton: PERMIT, action: PERMIT }\n",
            expected: """
                p.yaml:7:33: unknown key 'acton' in 'filters'
                  fix: did you mean 'action'?
                """),
        .init(
            name: "filter without a name",
            text: base + "  - { layer: IPSEC_V4, action: PERMIT }\n",
            expected: """
                p.yaml:7:5: 'filters.name' is missing
                  fix: give it a name; messages and listings use it
                """),
        .init(
            name: "filter without a layer",
            text: base + "  - { name: f, action: PERMIT }\n",
            expected: """
                p.yaml:7:5: 'filters.layer' is missing
                  fix: such as OUTBOUND_TRANSPORT_V4
                """),
        .init(
            name: "filter without an action",
            text: base + "  - { name: f, layer: IPSEC_V4 }\n",
            expected: """
                p.yaml:7:5: 'filters.action' is missing
                  fix: one of: PERMIT, BLOCK, CALLOUT_TERMINATING, CALLOUT_INSPECTION, CALLOUT_UNKNOWN
                """),
        .init(
            name: "misspelled layer",
            text: base + "  - { name: f, layer: OUTBOND_TRANSPORT_V4, action: PERMIT }\n",
            expected: """
                p.yaml:7:23: there is no layer 'OUTBOND_TRANSPORT_V4'
                  fix: did you mean 'OUTBOUND_TRANSPORT_V4'?
                """),
        .init(
            name: "layer without its family",
            text: base + "  - { name: f, layer: FWPM_LAYER_INBOUND_TRANSPORT, action: PERMIT }\n",
            expected: """
                p.yaml:7:23: 'filters.layer' is 'FWPM_LAYER_INBOUND_TRANSPORT' without its family
                  fix: write INBOUND_TRANSPORT_V4 or INBOUND_TRANSPORT_V6
                """),
        .init(
            name: "misspelled action",
            text: base + "  - { name: f, layer: IPSEC_V4, action: PERMITT }\n",
            expected: """
                p.yaml:7:41: there is no action 'PERMITT'
                  fix: did you mean 'PERMIT'? allowed: PERMIT, BLOCK, CALLOUT_TERMINATING, CALLOUT_INSPECTION, CALLOUT_UNKNOWN
                """),
        .init(
            name: "callout action without a callout",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: CALLOUT_TERMINATING }\n",
            expected: """
                p.yaml:7:5: 'filters.callout' is missing
                  fix: name the callout that CALLOUT_TERMINATING asks
                """),
        .init(
            name: "callout beside PERMIT",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, callout: IPSEC_OUTBOUND_TRANSPORT }\n",
            expected: """
                p.yaml:7:62: a callout is named, and the action is PERMIT
                  fix: remove it, or write action CALLOUT_TERMINATING
                """),
        .init(
            name: "misspelled callout",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: CALLOUT_TERMINATING, callout: IPSEC_OUTBOUND_TRANSPRT }\n",
            expected: """
                p.yaml:7:84: there is no callout 'IPSEC_OUTBOUND_TRANSPRT'
                  fix: did you mean 'IPSEC_OUTBOUND_TRANSPORT'?
                """),
        .init(
            name: "callout of another layer",
            text: base + "  - { name: f, layer: INBOUND_TRANSPORT_V4, action: CALLOUT_TERMINATING, callout: IPSEC_OUTBOUND_TRANSPORT }\n",
            expected: """
                p.yaml:7:74: filter "f" at INBOUND_TRANSPORT_V4: FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 works at OUTBOUND_TRANSPORT_V4, not at INBOUND_TRANSPORT_V4
                  fix: name the callout of this layer, or move the filter
                """),
        .init(
            name: "callout of the other family",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: CALLOUT_TERMINATING, callout: FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 }\n",
            expected: """
                p.yaml:7:75: filter "f" at OUTBOUND_TRANSPORT_V4: FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 works at OUTBOUND_TRANSPORT_V6, not at OUTBOUND_TRANSPORT_V4
                  fix: name the callout of this layer, or move the filter
                """),
        .init(
            name: "third party's callout at a layer it was not added for",
            text: base + "  - { name: f, layer: DATAGRAM_DATA_V4, action: CALLOUT_INSPECTION, callout: inspect }\n",
            expected: """
                p.yaml:7:69: filter "f" at DATAGRAM_DATA_V4: callout "inspect" was added for STREAM_V4, not for DATAGRAM_DATA_V4
                  fix: add it for this layer too, with a key of its own
                """),
        .init(
            name: "built-in callout that only inspects",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: CALLOUT_INSPECTION, callout: IPSEC_OUTBOUND_TRANSPORT }\n",
            expected: """
                p.yaml:7:46: filter "f" at OUTBOUND_TRANSPORT_V4: FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 always decides, so CALLOUT_INSPECTION can't ask it
                  fix: write action CALLOUT_TERMINATING
                """),
        .init(
            name: "misspelled raw context",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: CALLOUT_TERMINATING, callout: IPSEC_OUTBOUND_TRANSPORT, raw-context: NEGOTIATE }\n",
            expected: """
                p.yaml:7:123: 'NEGOTIATE' is no raw context of IPSEC_OUTBOUND_TRANSPORT
                  fix: one of: OUTBOUND_NEGOTIATE_DISCOVER, OUTBOUND_SUPPRESS_NEGOTIATION, or a number
                """),
        .init(
            name: "raw context without a callout",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, raw-context: 0x1 }\n",
            expected: """
                p.yaml:7:62: filter "f" at OUTBOUND_TRANSPORT_V4: a raw context is for a callout, and the action is PERMIT
                  fix: remove it
                """),
        .init(
            name: "raw context and provider context",
            text: base + "  - { name: f, layer: IKEEXT_V4, action: PERMIT, provider-context: mm, raw-context: 0x1 }\n",
            expected: """
                p.yaml:7:50: a filter has a raw context or a provider context, not both
                  fix: WFP keeps them in one place; remove one
                """),
        .init(
            name: "misspelled provider context",
            text: base + "  - { name: f, layer: IKEEXT_V4, action: PERMIT, provider-context: m }\n",
            expected: """
                p.yaml:7:68: there is no provider context 'm'
                  fix: did you mean 'mm'?
                """),
        .init(
            name: "provider context of another layer",
            text: base + "  - { name: f, layer: IKEEXT_V4, action: PERMIT, provider-context: qm }\n",
            expected: """
                p.yaml:7:50: filter "f" at IKEEXT_V4: provider context "qm" is an IPSEC_IKE_QM_TRANSPORT_CONTEXT, which belongs at IPSEC
                  fix: name a context of the layer's type, or move the filter to IPSEC_V4
                """),
        .init(
            name: "dangling provider context key",
            text: base + "  - { name: f, layer: IKEEXT_V4, action: PERMIT, provider-context: 01234567-89ab-cdef-0123-456789abcdef }\n",
            expected: """
                p.yaml:7:50: filter "f" at IKEEXT_V4: there is no provider context {01234567-89ab-cdef-0123-456789abcdef}
                  fix: add the provider context
                """),
        .init(
            name: "misspelled sublayer",
            text: base + "  - { name: f, layer: IPSEC_V4, sublayer: mnie, action: PERMIT }\n",
            expected: """
                p.yaml:7:43: there is no sublayer 'mnie'
                  fix: did you mean 'mine'?
                """),
        .init(
            name: "misspelled provider",
            text: base + "  - { name: f, layer: IPSEC_V4, provider: nobody, action: PERMIT }\n",
            expected: """
                p.yaml:7:43: there is no provider 'nobody'
                  fix: known: ndbpf, FWPM_PROVIDER_IKEEXT
                """),
        .init(
            name: "misspelled weight range",
            text: base + "  - { name: f, layer: IPSEC_V4, weight: IKE_EXEMPTION, action: PERMIT }\n",
            expected: """
                p.yaml:7:41: 'filters.weight' is 'IKE_EXEMPTION', which is no weight
                  fix: did you mean 'IKE_EXEMPTIONS'?
                """),
        .init(
            name: "weight range beyond 15",
            text: base + "  - { name: f, layer: IPSEC_V4, weight: range 16, action: PERMIT }\n",
            expected: """
                p.yaml:7:41: 'filters.weight' is 'range 16', which is no weight
                  fix: automatic, a number up to 0xffffffffffffffff, IPSEC, EXEMPTIONS, IKE_EXEMPTIONS, or "range 0" to "range 15"
                """),
        .init(
            name: "unknown filter flag",
            text: base + "  - { name: f, layer: IPSEC_V4, flags: [PERSISTENT], action: PERMIT }\n",
            expected: """
                p.yaml:7:40: 'filters.flags' can't be 'PERSISTENT'
                  fix: allowed: CLEAR_ACTION_RIGHT
                """),
        .init(
            name: "key that is no GUID",
            text: base + "  - { name: f, key: 1234, layer: IPSEC_V4, action: PERMIT }\n",
            expected: """
                p.yaml:7:21: 'filters.key' is '1234', which is no GUID
                  fix: 8-4-4-4-12 hexadecimal digits, or leave it out: the name gives one
                """),
        .init(
            name: "two filters of one name at a layer",
            text: base + "  - { name: f, layer: IPSEC_V4, action: PERMIT }\n  - { name: f, layer: IPSEC_V4, action: BLOCK }\n",
            expected: """
                p.yaml:8:7: filter "f" at IPSEC_V4: there are two filters "f"
                  fix: give one of them another name, or a key of its own
                """),
        .init(
            name: "misspelled field",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PROT, value: 1 } ] }\n",
            expected: """
                p.yaml:7:85: there is no field 'IP_REMOTE_PROT'
                  fix: did you mean 'IP_REMOTE_PORT'?
                """),
        .init(
            name: "field that the layer doesn't know",
            text: base + "  - { name: f, layer: IKEEXT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PORT, value: 1 } ] }\n",
            expected: """
                p.yaml:7:64: filter "f" at IKEEXT_V4: IP_REMOTE_PORT is not known at IKEEXT
                  fix: known there: IP_LOCAL_ADDRESS, IP_REMOTE_ADDRESS
                """),
        .init(
            name: "condition without a value",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PORT } ] }\n",
            expected: """
                p.yaml:7:76: 'conditions.value' is missing
                  fix: what IP_REMOTE_PORT is compared with
                """),
        .init(
            name: "misspelled match type",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PORT, match: GREATR, value: 1 } ] }\n",
            expected: """
                p.yaml:7:108: there is no match type 'GREATR'
                  fix: did you mean 'GREATER'?
                """),
        .init(
            name: "match type that the field doesn't know",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PORT, match: PREFIX, value: 1 } ] }\n",
            expected: """
                p.yaml:7:76: filter "f" at OUTBOUND_TRANSPORT_V4: IP_REMOTE_PORT can't be asked for PREFIX
                  fix: possible: EQUAL, NOT_EQUAL, GREATER, GREATER_OR_EQUAL, LESS, LESS_OR_EQUAL, RANGE
                """),
        .init(
            name: "port that is none",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PORT, value: http } ] }\n",
            expected: """
                p.yaml:7:108: 'http' is no value of IP_REMOTE_PORT
                  fix: a number, or "low-high" with the lower one first
                """),
        .init(
            name: "port beyond 65535",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PORT, value: 65536 } ] }\n",
            expected: """
                p.yaml:7:76: filter "f" at OUTBOUND_TRANSPORT_V4: IP_REMOTE_PORT can't be compared with '65536' by EQUAL
                  fix: a number from 0 to 65535
                """),
        .init(
            name: "range the wrong way round",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PORT, value: 9-5 } ] }\n",
            expected: """
                p.yaml:7:108: '9-5' is no value of IP_REMOTE_PORT
                  fix: a number, or "low-high" with the lower one first
                """),
        .init(
            name: "address with host bits",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_ADDRESS, value: 192.0.2.1/24 } ] }\n",
            expected: """
                p.yaml:7:111: '192.0.2.1/24' has bits beyond its length
                  fix: write 192.0.2.0/24, or the address alone for the one host
                """),
        .init(
            name: "IPv6 address at an IPv4 layer",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_ADDRESS, value: \"2001:db8::/32\" } ] }\n",
            expected: """
                p.yaml:7:76: filter "f" at OUTBOUND_TRANSPORT_V4: 2001:db8:: is no IPv4 address, so it never occurs at OUTBOUND_TRANSPORT_V4
                  fix: write a filter for each family
                """),
        .init(
            name: "misspelled flag",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: FLAGS, value: IS_IPSEC_SECURE } ] }\n",
            expected: """
                p.yaml:7:99: there is no flag 'IS_IPSEC_SECURE'
                  fix: did you mean 'IS_IPSEC_SECURED'?
                """),
        .init(
            name: "misspelled address type",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_LOCAL_ADDRESS_TYPE, value: uni } ] }\n",
            expected: """
                p.yaml:7:115: 'uni' is no value of IP_LOCAL_ADDRESS_TYPE
                  fix: one of: NlatUnspecified, NlatUnicast, NlatAnycast, NlatMulticast, NlatBroadcast
                """),
        .init(
            name: "two conditions that exclude on one field",
            text: base + "  - { name: f, layer: OUTBOUND_TRANSPORT_V4, action: PERMIT, conditions: [ { field: IP_REMOTE_PORT, match: NOT_EQUAL, value: 1 }, { field: IP_REMOTE_PORT, match: NOT_EQUAL, value: 2 } ] }\n",
            expected: """
                p.yaml:7:131: two IP_REMOTE_PORT conditions that exclude one value each match everything: conditions on one field are alternatives
                  fix: let a heavier filter take these values out
                """),
        .init(
            name: "decision at a discard layer",
            text: base + "  - { name: f, layer: STREAM_V4_DISCARD, action: BLOCK }\n",
            expected: """
                p.yaml:7:42: filter "f" at STREAM_V4_DISCARD: nothing is decided at a DISCARD layer: it shows what was dropped
                  fix: use CALLOUT_INSPECTION, or decide at STREAM
                """),
        .init(
            name: "a scenario's setting without a scenario",
            text: base + "  - { name: f, layer: IPSEC_V4, action: PERMIT }\nicmp: protect\n",
            expected: """
                p.yaml:8:1: 'icmp' is a setting of scenarios, and this policy has none
                  fix: write a filter with action PERMIT and weight IKE_EXEMPTIONS
                """),
        .init(
            name: "sublayer weight beyond 16 bits",
            text: head + "sublayers: [ { name: s, weight: 65536 } ]\nfilters: []\n",
            expected: """
                p.yaml:3:33: 'sublayers.weight' is '65536'
                  fix: a number from 0 to 65535; UNIVERSAL has 32768
                """),
        .init(
            name: "sublayer with a built-in's key",
            text: head + "sublayers: [ { name: s, weight: 1, key: eebecc03-ced4-4380-819a-2734397b2b74 } ]\nfilters: []\n",
            expected: """
                p.yaml:3:36: sublayer "s": the key {eebecc03-ced4-4380-819a-2734397b2b74} is a built-in sublayer's
                  fix: built-in objects are always there; leave it out
                """),
        .init(
            name: "unknown context type",
            text: head + "provider-contexts: [ { name: c, type: IPSEC_IKE_CONTEXT, proposals: [aes128-gcm16] } ]\nfilters: []\n",
            expected: """
                p.yaml:3:39: 'provider-contexts.type' can't be 'IPSEC_IKE_CONTEXT'
                  fix: allowed: IPSEC_IKE_MM_CONTEXT, IPSEC_AUTHIP_MM_CONTEXT, IPSEC_IKE_QM_TRANSPORT_CONTEXT, IPSEC_AUTHIP_QM_TRANSPORT_CONTEXT
                """),
        .init(
            name: "flag on a main-mode context",
            text: head + "provider-contexts: [ { name: c, type: IPSEC_IKE_MM_CONTEXT, flags: [ND_SECURE], proposals: [aes256-sha256-ecp256] } ]\nfilters: []\n",
            expected: """
                p.yaml:3:61: provider context "c": ND_SECURE is a flag of quick-mode contexts
                  fix: move it to the quick-mode context
                """),
        .init(
            name: "misspelled context flag",
            text: head + "provider-contexts: [ { name: c, type: IPSEC_IKE_QM_TRANSPORT_CONTEXT, flags: [ND_SECURED], proposals: [aes128-gcm16] } ]\nfilters: []\n",
            expected: """
                p.yaml:3:78: 'provider-contexts.flags' can't be 'ND_SECURED'
                  fix: allowed: ND_SECURE, ND_BOUNDARY
                """),
        .init(
            name: "misspelled proposal of a context",
            text: head + "provider-contexts: [ { name: c, type: IPSEC_IKE_QM_TRANSPORT_CONTEXT, proposals: [aes128-gcm61] } ]\nfilters: []\n",
            expected: """
                p.yaml:3:83: provider context "c": 'aes128-gcm61' is no quick-mode proposal
                  fix: did you mean 'aes128-gcm16'? known: aes128-gcm16, aes192-gcm16, aes256-gcm16, aes128-cbc-sha256, aes192-cbc-sha256, aes256-cbc-sha256
                """),
        .init(
            name: "extended mode outside AuthIP",
            text: head + "provider-contexts: [ { name: c, type: IPSEC_IKE_QM_TRANSPORT_CONTEXT, proposals: [aes128-gcm16], extended-mode: [kerberos] } ]\nfilters: []\n",
            expected: """
                p.yaml:3:98: provider context "c": IPSEC_IKE_QM_TRANSPORT_CONTEXT has no extended mode
                  fix: extended mode belongs to an IPSEC_AUTHIP_QM_TRANSPORT_CONTEXT and names how the user authenticates
                """),
        .init(
            name: "machine with a name that is not ASCII",
            text: base + "  - { name: f, layer: ALE_AUTH_CONNECT_V4, conditions: [ { field: ALE_REMOTE_MACHINE_ID, value: bäta.example } ], action: BLOCK }\n",
            expected: """
                p.yaml:7:58: filter "f" at ALE_AUTH_CONNECT_V4: the identity 'bäta.example' has characters other than printable ASCII
                  fix: write a host name in its ASCII form (xn--…)
                """),
        .init(
            name: "filters that are no list",
            text: head + "filters: PERMIT\n",
            expected: """
                p.yaml:3:10: 'filters' must be a list of mappings, found a single value
                  fix: write `filters: [...]`, or one `- ...` a line
                """),
    ]
}
