/// What the three scenarios become. A change here is a change of what every policy means.
enum ExpansionGolden {
    static let negotiationDiscovery = """
        scenario negotiation-discovery

        context IPSEC_IKE_MM_CONTEXT #0
          proposals aes256-sha256-ecp256, aes128-sha1-modp2048
        context IPSEC_IKE_QM_TRANSPORT_CONTEXT #0  [ND_SECURE]
          proposals aes128-gcm16, aes256-gcm16, aes256-cbc-sha256

        filter 1 "main mode"
          layer     FWPM_LAYER_IKEEXT_V4 {b14b7bdb-dbbd-473e-bed4-8b4708d4f270}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000ffffffff (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_MM_CONTEXT #0

        filter 2 "main mode"
          layer     FWPM_LAYER_IKEEXT_V6 {b64786b3-f687-4eb9-89d2-8ef32acdabe2}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000ffffffff (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_MM_CONTEXT #0

        filter 3 "quick mode"
          layer     FWPM_LAYER_IPSEC_V4 {eda65c74-610d-4bc5-948f-3c4f89556867}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffd (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 4 "quick mode"
          layer     FWPM_LAYER_IPSEC_V6 {13c48442-8d87-4261-9a29-59d2abc348b4}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffd (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 5 "protect"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffb (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4 {5132900d-5e84-4b5f-80e4-01741e81ff10} INBOUND_PERSIST_CONNECTION_SECURITY

        filter 6 "protect"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffb (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V6 {49d3ac92-2a6c-4dcf-955f-1c3be009dd99} INBOUND_PERSIST_CONNECTION_SECURITY

        filter 7 "protect"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff9 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 {4b46bf0a-4523-4e57-aa38-a87987c910d9} OUTBOUND_NEGOTIATE_DISCOVER
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 8 "protect"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff9 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 {38d87722-ad83-4f11-a91f-df0fb077225b} OUTBOUND_NEGOTIATE_DISCOVER
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 9 "protect"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff7 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V4 {7dff309b-ba7d-4aba-91aa-ae5c6640c944}

        filter 10 "protect"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff7 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V6 {a9a0d6d9-c58c-474e-8aeb-3cfe99d6d53d}

        filter 11 "exempt icmp"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff5 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmp
          action    PERMIT

        filter 12 "exempt icmp"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff4 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmpv6
          action    PERMIT

        filter 13 "exempt dhcp"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff3 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 68 and IP_REMOTE_PORT = 67
          action    PERMIT

        filter 14 "exempt dhcp"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff2 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 546 and IP_REMOTE_PORT = 547
          action    PERMIT

        filter 15 "exempt icmp"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff1 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmp
          action    PERMIT

        filter 16 "exempt icmp"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff0 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmpv6
          action    PERMIT

        filter 17 "exempt dhcp"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffef (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 68 and IP_REMOTE_PORT = 67
          action    PERMIT

        filter 18 "exempt dhcp"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffee (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 546 and IP_REMOTE_PORT = 547
          action    PERMIT

        filter 19 "exempt icmp"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffed (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmp
          action    PERMIT

        filter 20 "exempt icmp"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffec (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmpv6
          action    PERMIT

        filter 21 "exempt dhcp"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffeb (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 68 and IP_REMOTE_PORT = 67
          action    PERMIT

        filter 22 "exempt dhcp"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffea (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 546 and IP_REMOTE_PORT = 547
          action    PERMIT

        """

    static let boundary = """
        scenario boundary

        context IPSEC_IKE_MM_CONTEXT #0
          proposals aes256-sha256-ecp256, aes128-sha1-modp2048
        context IPSEC_IKE_QM_TRANSPORT_CONTEXT #0  [ND_BOUNDARY]
          proposals aes256-gcm16

        filter 1 "main mode"
          layer     FWPM_LAYER_IKEEXT_V4 {b14b7bdb-dbbd-473e-bed4-8b4708d4f270}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000ffffffff (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_MM_CONTEXT #0

        filter 2 "main mode"
          layer     FWPM_LAYER_IKEEXT_V6 {b64786b3-f687-4eb9-89d2-8ef32acdabe2}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000ffffffff (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_MM_CONTEXT #0

        filter 3 "quick mode"
          layer     FWPM_LAYER_IPSEC_V4 {eda65c74-610d-4bc5-948f-3c4f89556867}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffd (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 4 "quick mode"
          layer     FWPM_LAYER_IPSEC_V6 {13c48442-8d87-4261-9a29-59d2abc348b4}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffd (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 5 "protect"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffb (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4 {5132900d-5e84-4b5f-80e4-01741e81ff10} INBOUND_PERSIST_CONNECTION_SECURITY

        filter 6 "protect"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffb (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V6 {49d3ac92-2a6c-4dcf-955f-1c3be009dd99} INBOUND_PERSIST_CONNECTION_SECURITY

        filter 7 "protect"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff9 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 {4b46bf0a-4523-4e57-aa38-a87987c910d9} OUTBOUND_NEGOTIATE_DISCOVER
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 8 "protect"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff9 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 {38d87722-ad83-4f11-a91f-df0fb077225b} OUTBOUND_NEGOTIATE_DISCOVER
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 9 "exempt neighbour discovery"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff7 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmpv6 and ICMP_TYPE = 133-137
          action    PERMIT

        filter 10 "exempt neighbour discovery"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff6 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmpv6 and ICMP_TYPE = 133-137
          action    PERMIT

        """

