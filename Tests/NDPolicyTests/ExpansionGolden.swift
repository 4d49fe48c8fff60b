/// What the three scenarios become. A change here is a change of what every policy means.
/// The first is, filter by filter and in its order, "Negotiation Discovery Transport Mode" of the Windows
/// Filtering Platform's documentation, once for IPv4 and once for IPv6.
enum ExpansionGolden {
    static let negotiationDiscovery = """
        scenario negotiation-discovery

        provider context "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          type                FWPM_IPSEC_IKE_MM_CONTEXT
          proposals           aes256-sha256-ecp256, aes128-sha1-modp2048

        provider context "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          type                FWPM_IPSEC_IKE_QM_TRANSPORT_CONTEXT
          flags               IPSEC_POLICY_FLAG_ND_SECURE
          proposals           aes128-gcm16, aes256-gcm16, aes256-cbc-sha256

        filter 1 "main mode" {03d4fb4a-c5de-862a-a11f-bb7ba708f2c1}
          layerKey            FWPM_LAYER_IKEEXT_V4 {b14b7bdb-dbbd-473e-bed4-8b4708d4f270}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          weight              automatic 0x00000000fffffffe

        filter 2 "main mode" {8dd91579-58a9-80c2-8ccb-8845b5b364df}
          layerKey            FWPM_LAYER_IKEEXT_V6 {b64786b3-f687-4eb9-89d2-8ef32acdabe2}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          weight              automatic 0x00000000fffffffd

        filter 3 "quick mode" {31ed4d85-b3c7-86da-bfa4-956c85d6acf3}
          layerKey            FWPM_LAYER_IPSEC_V4 {eda65c74-610d-4bc5-948f-3c4f89556867}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          weight              automatic 0x00000000fffffffc

        filter 4 "quick mode" {5a8f439d-a97a-83d5-b769-97313f799f65}
          layerKey            FWPM_LAYER_IPSEC_V6 {13c48442-8d87-4261-9a29-59d2abc348b4}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          weight              automatic 0x00000000fffffffb

        filter 5 "protect" {10a76714-e6b9-87fb-a146-80d2a73d181b}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4 {5132900d-5e84-4b5f-80e4-01741e81ff10}
          rawContext          FWPM_CONTEXT_IPSEC_INBOUND_PERSIST_CONNECTION_SECURITY
          weight              automatic 0x00000008fffffffa

        filter 6 "protect" {faa48d85-2cb9-84ab-afd6-f5bab8ec0f41}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V6 {49d3ac92-2a6c-4dcf-955f-1c3be009dd99}
          rawContext          FWPM_CONTEXT_IPSEC_INBOUND_PERSIST_CONNECTION_SECURITY
          weight              automatic 0x00000008fffffff9

        filter 7 "exempt icmp" {47230019-734b-8eec-9b23-8483d8218ab0}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmp
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff8

        filter 8 "exempt icmp" {c94be8df-fc9f-873f-9e9b-a2721c85e456}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmpv6
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff7

        filter 9 "protect" {63ccde5c-d873-83b1-a5cd-f9eda8ae9ac6}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 {4b46bf0a-4523-4e57-aa38-a87987c910d9}
          rawContext          FWPM_CONTEXT_IPSEC_OUTBOUND_NEGOTIATE_DISCOVER
          weight              automatic 0x00000008fffffff6

        filter 10 "protect" {64119239-c273-865c-9887-006d9cd02888}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 {38d87722-ad83-4f11-a91f-df0fb077225b}
          rawContext          FWPM_CONTEXT_IPSEC_OUTBOUND_NEGOTIATE_DISCOVER
          weight              automatic 0x00000008fffffff5

        filter 11 "exempt icmp" {fff9b707-583d-8b96-8d85-e6459f4e1851}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmp
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff4

        filter 12 "exempt icmp" {e3e5adf9-95db-8c12-9530-f4b346eebab3}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmpv6
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff3

        filter 13 "protect" {5179f9e0-da3f-8a7c-91f5-fc8104273923}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V4 {7dff309b-ba7d-4aba-91aa-ae5c6640c944}
          weight              automatic 0x00000008fffffff2

        filter 14 "protect" {4296a28b-a03f-87d5-9b53-f36d3d3efa89}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V6 {a9a0d6d9-c58c-474e-8aeb-3cfe99d6d53d}
          weight              automatic 0x00000008fffffff1

        filter 15 "exempt icmp" {ff62d7e9-1b92-8232-810c-cfbea327b9a8}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmp
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff0

        filter 16 "exempt icmp" {070f8307-933b-83ea-9022-f0258c92774e}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmpv6
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010ffffffef

        """

