/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The one contract between the BPF programs and the control plane. Both include this file; there
 * is no second copy of any of it. Changing a struct or a number here means raising ND_ABI_VERSION.
 *
 * Ports and addresses are in network byte order, every other integer in host order. Addresses have
 * 16 bytes; IPv4 is in its mapped form (::ffff:a.b.c.d). Times are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef ND_H
#define ND_H

#include <linux/types.h>

#define ND_ABI_VERSION 7u

#define ND_EVENT_PACKET_MAX 2048
#define ND_PORT_IKE 500
#define ND_PORT_NATT 4500

/* ---- lists: number, label (metrics, JSON), what it means ---- */

/* Why a packet was dropped; one list for BPF and for the engines. */
#define ND_DROP_REASONS(X) \
	X(LATCHED, "latched", "outbound packet of a secured flow while no SA is valid") \
	X(HELD, "held", "outbound packet held back because the policy requires an SA first") \
	X(CLEAR_INBOUND, "clear_inbound", "new clear inbound flow where protection is required") \
	X(CLEAR_ON_SECURED, "clear_on_secured", "clear inbound packet of a flow that is secured") \
	X(BLOCKED, "blocked", "a filter of the policy blocks it") \
	X(MALFORMED, "malformed", "headers that can't be parsed or contradict each other") \
	X(FRAGMENT, "fragment", "fragment of a protected flow that can't be reassembled or matched") \
	X(REDIRECT_FAILED, "redirect_failed", "nd0 does not exist or refused the packet") \
	X(NO_SA, "no_sa", "packet reached the engine but no outbound SA covers it") \
	X(UNKNOWN_SPI, "unknown_spi", "ESP with an SPI that is not ours") \
	X(AUTHENTICATION, "authentication", "ESP whose integrity check failed") \
	X(REPLAY, "replay", "ESP outside the replay window or seen before") \
	X(ESP_MALFORMED, "esp_malformed", "ESP too short, misaligned or with an impossible trailer") \
	X(SEQUENCE_EXHAUSTED, "sequence_exhausted", "the SA's sequence numbers are used up") \
	X(REASSEMBLY_TIMEOUT, "reassembly_timeout", "fragments before ESP that never became whole") \
	X(REASSEMBLY_FULL, "reassembly_full", "no room to reassemble before ESP") \
	X(TOO_BIG, "too_big", "datagram too large for ESP") \
	X(SEND_FAILED, "send_failed", "the kernel refused to send the ESP packet") \
	X(DELIVER_FAILED, "deliver_failed", "the kernel refused the decrypted packet") \
	X(WRONG_ADDRESS, "wrong_address", "ESP from or to an address its SA is not for") \
	X(CALLOUT_HEADER, "callout_header", "a callout changed the packet and did not rebuild its header") \
	X(POLICY_CHANGED, "policy_changed", "the policy changed while a callout was asked about the packet") \
	X(BAD_SOURCE, "bad_source", "inbound from a source that no packet may have: broadcast, multicast, unspecified, this host's own") \
	X(ICMP_ERROR, "icmp_error", "clear ICMP error about a secured connection") \
	X(SECURED_FULL, "secured_full", "packet of a new secured flow while the table of secured flows is full: what can't be latched is not begun") \
	X(UNGUARDED, "unguarded", "packet of a secured flow by an interface where no program of ndbpf stands first")

