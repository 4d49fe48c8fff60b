/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Asking a layer: what the policy's filters say of a packet there, and the programs of third parties that they
 * name. The search itself is match.h.
 */
#ifndef ND_CLASSIFY_H
#define ND_CLASSIFY_H

#include "callout.h"
#include "event.h"
#include "found.h"
#include "match.h"

static __always_inline bool nd_has_filters(const struct nd_policy *policy, const struct nd_packet *p, __u32 layer)
{
	__u32 number = nd_table_number(p, layer);

	return number < ND_LAYER_COUNT * 2 && policy->tables[number].filters;
}

/* What the layer's filters say (found.h), or that a program must be asked. */
__noinline long nd_classify(struct nd_bank *first, struct nd_packet *p, __u32 layer)
{
	struct nd_consultation *q = nd_consultation_get();
	struct nd_classification *c;

	if (!first || !p || !q)
		return ND_ACTION_BLOCK;
	c = &q->c;
	c->from = 0;
	c->found = ND_FOUND_NONE;
	c->filter = 0;
	c->hard = 0;
	c->answer = ND_CALLOUT_PENDING;
	nd_match(first, c, p, layer);
	if (c->pending)
		return nd_suspend(q, first, p, layer);
	q->filter = c->filter;
	return c->found;
}

/* A policy is its first bank's beginning. */
static __always_inline long nd_classify_by(const struct nd_policy *policy, struct nd_packet *p, __u32 layer)
{
	return nd_classify((struct nd_bank *)policy, p, layer);
}

/* ---- the layers of every packet ---- */

/* What the layer's filters say (found.h), with those programs that they ask. */
static __always_inline long nd_decide(struct __sk_buff *skb, const struct nd_policy *policy, struct nd_packet *p,
				      __u32 layer)
{
	long found;

	/* Most policies have nothing to say of connects. */
	if (!nd_has_filters(policy, p, layer))
		return ND_FOUND_NONE - (long)policy->zero;
	found = nd_classify_by(policy, p, layer);
	if (found == ND_FOUND_PENDING) {
		found = nd_consult(skb);
		nd_take_changes(p);
	}
	return found;
}

/* ---- layers that most policies have no filters at ---- */

__noinline int nd_discard(struct __sk_buff *skb, const struct nd_packet *p, __u32 layer)
{
	struct nd_consultation *q = nd_consultation_get();
	struct nd_stats *stats = nd_stats_get();

	if (stats && layer < ND_LAYER_COUNT)
		stats->discards[layer]++;
	return nd_emit(skb, p, ND_EVENT_DISCARD, layer, q ? q->filter : 0);
}

/* What was found of this packet's payload says nothing of the next one's. A TCP segment without any has no
 * part in the stream; of a fragment the rest is still to come. */
__noinline bool nd_has_no_payload(struct __sk_buff *skb, struct nd_packet *p, __u32 layer)
{
	if (!p)
		return false;
	p->notes |= ND_NOTE_UNCACHED;
	return layer == ND_LAYER_STREAM && !p->fragment && !nd_payload_length(p, nd_payload_at(skb, p));
}

/* STREAM, DATAGRAM_DATA, IPPACKET: the reason to drop the packet, or -1. Inline: what calls a program may
 * not be deep in the stack (256 bytes, and 6.1 rounds frames up to 32). */
static __always_inline long nd_check_layer(struct __sk_buff *skb, struct nd_packet *p,
					   const struct nd_policy *policy, __u32 layer)
{
	long found = nd_classify_by(policy, p, layer);

	if (found == ND_FOUND_NONE || (found >= 0 && nd_found_action(found) != ND_ACTION_BLOCK))
		return -1;
	if (nd_has_no_payload(skb, p, layer))
		return -1;
	if (found == ND_FOUND_PENDING) {
		found = nd_consult(skb);
		nd_take_changes(p);
	}
	if (found < 0 || nd_found_action(found) != ND_ACTION_BLOCK)
		return -1;
	nd_discard(skb, p, layer);
	return nd_found_reason(found);
}

static __always_inline __u32 nd_data_layer(const struct nd_packet *p)
{
	return p->key.proto == IPPROTO_TCP ? ND_LAYER_STREAM : ND_LAYER_DATAGRAM_DATA;
}

#endif
