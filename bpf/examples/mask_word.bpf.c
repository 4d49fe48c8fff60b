// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* A callout that changes packets: the first four bytes of outbound datagrams that begin with "SECR" become
 * "****", and the checksum is mended. Length and addresses stay, so the IP header is right as it is; ndbpf looks
 * at it afterwards all the same. For CALLOUT_UNKNOWN at DATAGRAM_DATA with DIRECTION outbound. */
#include <linux/in.h>
#include <stddef.h>
#include "../nd_callout.h"

#define UDP_CHECKSUM 6

static __always_inline int mask(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	const __u32 word = 0x52434553 /* "SECR" */, stars = 0x2a2a2a2a;
	__u32 start;
	__u16 sum;

	if (m->flow.proto != IPPROTO_UDP || m->payload_length < sizeof(start) ||
	    bpf_skb_load_bytes(skb, m->payload, &start, sizeof(start)) || start != word)
		return ND_CALLOUT_CONTINUE;
	if (bpf_skb_load_bytes(skb, m->l4 + UDP_CHECKSUM, &sum, sizeof(sum)))
		return ND_CALLOUT_BLOCK;
	if (sum && bpf_l4_csum_replace(skb, m->l4 + UDP_CHECKSUM, word, stars, BPF_F_MARK_MANGLED_0 | sizeof(stars)))
		return ND_CALLOUT_BLOCK;
	if (bpf_skb_store_bytes(skb, m->payload, &stars, sizeof(stars), 0))
		return ND_CALLOUT_BLOCK;
	return ND_CALLOUT_CONTINUE;
}
ND_CALLOUT_CHANGING_PROGRAM(mask_word, mask)

char _license[] SEC("license") = "Dual BSD/GPL";
