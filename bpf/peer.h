/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The peer machine's part that must be atomic with a packet: who starts the one negotiation. */
#ifndef ND_PEER_H
#define ND_PEER_H

#include "address.h"
#include "event.h"
#include "flow.h"

#define ND_SECOND 1000000000ull

static __always_inline bool nd_peer_was_secured(const struct nd_peer *peer)
{
	return peer && peer->secured_until;
}

/* A packet without a flow entry that can belong to a flow secured earlier: the entry may have been lost, so
 * anything that does not open a connection waits for its SA (DESIGN §3 outbound 5). Datagrams don't say
 * whether they open one; after idle_ns a program starts anew with them. */
static __always_inline bool nd_maybe_latched(const struct nd_packet *p, const struct nd_peer *peer,
					     const struct nd_policy *policy)
{
	if (!nd_peer_was_secured(peer))
		return false;
	if (p->key.proto == IPPROTO_TCP)
		return !nd_opens(p);
	return peer->secured_until == ~0ull || p->now < peer->secured_until + policy->idle_ns;
}

/* Whether an outbound packet may go on in clear because of a clear flow's entry. One that an inbound packet made
 * proves nothing about a peer that was secured (it may be forged), before this host accepted the connection. */
static __always_inline bool nd_trusts(const struct nd_packet *p, const struct nd_flow *flow, const struct nd_peer *peer)
{
	return flow && (flow->direction == ND_FLOW_OUTBOUND || !nd_peer_was_secured(peer) ||
			(flow->flags & (ND_FLOW_ACCEPTED | ND_FLOW_EXEMPT)) || (p->tcp_flags & ND_TCP_SYN));
}

/* Moves a peer that is due to NEGOTIATING. True for exactly one caller. */
static __always_inline bool nd_peer_claim(struct nd_peer *peer, const struct nd_packet *p,
					  const struct nd_policy *policy)
{
	__u32 state = peer->state;

	switch (state) {
	case ND_PEER_CLEAR:
		/* What waits has nothing to lose by asking again. */
		if (p->now < peer->clear_until &&
		    !((p->notes & ND_NOTE_WAITS) && p->now >= peer->changed_at + policy->reask_ns))
			return false;
		break;
	case ND_PEER_UNKNOWN:
	case ND_PEER_LOST:
		break;
	case ND_PEER_NEGOTIATING: {
		/* The daemon may have died with it: ask again, once per interval. */
		__u64 changed = peer->changed_at;

		if (p->now < changed + policy->reask_ns)
			return false;
		return __sync_val_compare_and_swap(&peer->changed_at, changed, p->now) == changed;
	}
	default:
		return false;
	}
	if (__sync_val_compare_and_swap(&peer->state, state, ND_PEER_NEGOTIATING) != state)
		return false;
	peer->changed_at = p->now;
	return true;
}

/* Gives a claim back when the event could not be delivered; a second later another packet tries. */
static __always_inline void nd_peer_unclaim(struct nd_peer *peer, const struct nd_packet *p)
{
	peer->clear_until = p->now + ND_SECOND;
	__sync_val_compare_and_swap(&peer->state, ND_PEER_NEGOTIATING, ND_PEER_CLEAR);
}

#if !ND_AT_SOCKET
/* Asks the daemon for a negotiation where one is due. Returns true when this packet's copy went
 * with the event. */
__noinline bool nd_request_negotiation(struct __sk_buff *skb, const struct nd_packet *p, const struct nd_policy *policy,
			    __u32 context, __u32 type)
{
	struct nd_peer_key key = {};
	struct nd_peer *peer;

	if (!p || !policy)
		return false;
	key.local = p->key.local;
	key.remote = p->key.remote;
	key.context = context;
	peer = bpf_map_lookup_elem(&nd_peers, &key);
	if (!peer) {
		struct nd_peer fresh = { .state = ND_PEER_NEGOTIATING, .changed_at = p->now };
		long failed = bpf_map_update_elem(&nd_peers, &key, &fresh, BPF_NOEXIST);

		if (failed) {
			struct nd_stats *stats = nd_stats_get();

			if (failed != -17 /* EEXIST */ && stats)
				stats->peers_full++;
			return false;
		}
		peer = bpf_map_lookup_elem(&nd_peers, &key);
		if (!peer)
			return false;
	} else if (!nd_peer_claim(peer, p, policy)) {
		return false;
	}
	if (nd_emit(skb, p, type, p->notes & ND_NOTE_WAITS && type == ND_EVENT_NEGOTIATE ? ND_DROP_HELD : ND_DROP_LATCHED,
		    context))
		return true;
	nd_peer_unclaim(peer, p);
	return false;
}
#endif

#endif
