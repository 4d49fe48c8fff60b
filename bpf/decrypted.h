/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Inbound, decrypted: what comes out of nd0 at TC, and what the kernel's ESP hands to a socket. And what all
 * ways through the tables share.
 */
#ifndef ND_DECRYPTED_H
#define ND_DECRYPTED_H

#include "address.h"
#include "classify.h"
#include "flow.h"
#include "found.h"
#include "fragment.h"
#include "mss.h"
#include "peer.h"
#include "verdict.h"
#if !ND_AT_SOCKET
#include "latch.h"
#include "reason.h"
#endif

#define ND_LOOPBACK_IFINDEX 1

static __always_inline void nd_set_filter_flags(struct __sk_buff *skb, struct nd_packet *p, __u8 flags)
{
	p->ifindex = skb->ifindex;
	p->flags = flags | (p->fragment ? ND_FLAG_IS_FRAGMENT : 0) |
		   (p->ifindex == ND_LOOPBACK_IFINDEX ? ND_FLAG_IS_LOOPBACK : 0);
}

/* Who is at the other end, where a filter of the layer wants to know. */
static __noinline void nd_set_machine(struct nd_packet *p, const struct nd_policy *policy, __u32 layer)
{
	struct nd_peer_key key = { .local = p->key.local, .remote = p->key.remote };
	__u32 number = nd_table_number(p, layer);
	struct nd_protection *known;

	if (number >= ND_LAYER_COUNT * 2 || !(policy->tables[number].tested >> ND_FIELD_REMOTE_MACHINE & 1))
		return;
	/* What is left of a peer that was lost says nothing of who is there now. */
	if (!(p->flags & ND_FLAG_IS_IPSEC_SECURED)) {
		struct nd_peer *peer = bpf_map_lookup_elem(&nd_peers, &key);

		if (!peer || peer->state != ND_PEER_SECURED)
			return;
	}
	known = bpf_map_lookup_elem(&nd_protections, &key);
	if (known)
		p->machine = known->machine;
}

/* The payload of a packet that was let in, shown after all else. */
static __always_inline int nd_classify_data(struct __sk_buff *skb, struct nd_packet *p, struct nd_policy *policy,
				   int verdict)
{
	struct nd_flow *flow;
	long reason;

	/* An ICMP error goes by its quoted flow's key, and has none of its payload. */
	if (verdict != ND_VERDICT_PASS || !nd_has_filters(policy, p, nd_data_layer(p)) ||
	    p->fragment == ND_FRAGMENT_LATER || p->quoted || !(p->notes & ND_NOTE_OURS))
		return verdict;
	reason = nd_check_layer(skb, p, policy, nd_data_layer(p));
	if (p->notes & ND_NOTE_UNCACHED) {
		flow = nd_flow_find(p, policy);
		if (flow)
			flow->epoch_in = p->epoch - 1;
	}
	if (reason < 0)
		return verdict;
#if !ND_AT_SOCKET
	if (p->fragment)
		nd_fragment_remember(p, ND_FRAGMENT_DROP);
#endif
	return nd_drop(skb, p, reason);
}

/* Behind the filters; see nd_in_flow. */
static __noinline int nd_decrypted_flow(struct __sk_buff *skb, struct nd_packet *p, const struct nd_policy *policy,
					__u32 context)
{
	struct nd_state *state = nd_state_get();
	struct nd_flow *flow;

	if (!state)
		return nd_drop(skb, p, ND_DROP_REDIRECT_FAILED);
	flow = bpf_map_lookup_elem(&nd_secured, &p->key);
	if (!flow) {
		nd_secured_insert(p, policy->generation, context);
		flow = bpf_map_lookup_elem(&nd_secured, &p->key);
	}
	/* Without room for the latch the answer could leave in clear. */
	if (!flow || nd_flow_is_leaving(flow))
		return nd_drop(skb, p, ND_DROP_SECURED_FULL);
#if !ND_AT_SOCKET
	nd_clamp_syn(skb, p, policy, state);
#endif
	if (!flow->protected_rx_at)
		flow->protected_rx_at = p->now;
	nd_flow_flags(flow, p);
	nd_flow_touch(flow, p);
	nd_flow_count(flow, ND_TRAFFIC_IN_SECURE, p->length);
	nd_flow_cache_in(flow, p);
	return nd_pass(p, ND_PASS_IN_PROTECTED);
}

