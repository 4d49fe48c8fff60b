/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Events: what the daemon reads from the ring, with a copy of the packet. */
#ifndef ND_EVENT_H
#define ND_EVENT_H

#include "maps.h"
#include "parse.h"

/* Bytes of a packet that is only reported. One that may be sent again is copied whole. */
#define ND_REPORT_CAPTURE 128

static __always_inline void nd_copy_packet(struct __sk_buff *skb, const struct nd_packet *p,
					   struct nd_event *event, __u32 most)
{
	__u32 n = p->length;

	event->length = n;
	if (n > most)
		n = most;
	event->captured = 0;
	if (!n)
		return;
	/* The verifier must see 1 <= n <= sizeof(packet); that of 6.1 draws no lower bound from a
	 * comparison with zero (measured), so the value is put together from one that has it. */
	n--;
	asm volatile("" : "+r"(n));
	n = (n & (ND_EVENT_PACKET_MAX - 1)) + 1;
	if (!bpf_skb_load_bytes(skb, p->l3, event->packet, n))
		event->captured = n;
}

/* Returns false when the ring is full. Of a DISCARD, reason is its layer and context its filter. Not static: see
 * nd_ipv6_extensions. */
__noinline bool nd_emit(struct __sk_buff *skb, const struct nd_packet *p, __u32 type, __u32 reason, __u32 context)
{
	bool report = type == ND_EVENT_DROP || type == ND_EVENT_DISCARD;
	struct nd_event *event = NULL;

	if (!p)
		return false;

	/* Half of the ring is for events that make something happen: a flood of drops must not keep others from
	 * negotiating. */
	if (!report || bpf_ringbuf_query(&nd_events, BPF_RB_AVAIL_DATA) < ND_EVENTS_BYTES / 2)
		event = bpf_ringbuf_reserve(&nd_events, sizeof(*event), 0);
	if (!event) {
		struct nd_stats *stats = nd_stats_get();

		if (stats)
			stats->events_lost++;
		return false;
	}
	event->time = bpf_ktime_get_ns();
	event->flow = p->key;
	event->type = type;
	event->reason = reason;
	event->context = context;
	event->ifindex = skb->ifindex;
	event->inbound = !p->outbound;
	event->fragment = p->fragment;
	event->layer = 0;
	event->filter = 0;
	if (type == ND_EVENT_DISCARD) {
		event->reason = ND_DROP_BLOCKED;
		event->layer = reason;
		event->filter = context;
		event->context = 0;
	}
	__builtin_memset(event->zero, 0, sizeof(event->zero));
	nd_copy_packet(skb, p, event,
		       report || type == ND_EVENT_CLEAR_REPLY ? ND_REPORT_CAPTURE : ND_EVENT_PACKET_MAX);
	bpf_ringbuf_submit(event, 0);
	return true;
}

#endif
