/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The latch: what happens to a packet of a secured 5-tuple. Asked before everything else, by the tables of a
 * protected interface and by the guards of all others.
 *
 * Outbound it goes into nd0 while the peer has an SA, and waits otherwise. Waiting, it is lost to its sender
 * (verdict.h), the daemon keeps a copy of the last one, and the entry lives on. Inbound in clear it is
 * dropped, but for the grace time of an upgrade. An entry ends when it was idle for its time, or when its
 * connection ended in packets that this host sent or authenticated and it opens another one.
 */
#ifndef ND_LATCH_H
#define ND_LATCH_H

#include "fragment.h"
#include "mss.h"
#include "peer.h"
#include "verdict.h"

#define ND_DEVICE_ND0 0
#define ND_DEVICE_FRAGMENTS 1

/* Whether a packet may be sent to the device: it is the one that the daemon named. */
static __always_inline bool nd_device_stands(const struct nd_state *state, __u32 which, __u32 index)
{
	__u32 *device;

	if (!index || !(state->flags & ND_STATE_DEVICES))
		return index;
	device = bpf_map_lookup_elem(&nd_devices, &which);
	return device && *device == index;
}

static __noinline int nd_redirect(struct __sk_buff *skb, const struct nd_packet *p,
				  const struct nd_state *state, const struct nd_policy *policy)
{
	__u32 room;

	if (!nd_device_stands(state, ND_DEVICE_ND0, state->nd0))
		return nd_lose(skb, p, ND_DROP_REDIRECT_FAILED);
	if (state->flags & ND_STATE_KERNEL_ENGINE) {
		if (p->fragment) {
			if (!nd_device_stands(state, ND_DEVICE_FRAGMENTS, state->fragments))
				return nd_drop(skb, p, ND_DROP_FRAGMENT);
			if (p->fragment == ND_FRAGMENT_FIRST)
				nd_fragment_remember(p, ND_FRAGMENT_REDIRECT);
			nd_pass(p, ND_PASS_OUT_PROTECTED);
			return bpf_redirect(state->fragments, 0);
		}
		room = nd_room(p, state, policy);
		if (room && !nd_fits(skb, p, room)) {
			struct nd_stats *stats = nd_stats_get();

			if (stats)
				stats->oversize++;
			if (!skb->gso_size && nd_cut(skb, p, room, state->nd0)) {
				nd_pass(p, ND_PASS_OUT_PROTECTED);
				return bpf_redirect(state->nd0, 0);
			}
			/* The kernel protects it whole and then fragments the ESP packet. */
			if (!nd_device_stands(state, ND_DEVICE_FRAGMENTS, state->fragments))
				return nd_drop(skb, p, ND_DROP_TOO_BIG);
			nd_pass(p, ND_PASS_OUT_PROTECTED);
			return bpf_redirect(state->fragments, 0);
		}
	}
	if (p->fragment == ND_FRAGMENT_FIRST)
		nd_fragment_remember(p, ND_FRAGMENT_REDIRECT);
	nd_pass(p, ND_PASS_OUT_PROTECTED);
	return bpf_redirect(state->nd0, 0);
}

/* A copy of a latched flow's packet goes to the daemon at most every 67 ms. TCP sends again more slowly. */
static __always_inline bool nd_store_due(struct nd_flow *flow, const struct nd_packet *p)
{
	__u16 time = p->now >> 26;

	/* 0: never. */
	time += !time;
	if (flow->stored == time)
		return false;
	flow->stored = time;
	return true;
}

/* Nothing leaves; the peer is asked for, at most once per interval. */
static __noinline int nd_wait(struct __sk_buff *skb, struct nd_packet *p, const struct nd_policy *policy,
			      const struct nd_peer_key *key, __u32 reason)
{
	struct nd_flow *flow = bpf_map_lookup_elem(&nd_secured, &p->key);
	struct nd_peer *peer = bpf_map_lookup_elem(&nd_peers, key);
	bool store = reason == ND_DROP_HELD || (peer && (peer->flags & ND_PEER_ANSWERING));

	store = store && peer && peer->state == ND_PEER_NEGOTIATING;
	if (flow) {
		nd_flow_flags(flow, p);
		nd_flow_touch(flow, p);
		flow->epoch = p->epoch - 1; /* no cached verdict for what may not leave */
		store = nd_store_due(flow, p);
	}
	p->notes |= ND_NOTE_WAITS;
	if (!nd_link_local(p) &&
	    !nd_request_negotiation(skb, p, policy, key->context, reason == ND_DROP_HELD ? ND_EVENT_NEGOTIATE : ND_EVENT_LATCHED) &&
	    store)
		nd_emit(skb, p, ND_EVENT_WAIT, reason, key->context);
	if (p->fragment == ND_FRAGMENT_FIRST)
		nd_fragment_remember(p, ND_FRAGMENT_DROP);
	return nd_lose(skb, p, reason);
}

/* Into nd0 with a packet of a secured flow. */
static __always_inline int nd_protect(struct __sk_buff *skb, struct nd_packet *p, struct nd_flow *flow,
				      const struct nd_state *state, const struct nd_policy *policy)
{
	if (nd_flow_is_leaving(flow)) {
		if (p->fragment == ND_FRAGMENT_FIRST)
			nd_fragment_remember(p, ND_FRAGMENT_DROP);
		return nd_lose(skb, p, ND_DROP_LATCHED);
	}
	nd_flow_flags(flow, p);
	nd_flow_touch(flow, p);
	nd_flow_count(flow, ND_TRAFFIC_OUT_SECURE, p->length);
	nd_flow_cache(flow, p);
	return nd_redirect(skb, p, state, policy);
}

#define ND_LATCH_NONE (-2) /* no verdict: the packet belongs to no secured flow */

/* A clear packet that arrives for a secured flow. It changes nothing of it. Packets that were in flight when a
 * running clear connection was upgraded pass, until the first one comes that is protected. */
static __noinline int nd_latch_in(struct __sk_buff *skb, const struct nd_packet *p, const struct nd_flow *flow,
				  const struct nd_policy *policy)
{
	struct nd_peer_key key = {};
	struct nd_peer *peer;

	/* On the wire it is ESP, so an honest router's error quotes ESP, also one of the path MTU. */
	if (p->quoted)
		return nd_drop(skb, p, ND_DROP_ICMP_ERROR);
	key.local = p->key.local;
	key.remote = p->key.remote;
	key.context = flow->context;
	peer = bpf_map_lookup_elem(&nd_peers, &key);
	/* Only what began before the peer had an SA can have been in flight: later a stranger's packet may have begun it. */
	if (peer && flow->first_seen < peer->secured_at && flow->first_seen < flow->secured_at &&
	    !flow->protected_rx_at && p->now <= flow->secured_at + policy->grace_ns) {
		if (p->fragment == ND_FRAGMENT_FIRST)
			nd_fragment_remember(p, ND_FRAGMENT_PASS);
		return nd_pass(p, ND_PASS_IN_GRACE);
	}
	if (p->fragment == ND_FRAGMENT_FIRST)
		nd_fragment_remember(p, ND_FRAGMENT_DROP);
	return nd_drop(skb, p, ND_DROP_CLEAR_ON_SECURED);
}

#endif
