/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * For who writes a callout: a BPF program that filters of the policy ask about a packet. What it may do
 * and what is refused: docs/callouts.md. Examples: bpf/examples.
 *
 *	static __always_inline int look(struct __sk_buff *skb, const struct nd_callout_metadata *m)
 *	{
 *		return m->payload_length > 1000 ? ND_CALLOUT_BLOCK : ND_CALLOUT_CONTINUE;
 *	}
 *	ND_CALLOUT_PROGRAM(no_large_datagrams, look)
 *
 * clang -O2 -g -target bpf -c; the policy names the object and the program.
 */
#ifndef ND_CALLOUT_H
#define ND_CALLOUT_H

#include "nd.h"

#ifdef __bpf__
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#endif

/* What a program answers. Anything else counts as VETO. */
enum nd_callout_answer {
	ND_CALLOUT_UNREGISTERED, /* nobody answered; not for programs */
	ND_CALLOUT_CONTINUE,     /* the next filter has the word */
	ND_CALLOUT_PERMIT,       /* soft, unless the filter has FWPM_FILTER_FLAG_CLEAR_ACTION_RIGHT */
	ND_CALLOUT_BLOCK,        /* soft too: a lighter sublayer may permit the packet */
	ND_CALLOUT_VETO,         /* a block that nothing lifts, not even a hard permit */
};

/* nd_callout_metadata.flags */
#define ND_CALLOUT_SECURED 0x01u             /* the packet came through ESP, or will leave through it */
/* ALE will classify the flow (FWPS_METADATA_FIELD_ALE_CLASSIFY_REQUIRED): a block is overridden, so that
 * ALE_AUTH_CONNECT or ALE_AUTH_RECV_ACCEPT decides. */
#define ND_CALLOUT_ALE_CLASSIFY_REQUIRED 0x02u
#define ND_CALLOUT_FRAGMENT 0x04u            /* a first fragment: payload is its part only */
#define ND_CALLOUT_LOOPBACK 0x08u
#define ND_CALLOUT_AT_SOCKET 0x10u           /* asked at the socket: the packet can be read, not changed */

/* nd_callout_metadata.mode */
enum nd_callout_mode { ND_CALLOUT_MODE_NONE, ND_CALLOUT_MODE_TRANSPORT };

/* What ndbpf knows of the packet. Integers are in host order, addresses and ports in network order.
 * Later versions add members at the end and raise size. At 76, 80 and 140, where struct __sk_buff has the
 * packet's data, no member of 32 bits begins: so loads of these are known in a program's instructions. */
struct nd_callout_metadata {
	__u32 size;
	__u32 flags;
	struct nd_flow_key flow;
	__u64 filter;          /* the filter that asks, by its number in `ndbpf filters` */
	__u32 ifindex;
	__u32 spi;             /* of the SA that protected an inbound packet, or will an outbound one; 0: none */
	__u32 l3;              /* where the IP header begins, for bpf_skb_load_bytes */
	__u32 l4;              /* where the transport header begins */
	__u32 payload;         /* where the payload begins */
	__u8 layer;            /* enum nd_layer */
	__u8 family;           /* 4 or 6 */
	__u8 inbound;
	__u8 mode;             /* enum nd_callout_mode */
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 in_udp;           /* ESP in UDP */
	__u8 identity_type;    /* ID_... of RFC 2407; 0: none known */
	__u8 zero;
	__u16 identity_length; /* of the whole identity */
	__u32 payload_length;  /* the datagram's own: neither ESP's trailer nor a link's padding is in it */
	__u32 answer;          /* enum nd_callout_answer: where the program leaves it */
	__u8 identity[ND_IDENTITY_MAX]; /* what the peer authenticated as */
};

#ifdef __bpf__
/* ndbpf puts its own map in the place of this one when it loads the program. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_callout_metadata);
} nd_callout_meta SEC(".maps");

static __always_inline const struct nd_callout_metadata *nd_callout_metadata(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nd_callout_meta, &zero);
}

/* An answer goes by the map: what a program at the socket may return is less than this. */
static __always_inline int nd_callout_answer(enum nd_callout_answer answer)
{
	struct nd_callout_metadata *m = (void *)nd_callout_metadata();

	if (m)
		m->answer = answer;
	return 0;
}

#define ND_CALLOUT_ENTRY(section, name, function)                                          \
	SEC(section) int name(struct __sk_buff *skb)                                       \
	{                                                                                  \
		const struct nd_callout_metadata *m = nd_callout_metadata();               \
		return m ? nd_callout_answer(function(skb, m)) : 0;                        \
	}

/* Two programs from one function: for TC, and for the socket, where packets that the kernel decrypted are
 * shown. */
#define ND_CALLOUT_PROGRAM(name, function)              \
	ND_CALLOUT_ENTRY("tc", name, function)          \
	ND_CALLOUT_ENTRY("cgroup_skb/ingress", name##_at_socket, function)

/* For TC alone: it may change the packet, and then rebuilds its header. */
#define ND_CALLOUT_CHANGING_PROGRAM(name, function) ND_CALLOUT_ENTRY("tc", name, function)
#endif

#endif
