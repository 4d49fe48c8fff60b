import NDCore
import NDPolicy

enum Examples {
    static let full = """
        version: 1
        scenario: negotiation-discovery
        interfaces: [eth0, wlan0.5]
        exempt:
          - { remote: 192.0.2.0/24 }
          - { protocol: tcp, local-port: 22 }
          - { protocol: udp, remote-port: [53, "5000-5010"], direction: outbound }
        icmp: exempt
        dhcp: exempt
        keying:
          modules: [ikev1]
          main-mode:  { proposals: [aes256-sha256-ecp256, aes128-sha1-modp2048], lifetime: 8h }
          quick-mode: { proposals: [aes128-gcm16, aes256-gcm16, aes256-cbc-sha256], pfs: none, lifetime: 1h, extended-sequence-numbers: true }
          retransmission: { first: 1s, tries: 5 }
        authentication:
          pre-shared-keys:
            - { remote: 198.51.100.0/24, file: /etc/ndbpf/psk }
            - { remote: any, file: /etc/ndbpf/psk-default }
        discovery:
          negative-cache: { first: 60s, factor: 2, most: 1h }
          budget: { concurrent: 64, per-second: 20, burst: 50 }
          clear-grace: 10s
        engine: { kind: auto, encapsulation: udp, aead: auto }
        metrics: { listen: 127.0.0.1:9466 }
        """

    static let boundary = """
        # a host that everybody may reach
        version: 1
        scenario: boundary
        icmp: protect
        dhcp: protect
        authentication:
          pre-shared-keys: [ { remote: any, file: /etc/ndbpf/psk } ]
        engine: { encapsulation: native }
        keying: { quick-mode: { proposals: [aes256-gcm16], pfs: ecp384 } }
        metrics: { listen: "[::1]:9466" }
        """

    static let secure = """
        version: 1
        scenario: secure
        exempt:
          - { protocol: tcp, local: 2001:db8::1, local-port: 22, direction: inbound }
        authentication:
          pre-shared-keys: [ { remote: 2001:db8::/32, file: /etc/ndbpf/psk } ]
        discovery: { clear-grace: 0s }
        """

    static let smallest = """
        version: 1
        scenario: negotiation-discovery
        authentication: { pre-shared-keys: [ { remote: any, file: /k } ] }

        """

    static func policy(_ scenario: Scenario, _ change: (inout Policy) -> Void = { _ in }) -> Policy {
        var policy = Policy(
            scenario: scenario, preSharedKeys: [PreSharedKeyReference(remote: nil, file: "/etc/ndbpf/psk")])
        change(&policy)
        return policy
    }
}

func address(_ text: String) -> IPAddress { IPAddress(text) ?? IPAddress(high: 0, low: 0) }

func prefix(_ text: String) throws -> IPPrefix {
    guard let prefix = IPPrefix(text) else { throw NDError("test.prefix", text) }
    return prefix
}

/// xorshift64*: the same sequence in every run.
struct Seeded: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed | 1 }

    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_f491_4f6c_dd1d
    }
}
