/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Counters, and the events that the daemon reads. */
#ifndef ND_STATS_H
#define ND_STATS_H

#define ND_VERDICT_PASS (-1)                /* TCX_NEXT, TC_ACT_UNSPEC: other programs have their say */
#define ND_VERDICT_DROP 2                   /* TCX_DROP, TC_ACT_SHOT */
#define ND_DROP_CAPTURE 128

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
	bool telling = type == ND_EVENT_DROP || type == ND_EVENT_DISCARD;
	struct nd_event *event = NULL;

	if (!p)
		return false;

	/* Half of the ring is for events that make something happen: who causes drops must not keep others from
	 * negotiating. */
	if (!telling || bpf_ringbuf_query(&nd_events, BPF_RB_AVAIL_DATA) < ND_EVENTS_BYTES / 2)
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
		       telling || type == ND_EVENT_CLEAR_REPLY ? ND_DROP_CAPTURE
									      : ND_EVENT_PACKET_MAX);
	bpf_ringbuf_submit(event, 0);
	return true;
}

static __always_inline int nd_pass(const struct nd_packet *p, __u32 kind)
{
	struct nd_stats *stats = nd_stats_get();

	if (stats && kind < ND_PASS_COUNT) {
		stats->packets[kind]++;
		stats->bytes[kind] += p->length;
	}
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

static __always_inline void nd_flow_count(struct nd_flow *flow, __u32 traffic, __u32 bytes)
{
	/* Two CPUs can carry one flow; sums shown to operators must not lose. */
	__sync_fetch_and_add(&flow->packets[traffic], 1);
	__sync_fetch_and_add(&flow->bytes[traffic], bytes);
}

#endif
