/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What the version with ABI 6 pinned, as far as a newer one takes it over: its bpf/nd.h, with nd6_ in the place of
 * nd_. Never changed again; it goes when no version that takes over ABI 6 is supported any more.
 *
 * Ports and addresses are in network byte order, every other integer in host order. Addresses have 16 bytes;
 * IPv4 is in its mapped form. Times are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef CNDABI6_H
#define CNDABI6_H

#include <linux/types.h>

#define ND6_ABI_VERSION 6u

struct nd6_addr {
	union {
		__u8 bytes[16];
		__u32 words[4];
		__u64 quads[2];
	};
};

/* ---- keys ---- */

struct nd6_flow_key {
	struct nd6_addr local;
	struct nd6_addr remote;
	__u16 local_port;
	__u16 remote_port;
	__u8 proto;
	__u8 zero[3];
};

struct nd6_peer_key {
	struct nd6_addr local;
	struct nd6_addr remote;
	__u32 context;
	__u32 zero;
};

/* ---- values ---- */

/* nd6_flow.flags: one map, nd_flows, an LRU, had all flows. */
#define ND6_FLOW_SECURE 0x01u
#define ND6_FLOW_EXEMPT 0x02u
#define ND6_FLOW_FIN_OUT 0x04u
#define ND6_FLOW_FIN_IN 0x08u
#define ND6_FLOW_RESET 0x10u
#define ND6_FLOW_TRIGGER 0x20u
#define ND6_FLOW_CLEAR_REPLY 0x40u

#define ND6_TRAFFIC_COUNT 4 /* out_clear, out_secure, in_clear, in_secure */

struct nd6_flow {
	__u64 first_seen;
	__u64 last_seen;
	__u64 secured_at;
	__u64 protected_rx_at;
	__u64 packets[ND6_TRAFFIC_COUNT];
	__u64 bytes[ND6_TRAFFIC_COUNT];
	__u32 epoch;
	__u32 epoch_in;
	__u32 context;
	__u32 flags;
	__u8 direction;
	__u8 checked;
	__u8 zero[2];
	__u32 generation;
};

/* unknown, negotiating, secured, lost, clear */
struct nd6_peer {
	__u32 state;
	__u32 flags;
	__u64 changed_at;
	__u64 secured_at;
	__u64 secured_until;
	__u64 clear_until;
};
#define ND6_PEER_BOUNDARY 0x1u
#define ND6_PEER_ANSWERING 0x2u

#define ND6_IDENTITY_MAX 64

struct nd6_machine {
	__u8 name[ND6_IDENTITY_MAX];
};

struct nd6_protection {
	__u32 spi_in;
	__u32 spi_out;
	__u16 identity_length;
	__u8 identity_type;
	__u8 in_udp;
	__u16 machine;
	__u16 zero;
	__u8 identity[ND6_IDENTITY_MAX];
};

#define ND6_STATE_AT_SOCKET 0x2u
#define ND6_STATE_KERNEL_ENGINE 0x1u

struct nd6_state {
	__u32 abi;
	__u32 epoch;
	__u32 nd0;
	__u32 flags;
	__u32 drop_sample;
	__u32 mtu;
	__u32 fragments;
	__u32 zero;
};

#endif