/* Why a packet was not dropped. Each reason to pass has its own counter. */
#define ND_PASS_KINDS(X) \
	X(OUT_CLEAR, "out_clear", "outbound in clear") \
	X(OUT_PROTECTED, "out_protected", "outbound redirected into nd0") \
	X(OUT_EXEMPT, "out_exempt", "outbound in clear because the policy's filters permit it") \
	X(IN_CLEAR, "in_clear", "inbound in clear") \
	X(IN_PROTECTED, "in_protected", "inbound decrypted, came out of nd0") \
	X(IN_EXEMPT, "in_exempt", "inbound in clear because the policy's filters permit it") \
	X(OUT_NOT_UNICAST, "out_not_unicast", "outbound to a multicast or broadcast address") \
	X(OUT_FORWARDED, "out_forwarded", "outbound from another host: forwarded or bridged") \
	X(OUT_UNADDRESSED, "out_unaddressed", "outbound without a source address") \
	X(OUT_IPSEC, "out_ipsec", "outbound ESP or AH") \
	X(OUT_IKE, "out_ike", "outbound datagram of the daemon's IKE sockets, ESP in UDP among them") \
	X(OUT_FRAGMENT, "out_fragment", "outbound later fragment of a datagram that left in clear") \
	X(IN_NOT_UNICAST, "in_not_unicast", "inbound to a multicast or broadcast address") \
	X(IN_FORWARDED, "in_forwarded", "inbound for another host: to be forwarded or bridged") \
	X(IN_IPSEC, "in_ipsec", "inbound ESP or AH") \
	X(IN_IKE, "in_ike", "inbound datagram for the daemon's IKE sockets, ESP in UDP among them") \
	X(IN_FRAGMENT, "in_fragment", "inbound later fragment, which delivers nothing without its first one") \
	X(IN_GRACE, "in_grace", "clear inbound packet of a secured flow that was in flight when the flow was upgraded")

#define ND_FLOW_TRAFFIC(X) \
	X(OUT_CLEAR, "out_clear", "") \
	X(OUT_SECURE, "out_secure", "") \
	X(IN_CLEAR, "in_clear", "") \
	X(IN_SECURE, "in_secure", "")

#define ND_PEER_STATES(X) \
	X(UNKNOWN, "unknown", "never negotiated") \
	X(NEGOTIATING, "negotiating", "a key negotiation runs; traffic stays clear") \
	X(SECURED, "secured", "an SA pair is valid; traffic is ESP") \
	X(LOST, "lost", "the SAs are gone; secured flows are latched") \
	X(CLEAR, "clear", "the peer did not or could not negotiate; clear until the time given")

#define ND_EVENT_TYPES(X) \
	X(NEGOTIATE, "negotiate", "a peer needs a negotiation; carries the first packet") \
	X(STASH, "stash", "first packet of another flow while the peer is negotiating") \
	X(CLEAR_REPLY, "clear_reply", "the peer answered the triggering flow in clear") \
	X(LATCHED, "latched", "a latched flow wants its peer back") \
	X(DROP, "drop", "a packet was dropped (sampled)") \
	X(DISCARD, "discard", "dropped at STREAM, DATAGRAM_DATA or IPPACKET (every packet: the _DISCARD layers)") \
	X(WAIT, "wait", "a packet of a secured or held flow waits for its SA; carries it")

/* WFP layers that BPF serves (FWPM_LAYER_..._V4/V6; the family is a condition). */
#define ND_LAYERS(X) \
	X(OUTBOUND_TRANSPORT, "OUTBOUND_TRANSPORT", "every outbound packet") \
	X(INBOUND_TRANSPORT, "INBOUND_TRANSPORT", "every inbound packet") \
	X(ALE_AUTH_CONNECT, "ALE_AUTH_CONNECT", "first packet of an outbound flow") \
	X(ALE_AUTH_RECV_ACCEPT, "ALE_AUTH_RECV_ACCEPT", "first packet of an inbound flow") \
	X(STREAM, "STREAM", "TCP payload, in clear: before encryption, after decryption") \
	X(DATAGRAM_DATA, "DATAGRAM_DATA", "payload of everything else, in clear") \
	X(INBOUND_IPPACKET, "INBOUND_IPPACKET", "every inbound packet as it came: ESP is not decrypted yet") \
	X(OUTBOUND_IPPACKET, "OUTBOUND_IPPACKET", "every outbound packet, finished ESP among them")

#define ND_ACTIONS(X) \
	X(PERMIT, "permit", "let it pass in clear, no negotiation") \
	X(BLOCK, "block", "drop it") \
	X(NEGOTIATE_DISCOVER, "negotiate_discover", "IPSEC_OUTBOUND_TRANSPORT with OUTBOUND_NEGOTIATE_DISCOVER: clear at once, negotiate, upgrade") \
	X(REQUIRE_OUTBOUND, "require_outbound", "IPSEC_OUTBOUND_TRANSPORT without discovery: hold until an SA is valid") \
	X(PERSIST_SECURITY, "persist_security", "IPSEC_INBOUND_TRANSPORT with INBOUND_PERSIST_CONNECTION_SECURITY") \
	X(INITIATE_SECURE, "initiate_secure", "IPSEC_INBOUND_INITIATE_SECURE: new inbound flows must be protected")

