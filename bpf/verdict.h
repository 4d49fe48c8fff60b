/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Verdicts: how a packet goes on, and the counter that says why. There are three: it passes, it is dropped, or
 * it is lost. A drop is told to the local sender, whose TCP counts it as a failure of this host and gives up
 * after seconds. A packet that only waits for its SA is lost instead: to its sender it was sent, and is sent
 * again as after a loss on the wire.
 */
#ifndef ND_VERDICT_H
#define ND_VERDICT_H

#include "counter.h"
#include "event.h"

#define ND_VERDICT_PASS (-1)                /* TCX_NEXT, TC_ACT_UNSPEC: other programs have their say */
#define ND_VERDICT_DROP 2                   /* TCX_DROP, TC_ACT_SHOT */
/* A redirect to a device that does not exist: the kernel frees the packet, and the sender sees success. */
#define ND_NO_DEVICE 0

static __always_inline int nd_pass(const struct nd_packet *p, __u32 kind)
{
	nd_count_pass(p, kind);
	return ND_VERDICT_PASS;
}

__noinline int nd_drop(struct __sk_buff *skb, const struct nd_packet *p, __u32 reason)
{
	struct nd_stats *stats = nd_stats_get();
	struct nd_state *state = nd_state_get();

	if (p && stats && reason < ND_DROP_COUNT) {
		__u64 count = ++stats->drops[reason];

		stats->drop_bytes[reason] += p->length;
		if (state && state->drop_sample && count % state->drop_sample == 0)
			nd_emit(skb, p, ND_EVENT_DROP, reason, 0);
	}
	return ND_VERDICT_DROP;
}

/* A frame whose headers the parser can't follow. A bridge may pass what is for others. */
__noinline int nd_malformed(struct __sk_buff *skb, __u32 outbound)
{
	struct nd_packet p = {};

	if (!outbound && skb->pkt_type == PACKET_OTHERHOST)
		return ND_VERDICT_PASS;
	p.outbound = outbound;
	p.length = skb->len;
	return nd_drop(skb, &p, ND_DROP_MALFORMED);
}

#if !ND_AT_SOCKET
static __always_inline int nd_lose(struct __sk_buff *skb, const struct nd_packet *p, __u32 reason)
{
	nd_drop(skb, p, reason);
	return bpf_redirect(ND_NO_DEVICE, 0);
}
#endif

#endif