    static let boundary = """
        scenario boundary

        provider context "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          type                FWPM_IPSEC_IKE_MM_CONTEXT
          proposals           aes256-sha256-ecp256, aes128-sha1-modp2048

        provider context "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          type                FWPM_IPSEC_IKE_QM_TRANSPORT_CONTEXT
          flags               IPSEC_POLICY_FLAG_ND_BOUNDARY
          proposals           aes256-gcm16

        filter 1 "main mode" {03d4fb4a-c5de-862a-a11f-bb7ba708f2c1}
          layerKey            FWPM_LAYER_IKEEXT_V4 {b14b7bdb-dbbd-473e-bed4-8b4708d4f270}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          weight              automatic 0x00000000fffffffe

        filter 2 "main mode" {8dd91579-58a9-80c2-8ccb-8845b5b364df}
          layerKey            FWPM_LAYER_IKEEXT_V6 {b64786b3-f687-4eb9-89d2-8ef32acdabe2}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          weight              automatic 0x00000000fffffffd

        filter 3 "quick mode" {31ed4d85-b3c7-86da-bfa4-956c85d6acf3}
          layerKey            FWPM_LAYER_IPSEC_V4 {eda65c74-610d-4bc5-948f-3c4f89556867}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          weight              automatic 0x00000000fffffffc

        filter 4 "quick mode" {5a8f439d-a97a-83d5-b769-97313f799f65}
          layerKey            FWPM_LAYER_IPSEC_V6 {13c48442-8d87-4261-9a29-59d2abc348b4}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          weight              automatic 0x00000000fffffffb

        filter 5 "protect" {10a76714-e6b9-87fb-a146-80d2a73d181b}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4 {5132900d-5e84-4b5f-80e4-01741e81ff10}
          rawContext          FWPM_CONTEXT_IPSEC_INBOUND_PERSIST_CONNECTION_SECURITY
          weight              automatic 0x00000008fffffffa

        filter 6 "protect" {faa48d85-2cb9-84ab-afd6-f5bab8ec0f41}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V6 {49d3ac92-2a6c-4dcf-955f-1c3be009dd99}
          rawContext          FWPM_CONTEXT_IPSEC_INBOUND_PERSIST_CONNECTION_SECURITY
          weight              automatic 0x00000008fffffff9

        filter 7 "exempt neighbour discovery" {9a8a478d-d4e0-8076-85a1-5a1c275c56d0}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmpv6
          condition           FWPM_CONDITION_ICMP_TYPE = 133-137
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000015fffffff8

        filter 8 "protect" {63ccde5c-d873-83b1-a5cd-f9eda8ae9ac6}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 {4b46bf0a-4523-4e57-aa38-a87987c910d9}
          rawContext          FWPM_CONTEXT_IPSEC_OUTBOUND_NEGOTIATE_DISCOVER
          weight              automatic 0x00000008fffffff7

        filter 9 "protect" {64119239-c273-865c-9887-006d9cd02888}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 {38d87722-ad83-4f11-a91f-df0fb077225b}
          rawContext          FWPM_CONTEXT_IPSEC_OUTBOUND_NEGOTIATE_DISCOVER
          weight              automatic 0x00000008fffffff6

        filter 10 "exempt neighbour discovery" {907aa1f3-b0f1-8dae-8e45-b761d391a7ef}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmpv6
          condition           FWPM_CONDITION_ICMP_TYPE = 133-137
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000015fffffff5

        """