/* Fields that a filter can test, named after FWPM_CONDITION_.... */
#define ND_FIELDS(X) \
	X(LOCAL_ADDRESS, "IP_LOCAL_ADDRESS", "") \
	X(REMOTE_ADDRESS, "IP_REMOTE_ADDRESS", "") \
	X(LOCAL_ADDRESS_TYPE, "IP_LOCAL_ADDRESS_TYPE", "") \
	X(REMOTE_ADDRESS_TYPE, "IP_REMOTE_ADDRESS_TYPE", "") \
	X(PROTOCOL, "IP_PROTOCOL", "") \
	X(LOCAL_PORT, "IP_LOCAL_PORT", "") \
	X(REMOTE_PORT, "IP_REMOTE_PORT", "") \
	X(ICMP_TYPE, "ICMP_TYPE", "") \
	X(ICMP_CODE, "ICMP_CODE", "") \
	X(INTERFACE, "INTERFACE_INDEX", "") \
	X(DIRECTION, "DIRECTION", "") \
	X(FLAGS, "FLAGS", "") \
	X(REMOTE_MACHINE, "ALE_REMOTE_MACHINE_ID", "")

/* NL_ADDRESS_TYPE of nldef.h. */
enum nd_address_type { ND_TYPE_UNSPECIFIED, ND_TYPE_UNICAST, ND_TYPE_ANYCAST, ND_TYPE_MULTICAST, ND_TYPE_BROADCAST };

/* FWP_CONDITION_FLAG_...: those that a packet's way through the host tells. */
#define ND_FLAG_IS_LOOPBACK 0x01u
#define ND_FLAG_IS_IPSEC_SECURED 0x02u
#define ND_FLAG_IS_FRAGMENT 0x04u

#define ND_X_DROP(n, l, h) ND_DROP_##n,
enum nd_drop_reason { ND_DROP_REASONS(ND_X_DROP) ND_DROP_COUNT };
#define ND_X_PASS(n, l, h) ND_PASS_##n,
enum nd_pass_kind { ND_PASS_KINDS(ND_X_PASS) ND_PASS_COUNT };
#define ND_X_TRAFFIC(n, l, h) ND_TRAFFIC_##n,
enum nd_flow_traffic { ND_FLOW_TRAFFIC(ND_X_TRAFFIC) ND_TRAFFIC_COUNT };
#define ND_X_PEER(n, l, h) ND_PEER_##n,
enum nd_peer_state { ND_PEER_STATES(ND_X_PEER) ND_PEER_STATE_COUNT };
#define ND_X_EVENT(n, l, h) ND_EVENT_##n,
enum nd_event_type { ND_EVENT_TYPES(ND_X_EVENT) ND_EVENT_TYPE_COUNT };
#define ND_X_LAYER(n, l, h) ND_LAYER_##n,
enum nd_layer { ND_LAYERS(ND_X_LAYER) ND_LAYER_COUNT };
#define ND_X_ACTION(n, l, h) ND_ACTION_##n,
enum nd_action { ND_ACTIONS(ND_X_ACTION) ND_ACTION_COUNT };

#define ND_X_FIELD(n, l, h) ND_FIELD_##n,
enum nd_field_number { ND_FIELDS(ND_X_FIELD) ND_FIELD_COUNT };

/* ---- keys ---- */

struct nd_addr {
	union {
		__u8 bytes[16];
		__u32 words[4];
		__u64 quads[2];
	};
};

/* As this host sees it: local side first, whichever side opened the flow. */
struct nd_flow_key {
	struct nd_addr local;
	struct nd_addr remote;
	__u16 local_port;  /* network order; ICMP: identifier in both, or 0 and the type; no ports: 0 */
	__u16 remote_port;
	__u8 proto;
	__u8 zero[3];
};

struct nd_peer_key {
	struct nd_addr local;
	struct nd_addr remote;
	__u32 context; /* quick-mode provider context; 0 is the scenario's */
	__u32 zero;
};