    static let secure = """
        scenario secure

        context IPSEC_IKE_MM_CONTEXT #0
          proposals aes256-sha256-ecp256, aes128-sha1-modp2048
        context IPSEC_IKE_QM_TRANSPORT_CONTEXT #0
          proposals aes128-gcm16, aes256-gcm16, aes256-cbc-sha256

        filter 1 "main mode"
          layer     FWPM_LAYER_IKEEXT_V4 {b14b7bdb-dbbd-473e-bed4-8b4708d4f270}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000ffffffff (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_MM_CONTEXT #0

        filter 2 "main mode"
          layer     FWPM_LAYER_IKEEXT_V6 {b64786b3-f687-4eb9-89d2-8ef32acdabe2}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000ffffffff (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_MM_CONTEXT #0

        filter 3 "quick mode"
          layer     FWPM_LAYER_IPSEC_V4 {eda65c74-610d-4bc5-948f-3c4f89556867}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffd (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 4 "quick mode"
          layer     FWPM_LAYER_IPSEC_V6 {13c48442-8d87-4261-9a29-59d2abc348b4}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffd (range IPSEC)
          when      always
          action    PERMIT
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 5 "protect"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffb (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4 {5132900d-5e84-4b5f-80e4-01741e81ff10} INBOUND_PERSIST_CONNECTION_SECURITY

        filter 6 "protect"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffffb (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V6 {49d3ac92-2a6c-4dcf-955f-1c3be009dd99} INBOUND_PERSIST_CONNECTION_SECURITY

        filter 7 "protect"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff9 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 {4b46bf0a-4523-4e57-aa38-a87987c910d9}
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 8 "protect"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff9 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 {38d87722-ad83-4f11-a91f-df0fb077225b}
          context   IPSEC_IKE_QM_TRANSPORT_CONTEXT #0

        filter 9 "protect"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff7 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V4 {7dff309b-ba7d-4aba-91aa-ae5c6640c944}

        filter 10 "protect"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          sublayer  ndbpf (weight 0x8000)
          weight    0x00000000fffffff7 (range IPSEC)
          when      IP_LOCAL_ADDRESS_TYPE = unicast
          action    CALLOUT_TERMINATING FWPM_CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V6 {a9a0d6d9-c58c-474e-8aeb-3cfe99d6d53d}

        filter 11 "exempt icmp"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff5 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmp
          action    PERMIT

        filter 12 "exempt icmp"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff4 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmpv6
          action    PERMIT

        filter 13 "exempt dhcp"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff3 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 68 and IP_REMOTE_PORT = 67
          action    PERMIT

        filter 14 "exempt dhcp"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff2 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 546 and IP_REMOTE_PORT = 547
          action    PERMIT

        filter 15 "exempt 1"
          layer     FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          sublayer  ndbpf (weight 0x8000)
          weight    0x80000000fffffff1 (range EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = tcp and IP_REMOTE_ADDRESS = 192.0.2.0/24 and IP_LOCAL_PORT in 22, 8000-8010
          action    PERMIT

        filter 16 "exempt icmp"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000fffffff0 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmp
          action    PERMIT

        filter 17 "exempt icmp"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffef (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmpv6
          action    PERMIT

        filter 18 "exempt dhcp"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffee (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 68 and IP_REMOTE_PORT = 67
          action    PERMIT

        filter 19 "exempt dhcp"
          layer     FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffed (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 546 and IP_REMOTE_PORT = 547
          action    PERMIT

        filter 20 "exempt icmp"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffec (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmp
          action    PERMIT

        filter 21 "exempt icmp"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffeb (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = icmpv6
          action    PERMIT

        filter 22 "exempt dhcp"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffea (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 68 and IP_REMOTE_PORT = 67
          action    PERMIT

        filter 23 "exempt dhcp"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          sublayer  ndbpf (weight 0x8000)
          weight    0xc0000000ffffffe9 (range IKE_EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = udp and IP_LOCAL_PORT = 546 and IP_REMOTE_PORT = 547
          action    PERMIT

        filter 24 "exempt 1"
          layer     FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          sublayer  ndbpf (weight 0x8000)
          weight    0x80000000ffffffe8 (range EXEMPTIONS)
          when      IP_LOCAL_ADDRESS_TYPE = unicast and IP_PROTOCOL = tcp and IP_REMOTE_ADDRESS = 192.0.2.0/24 and IP_LOCAL_PORT in 22, 8000-8010
          action    PERMIT

        """
}
