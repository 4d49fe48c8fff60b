/// What an operator may get wrong, and what ndbpf says to it.
enum Malformed {
    private static let base = Examples.smallest

    static let cases: [MalformedTests.Case] = [
        .init(
            name: "misspelled key",
            text: base + "interfces: [eth0]\n",
            expected: """
                p.yaml:4:1: unknown key 'interfces'
                  fix: did you mean 'interfaces'?
                """),
        .init(
            name: "unknown key far from any",
            text: base + "zebra: 1\n",
            expected: """
                p.yaml:4:1: unknown key 'zebra'
                  fix: known here: version, scenario, interfaces, exempt, icmp, icmp-errors, dhcp, keying, authentication, discovery, engine, metrics, tables, providers, provider-contexts, sublayers, callouts, filters
                """),
        .init(
            name: "misspelled nested key",
            text: base + "keying:\n  main-mode: { proposal: [aes256-sha256-ecp256] }\n",
            expected: """
                p.yaml:5:16: unknown key 'proposal' in 'keying.main-mode'
                  fix: did you mean 'proposals'?
                """),
        .init(
            name: "a table too small",
            text: base + "tables: { secured: 10, flow: 4096 }\n",
            expected: """
                p.yaml:4:20: 'tables.secured' is '10'
                  fix: a whole number from 64 to 16777216
                p.yaml:4:24: unknown key 'flow' in 'tables'
                  fix: did you mean 'flows'?
                """),
        .init(
            name: "misspelled scenario",
            text: "version: 1\nscenario: boundry\nauthentication: { pre-shared-keys: [ { remote: any, file: /k } ] }\n",
            expected: """
                p.yaml:2:11: 'scenario' can't be 'boundry'
                  fix: did you mean 'boundary'? allowed: negotiation-discovery, boundary, secure
                """),
        .init(
            name: "scenario of the wrong type",
            text: "version: 1\nscenario: [secure]\nauthentication: { pre-shared-keys: [ { remote: any, file: /k } ] }\n",
            expected: """
                p.yaml:2:11: 'scenario' must be a word, found a list
                  fix: give one value
                """),
        .init(
            name: "missing version and scenario",
            text: "interfaces: [eth0]\nauthentication: { pre-shared-keys: [ { remote: any, file: /k } ] }\n",
            expected: """
                p.yaml:1:1: 'version' is missing
                  fix: write `version: 1` at the top
                p.yaml:1:1: 'scenario' is missing
                  fix: one of: negotiation-discovery, boundary, secure; or write `filters`
                """),
        .init(
            name: "unknown version",
            text: "version: 2\nscenario: negotiation-discovery\nauthentication: { pre-shared-keys: [ { remote: any, file: /k } ] }\n",
            expected: """
                p.yaml:1:10: 'version' is '2'
                  fix: this version knows 1 only
                """),
        .init(
            name: "missing authentication",
            text: "version: 1\nscenario: secure\n",
            expected: """
                p.yaml:1:1: 'authentication' is missing
                  fix: write `authentication: { pre-shared-keys: [ { remote: any, file: /etc/ndbpf/psk } ] }`
                """),
        .init(
            name: "duplicate key",
            text: base + "icmp: exempt\nicmp: protect\n",
            expected: """
                p.yaml:4:1: given twice: 'icmp'
                  fix: keep one of them
                """),
        .init(
            name: "bare number as duration",
            text: base + "discovery: { clear-grace: 10 }\n",
            expected: """
                p.yaml:4:27: 'discovery.clear-grace' is '10', which is no duration
                  fix: say the unit: 10s, 10m or 10h
                """),
        .init(
            name: "unknown unit",
            text: base + "keying: { main-mode: { lifetime: 8d } }\n",
            expected: """
                p.yaml:4:34: 'keying.main-mode.lifetime' is '8d', which is no duration
                  fix: a whole number and ms, s, m or h: 30s, 8h
                """),
        .init(
            name: "duration out of range",
            text: base + "keying: { quick-mode: { lifetime: 5s } }\n",
            expected: """
                p.yaml:4:35: 'keying.quick-mode.lifetime' is 5s
                  fix: from 10s to 48h
                """),
        .init(
            name: "duration that overflows",
            text: base + "keying: { quick-mode: { lifetime: 99999999999999h } }\n",
            expected: """
                p.yaml:4:35: 'keying.quick-mode.lifetime' is '99999999999999h', which is no duration
                  fix: a whole number and ms, s, m or h: 30s, 8h
                """),
        .init(
            name: "bad address",
            text: base + "exempt:\n  - { remote: 192.0.2.300 }\n",
            expected: """
                p.yaml:5:15: 'exempt.remote' is '192.0.2.300', which is no address or prefix
                  fix: write 192.0.2.1, 192.0.2.0/24, 2001:db8::/32 or any
                """),
        .init(
            name: "host bits",
            text: base + "exempt:\n  - { remote: 192.0.2.7/24 }\n",
            expected: """
                p.yaml:5:15: 'exempt.remote' is 192.0.2.7/24, which has bits beyond its length
                  fix: write 192.0.2.0/24, or 192.0.2.7 for the one host
                """),
        .init(
            name: "prefix too long",
            text: base + "exempt:\n  - { remote: 2001:db8::/129 }\n",
            expected: """
                p.yaml:5:15: 'exempt.remote' is '2001:db8::/129', which is no address or prefix
                  fix: write 192.0.2.1, 192.0.2.0/24, 2001:db8::/32 or any
                """),
        .init(
            name: "mixed families",
            text: base + "exempt:\n  - { remote: 2001:db8::/32, local: 192.0.2.1 }\n",
            expected: """
                p.yaml:5:30: an exemption's local and remote are of different families
                  fix: write one exemption for IPv4 and one for IPv6
                """),
        .init(
            name: "port out of range",
            text: base + "exempt:\n  - { protocol: tcp, local-port: 65536 }\n",
            expected: """
                p.yaml:5:34: 'exempt.local-port' is '65536', which is no port or range
                  fix: a number from 1 to 65535, or "5000-5010" with the lower one first
                """),
        .init(
            name: "port range backwards",
            text: base + "exempt:\n  - { protocol: tcp, remote-port: \"20-10\" }\n",
            expected: """
                p.yaml:5:35: 'exempt.remote-port' is '20-10', which is no port or range
                  fix: a number from 1 to 65535, or "5000-5010" with the lower one first
                """),
        .init(
            name: "port without protocol",
            text: base + "exempt:\n  - { local-port: 22 }\n",
            expected: """
                p.yaml:5:7: 'local-port' needs a protocol
                  fix: add `protocol: tcp` or `protocol: udp`
                """),
        .init(
            name: "port of a protocol without ports",
            text: base + "exempt:\n  - { protocol: icmp, local-port: 22 }\n",
            expected: """
                p.yaml:5:23: icmp has no ports
                  fix: remove 'local-port', or use protocol tcp, udp or sctp
                """),
        .init(
            name: "unknown protocol",
            text: base + "exempt:\n  - { protocol: tpc }\n",
            expected: """
                p.yaml:5:17: 'exempt.protocol' can't be 'tpc'
                  fix: did you mean 'tcp'? allowed: tcp, udp, icmp, icmpv6, sctp, esp, ah, a number from 0 to 255
                """),
        .init(
            name: "exempting everything by accident",
            text: base + "exempt:\n  - { direction: both }\n",
            expected: """
                p.yaml:5:5: this exempts all traffic
                  fix: add a condition, or `remote: any` if that is meant
                """),
        .init(
            name: "unknown direction",
            text: base + "exempt:\n  - { remote: any, direction: outgoing }\n",
            expected: """
                p.yaml:5:31: 'exempt.direction' can't be 'outgoing'
                  fix: allowed: both, outbound, inbound
                """),
        .init(
            name: "exemptions that are no list",
            text: base + "exempt: { remote: any }\n",
            expected: """
                p.yaml:4:9: 'exempt' must be a list of exemptions, found a mapping
                  fix: write `exempt: [...]`, or one `- ...` a line
                """),
        .init(
            name: "inline secret",
            text: "version: 1\nscenario: negotiation-discovery\nauthentication: { pre-shared-keys: [ { remote: any, secret: hunter2, file: /k } ] }\n",
            expected: """
                p.yaml:3:53: a secret must not stand in the policy ('secret')
                  fix: put it into a file with mode 0600 and write `file: /etc/ndbpf/psk`
                """),
        .init(
            name: "relative key file",
            text: "version: 1\nscenario: negotiation-discovery\nauthentication: { pre-shared-keys: [ { remote: any, file: psk } ] }\n",
            expected: """
                p.yaml:3:53: 'file' must be an absolute path, found 'psk'
                  fix: write the whole path: /etc/ndbpf/psk
                """),
        .init(
            name: "key file without remote",
            text: "version: 1\nscenario: negotiation-discovery\nauthentication: { pre-shared-keys: [ { file: /k } ] }\n",
            expected: """
                p.yaml:3:38: 'authentication.pre-shared-keys.remote' is missing
                  fix: a prefix, or `remote: any`
                """),
        .init(
            name: "two keys for one prefix",
            text: "version: 1\nscenario: secure\nauthentication:\n  pre-shared-keys:\n    - { remote: 10.0.0.0/8, file: /a }\n    - { remote: 10.0.0.0/8, file: /b }\n",
            expected: """
                p.yaml:6:9: two keys for remote 10.0.0.0/8
                  fix: keep one of them
                """),
        .init(
            name: "module of a later version",
            text: base + "keying: { modules: [ikev1, authip] }\n",
            expected: """
                p.yaml:4:28: this version can't negotiate with authip yet
                  fix: write `modules: [ikev1]`; Windows hosts with an ND rule speak it too
                """),
        .init(
            name: "unknown module",
            text: base + "keying: { modules: [ikev3] }\n",
            expected: """
                p.yaml:4:21: 'keying.modules' can't be 'ikev3'
                  fix: did you mean 'ikev1'? allowed: ikev1
                """),
        .init(
            name: "unknown proposal",
            text: base + "keying: { quick-mode: { proposals: [aes128-gcm12] } }\n",
            expected: """
                p.yaml:4:37: 'keying.quick-mode.proposals' can't be 'aes128-gcm12'
                  fix: did you mean 'aes128-gcm16'? allowed: aes128-gcm16, aes192-gcm16, aes256-gcm16, aes128-cbc-sha256, aes192-cbc-sha256, aes256-cbc-sha256
                """),
        .init(
            name: "unknown main-mode proposal",
            text: base + "keying: { main-mode: { proposals: [aes256-sha265-ecp256] } }\n",
            expected: """
                p.yaml:4:36: 'keying.main-mode.proposals' can't be 'aes256-sha265-ecp256'
                  fix: did you mean 'aes256-sha256-ecp256'? allowed: aes128|aes192|aes256 - sha1|sha256|sha384 - modp2048|ecp256|ecp384
                """),
        .init(
            name: "empty proposals",
            text: base + "keying: { quick-mode: { proposals: [] } }\n",
            expected: """
                p.yaml:4:25: 'keying.quick-mode.proposals' is an empty list
                  fix: name at least one, such as aes128-gcm16
                """),
        .init(
            name: "proposal twice",
            text: base + "keying: { quick-mode: { proposals: [aes128-gcm16, aes128-gcm16] } }\n",
            expected: """
                p.yaml:4:51: proposal 'aes128-gcm16' is given twice
                  fix: keep one of them
                """),
        .init(
            name: "boolean that is none",
            text: base + "keying: { quick-mode: { extended-sequence-numbers: yes } }\n",
            expected: """
                p.yaml:4:52: 'keying.quick-mode.extended-sequence-numbers' can't be 'yes'
                  fix: allowed: true, false
                """),
        .init(
            name: "factor out of range",
            text: base + "discovery: { negative-cache: { factor: 0.5 } }\n",
            expected: """
                p.yaml:4:40: 'discovery.negative-cache.factor' is '0.5'
                  fix: a number from 1.0 to 10.0
                """),
        .init(
            name: "most shorter than first",
            text: base + "discovery: { negative-cache: { first: 1h, most: 60s } }\n",
            expected: """
                p.yaml:4:43: 'most' is shorter than 'first'
                  fix: 'most' is the longest back-off: make it at least 'first'
                """),
        .init(
            name: "budget of zero",
            text: base + "discovery: { budget: { concurrent: 0 } }\n",
            expected: """
                p.yaml:4:36: 'discovery.budget.concurrent' is '0'
                  fix: a whole number from 1 to 65536
                """),
        .init(
            name: "number that is none",
            text: base + "keying: { retransmission: { tries: many } }\n",
            expected: """
                p.yaml:4:36: 'keying.retransmission.tries' is 'many'
                  fix: a whole number from 1 to 20
                """),
        .init(
            name: "unknown engine",
            text: base + "engine: { kind: users }\n",
            expected: """
                p.yaml:4:17: 'engine.kind' can't be 'users'
                  fix: did you mean 'user'? allowed: auto, user, kernel
                """),
        .init(
            name: "unknown aead",
            text: base + "engine: { aead: ipsecmb }\n",
            expected: """
                p.yaml:4:17: 'engine.aead' can't be 'ipsecmb'
                  fix: did you mean 'ipsec-mb'? allowed: auto, openssl, ipsec-mb
                """),
        .init(
            name: "listener without port",
            text: base + "metrics: { listen: 127.0.0.1 }\n",
            expected: """
                p.yaml:4:20: 'metrics.listen' is '127.0.0.1', which is no address with a port
                  fix: write 127.0.0.1:9466, "[::1]:9466" or none
                """),
        .init(
            name: "interface name too long",
            text: base + "interfaces: [averyveryverylonginterface]\n",
            expected: """
                p.yaml:4:14: 'averyveryverylonginterface' is no interface name
                  fix: 1 to 15 characters without blanks, '/' and ':' (`ip -brief link` lists them), a pattern with * or ?, all, or default-route
                """),
        .init(
            name: "interface twice",
            text: base + "interfaces: [eth0, eth0]\n",
            expected: """
                p.yaml:4:20: interface 'eth0' is given twice
                  fix: keep one of them
                """),
        .init(
            name: "blank section",
            text: base + "keying:\n",
            expected: """
                p.yaml:4:8: 'keying' must be a mapping, found a blank
                  fix: known here: modules, main-mode, quick-mode, retransmission
                """),
        .init(
            name: "text instead of a mapping",
            text: "negotiation-discovery\n",
            expected: """
                p.yaml:1:1: a policy must be a mapping, found a single value
                  fix: known here: version, scenario, interfaces, exempt, icmp, icmp-errors, dhcp, keying, authentication, discovery, engine, metrics, tables, providers, provider-contexts, sublayers, callouts, filters
                """),
        .init(
            name: "broken YAML",
            text: base + "exempt: [ { remote: any }\n",
            expected: """
                p.yaml:5:1: not YAML: did not find expected ',' or ']'
                  fix: check indentation, quotes and brackets here and on the line above
                """),
        .init(
            name: "tab as indentation",
            text: base + "keying:\n\tmodules: [ikev1]\n",
            expected: """
                p.yaml:5:1: not YAML: found character that cannot start any token
                  fix: check indentation, quotes and brackets here and on the line above
                """),
        .init(
            name: "anchor",
            text: base + "engine: &e { kind: auto }\n",
            expected: """
                p.yaml:4:9: YAML anchors and aliases are not supported (found '&')
                  fix: write the value out where it is needed
                """),
        .init(
            name: "several errors at once",
            text: "version: one\nscenario: secure\nicmp: maybe\ndiscovery: { clear-grace: 90s }\n",
            expected: """
                p.yaml:1:1: 'authentication' is missing
                  fix: write `authentication: { pre-shared-keys: [ { remote: any, file: /etc/ndbpf/psk } ] }`
                p.yaml:1:10: 'version' is 'one'
                  fix: this version knows 1 only
                p.yaml:3:7: 'icmp' can't be 'maybe'
                  fix: allowed: exempt, protect
                p.yaml:4:27: 'discovery.clear-grace' is 90s
                  fix: from 0s to 60s
                """),
    ]
}