struct nd_fragment_key {
	struct nd_addr source;
	struct nd_addr destination;
	__u32 id;
	__u8 proto;
	__u8 outbound;
	__u8 zero[2];
};

/* ---- values ---- */

enum nd_flow_direction { ND_FLOW_OUTBOUND, ND_FLOW_INBOUND };

/* nd_flow.flags */
#define ND_FLOW_SECURE 0x01u       /* sticky: at least one packet travelled through nd0 */
#define ND_FLOW_EXEMPT 0x02u       /* permitted by a filter: neither negotiated nor protected */
#define ND_FLOW_FIN_OUT 0x04u
#define ND_FLOW_FIN_IN 0x08u
#define ND_FLOW_RESET 0x10u
#define ND_FLOW_TRIGGER 0x20u      /* its first packet started the negotiation */
#define ND_FLOW_CLEAR_REPLY 0x40u  /* the clear answer was reported */
#define ND_FLOW_ANSWER 0x80u       /* answers a clear broadcast or multicast: admits nothing inbound */
#define ND_FLOW_ACCEPTED 0x100u    /* inbound, and this host's SYN-ACK was seen: it is a connection of its own */

struct nd_flow {
	__u64 first_seen;
	__u64 last_seen;        /* of a secured flow 0: the entry is about to be removed */
	__u64 secured_at;       /* when ND_FLOW_SECURE was set; 0 = never */
	__u64 protected_rx_at;  /* first packet that arrived protected; 0 = none */
	__u64 packets[ND_TRAFFIC_COUNT];
	__u64 bytes[ND_TRAFFIC_COUNT];
	__u32 epoch;            /* nd_state.epoch of the cached outbound verdict */
	__u32 epoch_in;         /* and of the inbound one */
	__u32 context;
	__u32 flags;
	__u8 direction;         /* enum nd_flow_direction */
	__u8 checked;           /* when the cached outbound verdict was made, coarsely */
	__u16 stored;           /* when a waiting packet was last given to the daemon, coarsely */
	__u32 generation;       /* policy generation that admitted it */
};

struct nd_peer {
	__u32 state; /* enum nd_peer_state; BPF moves it to NEGOTIATING by compare-and-swap only */
	__u32 flags;
	__u64 changed_at;
	__u64 secured_at;     /* start of the present protection */
	__u64 secured_until;  /* last instant an SA was valid; 0 = never, ~0 = now */
	__u64 clear_until;    /* negative cache */
};
#define ND_PEER_BOUNDARY 0x1u  /* the peer said that it accepts clear inbound */
/* We answer its negotiation: it may send on the new SA already, while our outbound one waits for its
 * last message. What has no flow entry and opens nothing may be the answer to an ESP packet that
 * only the kernel's engine saw: it waits too. */
#define ND_PEER_ANSWERING 0x2u

#define ND_IDENTITY_MAX 64

/* The machines that filters name (ALE_REMOTE_MACHINE_ID): a name keeps its number for good. */
struct nd_machine {
	__u8 name[ND_IDENTITY_MAX]; /* as text, zeros behind it */
};

/* How a secured peer is protected; written beside nd_peer, for those who ask: no verdict but of filters that name a
 * machine depends on it. */
struct nd_protection {
	__u32 spi_in;   /* host order; of the pair in use */
	__u32 spi_out;
	__u16 identity_length;
	__u8 identity_type; /* ID_... of RFC 2407 */
	__u8 in_udp;        /* ESP in UDP (RFC 3948) */
	__u16 machine;      /* the identity's number, where a filter names it; 0: none does */
	__u16 zero;
	__u8 identity[ND_IDENTITY_MAX]; /* what the peer authenticated as; cut to this length */
};

/* Asks nd_sweep to remove the entry of a secured flow that was last seen then. */
struct nd_sweep_request {
	struct nd_flow_key key;
	__u32 zero;
	__u64 seen;
};