static __always_inline int nd_decrypted_decide(struct __sk_buff *skb, struct nd_packet *p,
					       struct nd_policy *policy)
{
	struct nd_flow *flow;
	bool exempt;
	long rule;

	if (!(nd_local_kind(&p->key.local) & ND_LOCAL_UNICAST))
		return nd_drop(skb, p, ND_DROP_WRONG_ADDRESS);
	if (p->fragment)
		return nd_drop(skb, p, ND_DROP_FRAGMENT);
	nd_set_filter_flags(skb, p, ND_FLAG_IS_IPSEC_SECURED);
	rule = nd_decide(skb, policy, p, ND_LAYER_INBOUND_TRANSPORT);
	if (nd_found_is(rule, ND_ACTION_BLOCK))
		return nd_drop(skb, p, nd_found_reason(rule));
	exempt = nd_found_is(rule, ND_ACTION_PERMIT) &&
		 (p->key.proto == IPPROTO_ICMP || p->key.proto == IPPROTO_ICMPV6);
	p->notes |= ND_NOTE_OURS;
	flow = exempt ? NULL : nd_latch(p, policy, true);
	p->latched = flow != NULL;
	if (!flow && !exempt)
		flow = nd_clear_flow(p, policy);
	rule = -1;
	if (!flow && !(exempt && nd_icmp_is_error(p))) {
		nd_set_machine(p, policy, ND_LAYER_ALE_AUTH_RECV_ACCEPT);
		rule = nd_decide(skb, policy, p, ND_LAYER_ALE_AUTH_RECV_ACCEPT);
		if (nd_found_is(rule, ND_ACTION_BLOCK))
			return nd_drop(skb, p, nd_found_reason(rule));
	} else if (p->notes & ND_NOTE_OVERRIDDEN) {
		return nd_drop(skb, p, ND_DROP_BLOCKED);
	}
	if (exempt)
		return nd_pass(p, ND_PASS_IN_PROTECTED);
	return nd_decrypted_flow(skb, p, policy, rule >= 0 ? nd_found_context(rule) : flow ? flow->context : 0);
}

static __noinline int nd_decrypted_slow(struct __sk_buff *skb, struct nd_packet *p)
{
	struct nd_policy *policy = nd_policy_of(nd_policy_banks());

	p->now = bpf_ktime_get_coarse_ns();
	return policy ? nd_classify_data(skb, p, policy, nd_decrypted_decide(skb, p, policy))
		      : nd_drop(skb, p, ND_DROP_REDIRECT_FAILED);
}

static __always_inline int nd_decrypted(struct __sk_buff *skb, __u32 l3, __u16 proto)
{
	struct nd_packet p = { .l3 = l3 };
	struct nd_state *state;
	struct nd_flow *flow;

	switch (nd_parse(skb, proto, &p)) {
	case ND_NOT_IP:
	case ND_BAD_HEADER:
		return nd_drop(skb, &p, ND_DROP_MALFORMED);
	}
	state = nd_state_get();
	if (!state)
		return ND_VERDICT_DROP;
	p.now = nd_tick_time();
	p.epoch = *(volatile __u32 *)&state->epoch;
	flow = bpf_map_lookup_elem(&nd_secured, &p.key);
	if (flow && flow->epoch_in == p.epoch && flow->protected_rx_at && nd_fast(&p, flow) &&
	    !nd_flow_is_leaving(flow)) {
		nd_flow_flags(flow, &p);
		nd_flow_touch(flow, &p);
		nd_flow_count(flow, ND_TRAFFIC_IN_SECURE, p.length);
		return nd_pass(&p, ND_PASS_IN_PROTECTED);
	}
	return nd_decrypted_slow(skb, &p);
}

#endif