    static let secure = """
        scenario secure

        provider context "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          type                FWPM_IPSEC_IKE_MM_CONTEXT
          proposals           aes256-sha256-ecp256, aes128-sha1-modp2048

        provider context "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          type                FWPM_IPSEC_IKE_QM_TRANSPORT_CONTEXT
          proposals           aes128-gcm16, aes256-gcm16, aes256-cbc-sha256

        filter 1 "main mode" {03d4fb4a-c5de-862a-a11f-bb7ba708f2c1}
          layerKey            FWPM_LAYER_IKEEXT_V4 {b14b7bdb-dbbd-473e-bed4-8b4708d4f270}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          weight              automatic 0x00000000fffffffe

        filter 2 "main mode" {8dd91579-58a9-80c2-8ccb-8845b5b364df}
          layerKey            FWPM_LAYER_IKEEXT_V6 {b64786b3-f687-4eb9-89d2-8ef32acdabe2}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "main mode" {91c8e96b-cc50-8c7d-868b-e197a8ad5f86}
          weight              automatic 0x00000000fffffffd

        filter 3 "quick mode" {31ed4d85-b3c7-86da-bfa4-956c85d6acf3}
          layerKey            FWPM_LAYER_IPSEC_V4 {eda65c74-610d-4bc5-948f-3c4f89556867}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          weight              automatic 0x00000000fffffffc

        filter 4 "quick mode" {5a8f439d-a97a-83d5-b769-97313f799f65}
          layerKey            FWPM_LAYER_IPSEC_V6 {13c48442-8d87-4261-9a29-59d2abc348b4}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           empty, all traffic
          action.type         FWP_ACTION_PERMIT
          providerContextKey  "quick mode" {2e929590-22d4-8395-8097-4febcbd5dbb0}
          weight              automatic 0x00000000fffffffb

        filter 5 "protect" {10a76714-e6b9-87fb-a146-80d2a73d181b}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V4 {5132900d-5e84-4b5f-80e4-01741e81ff10}
          rawContext          FWPM_CONTEXT_IPSEC_INBOUND_PERSIST_CONNECTION_SECURITY
          weight              automatic 0x00000008fffffffa

        filter 6 "protect" {faa48d85-2cb9-84ab-afd6-f5bab8ec0f41}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_TRANSPORT_V6 {49d3ac92-2a6c-4dcf-955f-1c3be009dd99}
          rawContext          FWPM_CONTEXT_IPSEC_INBOUND_PERSIST_CONNECTION_SECURITY
          weight              automatic 0x00000008fffffff9

        filter 7 "exempt icmp" {47230019-734b-8eec-9b23-8483d8218ab0}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmp
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff8

        filter 8 "exempt icmp" {c94be8df-fc9f-873f-9e9b-a2721c85e456}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmpv6
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff7

        filter 9 "exempt dhcp" {46d0d61b-2a4b-8eec-9b23-846a8cd21192}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = udp
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 68
          condition           FWPM_CONDITION_IP_REMOTE_PORT = 67
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000030fffffff6

        filter 10 "exempt dhcp" {c974731d-379f-873f-9e9b-a27eeb070a88}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V6 {634a869f-fc23-4b90-b0c1-bf620a36ae6f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = udp
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 546
          condition           FWPM_CONDITION_IP_REMOTE_PORT = 547
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000030fffffff5

        filter 11 "exempt 1" {f6d96b40-edfb-8294-9779-cec29b059bac}
          layerKey            FWPM_LAYER_INBOUND_TRANSPORT_V4 {5926dfc8-e3cf-4426-a283-dc393f5d0f9d}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = tcp
          condition           FWPM_CONDITION_IP_REMOTE_ADDRESS = 192.0.2.0/24
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 22
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 8000-8010
          action.type         FWP_ACTION_PERMIT
          weight              range EXEMPTIONS 0x80000034fffffff4

        filter 12 "protect" {63ccde5c-d873-83b1-a5cd-f9eda8ae9ac6}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V4 {4b46bf0a-4523-4e57-aa38-a87987c910d9}
          weight              automatic 0x00000008fffffff3

        filter 13 "protect" {64119239-c273-865c-9887-006d9cd02888}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_OUTBOUND_TRANSPORT_V6 {38d87722-ad83-4f11-a91f-df0fb077225b}
          weight              automatic 0x00000008fffffff2

        filter 14 "exempt icmp" {fff9b707-583d-8b96-8d85-e6459f4e1851}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmp
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff1

        filter 15 "exempt icmp" {e3e5adf9-95db-8c12-9530-f4b346eebab3}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmpv6
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010fffffff0

        filter 16 "exempt dhcp" {ff990a02-293d-8b96-8d85-e627e79356a3}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V4 {09e61aea-d214-46e2-9b21-b26b0b2f28c8}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = udp
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 68
          condition           FWPM_CONDITION_IP_REMOTE_PORT = 67
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000030ffffffef

        filter 17 "exempt dhcp" {e4377dd0-f2db-8c12-9530-f4cc6d685edd}
          layerKey            FWPM_LAYER_OUTBOUND_TRANSPORT_V6 {e1735bde-013f-4655-b351-a49e15762df0}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = udp
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 546
          condition           FWPM_CONDITION_IP_REMOTE_PORT = 547
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000030ffffffee

        filter 18 "protect" {5179f9e0-da3f-8a7c-91f5-fc8104273923}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V4 {7dff309b-ba7d-4aba-91aa-ae5c6640c944}
          weight              automatic 0x00000008ffffffed

        filter 19 "protect" {4296a28b-a03f-87d5-9b53-f36d3d3efa89}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          action.type         FWP_ACTION_CALLOUT_TERMINATING
          action.calloutKey   FWPM_CALLOUT_IPSEC_INBOUND_INITIATE_SECURE_V6 {a9a0d6d9-c58c-474e-8aeb-3cfe99d6d53d}
          weight              automatic 0x00000008ffffffec

        filter 20 "exempt icmp" {ff62d7e9-1b92-8232-810c-cfbea327b9a8}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmp
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010ffffffeb

        filter 21 "exempt icmp" {070f8307-933b-83ea-9022-f0258c92774e}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = icmpv6
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000010ffffffea

        filter 22 "exempt dhcp" {ff8b99d8-8292-8232-810c-cfcb88bf1f9a}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = udp
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 68
          condition           FWPM_CONDITION_IP_REMOTE_PORT = 67
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000030ffffffe9

        filter 23 "exempt dhcp" {06bdb2ff-1e3b-83ea-9022-f00c65fab290}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V6 {a3b42c97-9f04-4672-b87e-cee9c483257f}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = udp
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 546
          condition           FWPM_CONDITION_IP_REMOTE_PORT = 547
          action.type         FWP_ACTION_PERMIT
          weight              FWPM_WEIGHT_RANGE_IKE_EXEMPTIONS 0xc0000030ffffffe8

        filter 24 "exempt 1" {489af659-1ba5-86ee-861d-e7ea3ac4bf34}
          layerKey            FWPM_LAYER_ALE_AUTH_RECV_ACCEPT_V4 {e1cd9fe7-f4b5-4273-96c0-592e487b8650}
          subLayerKey         FWPM_SUBLAYER_UNIVERSAL {eebecc03-ced4-4380-819a-2734397b2b74}
          condition           FWPM_CONDITION_IP_LOCAL_ADDRESS_TYPE = NlatUnicast
          condition           FWPM_CONDITION_IP_PROTOCOL = tcp
          condition           FWPM_CONDITION_IP_REMOTE_ADDRESS = 192.0.2.0/24
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 22
          condition           FWPM_CONDITION_IP_LOCAL_PORT = 8000-8010
          action.type         FWP_ACTION_PERMIT
          weight              range EXEMPTIONS 0x80000034ffffffe7

        """
}