/* What an interface is to the datapath. */
struct nd_interface {
	__u32 role;  /* enum nd_interface_role */
	__u32 flags;
};
#define ND_INTERFACE_CLSACT 0x1u  /* by filters of clsact: the hooks behind the routing can't see them */
enum nd_interface_role {
	ND_INTERFACE_UNKNOWN,
	ND_INTERFACE_PROTECTED, /* has the tables of the design */
	ND_INTERFACE_GUARDED,   /* has a guard, which knows the latch only */
	ND_INTERFACE_DEVICE,    /* nd0 and its like, the loopback: never guarded */
};

struct nd_fragment {
	__u64 seen;
	__u32 verdict; /* enum nd_fragment_verdict */
	__u32 zero;
};
enum nd_fragment_verdict { ND_FRAGMENT_PASS, ND_FRAGMENT_REDIRECT, ND_FRAGMENT_DROP };

/* nd_local value: what an address is to this host */
#define ND_LOCAL_UNICAST 0x1u
#define ND_LOCAL_BROADCAST 0x2u

/* the family has a main-mode filter: UDP 500 and 4500 are the daemon's */
#define ND_POLICY_IKE_EXEMPT_V4 0x1u
#define ND_POLICY_IKE_EXEMPT_V6 0x2u
/* Where ICMP is exempt, errors about secured connections are too: the strict reading of WFP. */
#define ND_POLICY_ICMP_ERRORS_EXEMPT 0x4u

/* ---- the policy's filters (docs/classification.md) ---- */

/* A generation of the policy is one inner map of banks; an address is a byte's place in all of them.
 * Nothing lies across two banks. */
#define ND_BANK_BITS 19
#define ND_BANK_BYTES (1u << ND_BANK_BITS)
#define ND_BANK_SLACK 256  /* behind a bank: what begins inside ends there, for the verifier */
#define ND_BANKS_MAX 64

/* A row is a set of filters: a word that says which blocks are not empty, then a reference for each
 * block: the address of its bits / 64, and which of its eight words are not zero. */
#define ND_BLOCK_WORDS 8
#define ND_BLOCK_FILTERS (64 * ND_BLOCK_WORDS)
#define ND_ROW_BLOCKS 32
#define ND_TABLE_FILTERS (ND_ROW_BLOCKS * ND_BLOCK_FILTERS)
#define ND_REFERENCE_SHIFT 8
/* A table of no more filters has them in place of the addresses of rows: 64 bits for each interval. */
#define ND_SMALL_TABLE 64

struct nd_row {
	__u32 summary;
	__u32 blocks[ND_ROW_BLOCKS]; /* as many as the table has */
};

#define ND_SEARCH_DEPTH 16  /* of 32-bit values; a start of 128 bits is four times as long: 15 */

/* One field of a layer: 2^depth - 1 starts, sorted, cut its values into 2^depth intervals; rows has the address of
 * each interval's row (32 bits). Fields of 8 bits have 256 rows and no starts: their address is 0. */
struct nd_field {
	__u32 starts;
	__u32 rows;
	__u16 depth;
	__u16 number;  /* enum nd_field_number */
	__u32 absent;  /* address of a packet's without the field: one more of rows */
};

/* The filters of one layer and family. */
struct nd_table {
	__u32 filters; /* how many */
	__u32 tested;  /* fields that a filter tests, by bits */
	__u32 says;    /* address of an nd_filter for each, in the order they are asked */
	__u32 fields_tested; /* how many: they come first */
	struct nd_field fields[ND_FIELD_COUNT];
};

/* What a filter says when it matches. */
struct nd_filter {
	__u64 id;
	__u32 context; /* quick-mode context of a callout action; number of a program */
	__u32 next;    /* the first filter of the next sublayer */
	__u8 kind;     /* enum nd_filter_kind */
	__u8 action;   /* enum nd_action */
	__u8 flags;
	__u8 zero[5];
};
enum nd_filter_kind { ND_SAYS_ACTION, ND_SAYS_PROGRAM, ND_SAYS_INSPECTION, ND_SAYS_NOTHING };
#define ND_FILTER_HARD 0x1u          /* FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT */
#define ND_FILTER_UNREGISTERED 0x2u  /* stands for a callout that nobody registered */
#define ND_FILTER_CHANGES 0x4u       /* the program may change the packet: its header is looked at afterwards */

/* Programs of third parties have numbers, half of them for each of two generations of the policy. */
#define ND_CALLOUTS_MAX 64
#define ND_MACHINES_MAX 4096 /* names of machines that filters can use */
#define ND_CALLOUTS_A_LAYER 16 /* programs asked about one packet at one layer */
#define ND_CALLOUT_SLOTS (2 * ND_CALLOUTS_MAX)

/* The first bytes of bank 0. The whole policy is one inner map behind a map-in-map slot: a commit is
 * one pointer swap. */
struct nd_policy {
	__u32 abi;
	__u32 generation;
	__u32 flags;
	__u32 banks;
	__u16 ike_port;      /* host order */
	__u16 natt_port;
	__u16 overhead_v4;   /* what ESP adds to an IPv4 packet at most, encapsulation included */
	__u16 overhead_v6;
	__u64 grace_ns;          /* ndAllowClearTimeout: clear packets already in flight at the upgrade */
	__u64 idle_ns;           /* life of a clear flow without connection state after its last packet */
	__u64 secured_idle_ns;   /* and of a secured one */
	__u64 tcp_idle_ns;
	__u64 reask_ns;          /* a latched flow or a stuck negotiation asks again after this */
	__u64 zero;              /* 0, which the verifier can't know */
	struct nd_table tables[ND_LAYER_COUNT * 2]; /* by layer; IPv4, IPv6 */
};

/* nd_socket is attached: it, not nd0's program, sees the kernel engine's decrypted packets. */
#define ND_STATE_AT_SOCKET 0x2u
/* nd_devices knows the devices of nd0 and fragments: without them there nothing is sent to their indexes. */
#define ND_STATE_DEVICES 0x4u
#define ND_STATE_KERNEL_ENGINE 0x1u  /* nd0 is an XFRM interface: it takes neither fragments nor what ESP makes too big */

struct nd_state {
	__u32 abi;
	__u32 epoch;       /* raised after every change that can turn a cached verdict */
	__u32 nd0;         /* ifindex; 0 = none: protected packets are dropped */
	__u32 flags;
	__u32 drop_sample; /* report every n-th drop as an event; 0 = none */
	__u32 mtu;         /* smallest of the protected interfaces; 0 = don't clamp */
	__u32 fragments;   /* ifindex that takes fragments of protected datagrams and what ESP would make
			      too big; 0 = nd0 itself, or nobody where nd0 is the kernel's */
	__u32 zero;
};

struct nd_stats {
	__u64 packets[ND_PASS_COUNT];
	__u64 bytes[ND_PASS_COUNT];
	__u64 drops[ND_DROP_COUNT];
	__u64 drop_bytes[ND_DROP_COUNT];
	__u64 upgrades;        /* clear flows that became secured */
	__u64 flows_created;
	__u64 events_lost;     /* ring buffer full */
	__u64 peers_full;      /* no room for a peer: it stays clear and unnegotiated */
	__u64 mss_clamped;
	__u64 oversize;        /* packets that ESP would have made larger than the path */
	__u64 callouts_asked;      /* programs of third parties that saw a packet */
	__u64 callouts_overridden; /* blocks of packets that ALE must classify */
	__u64 callouts_missing;    /* asked and not there: decided as if unregistered */
	__u64 discards[ND_LAYER_COUNT]; /* packets dropped at STREAM, DATAGRAM_DATA and IPPACKET */
	__u64 secured_full;        /* secured flows that found no room in their table */
	__u64 guarded;             /* packets of secured flows that met a guard: another way out, or in */
};

struct nd_event {
	__u64 time;
	struct nd_flow_key flow;
	__u32 type;     /* enum nd_event_type */
	__u32 reason;   /* enum nd_drop_reason for DROP and LATCHED */
	__u32 context;
	__u32 ifindex;
	__u32 length;   /* of the whole L3 packet */
	__u32 captured; /* bytes in packet[]; shorter than length: can't be sent again */
	__u8 inbound;
	__u8 fragment;
	__u8 layer;     /* enum nd_layer, of a DISCARD */
	__u8 zero[5];
	__u64 filter;   /* of a DISCARD: the one that blocked */
	__u8 packet[ND_EVENT_PACKET_MAX]; /* from the IP header on */
};

#endif /* ND_H */
