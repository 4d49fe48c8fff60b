// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * TC programs of the protected interface (egress, ingress) and of nd0 (ingress): the decision
 * tables of the design, for IPv4 and IPv6. A packet: parse -> latch -> reason to pass -> classify -> peer
 * -> verdict.
 */
#include "classify.h"
#include "decrypted.h"
#include "flow.h"
#include "found.h"
#include "fragment.h"
#include "latch.h"
#include "mss.h"
#include "parse.h"
#include "peer.h"
#include "reason.h"
#include "verdict.h"

/* ---- outbound ---- */

static __noinline int nd_out_drop(struct __sk_buff *skb, const struct nd_packet *p, __u32 reason)
{
	if (p->fragment == ND_FRAGMENT_FIRST)
		nd_fragment_remember(p, ND_FRAGMENT_DROP);
	return nd_drop(skb, p, reason);
}

static __always_inline int nd_out_pass(const struct nd_packet *p, __u32 kind)
{
	if (p->fragment == ND_FRAGMENT_FIRST)
		nd_fragment_remember(p, ND_FRAGMENT_PASS);
	return nd_pass(p, kind);
}

static __noinline int nd_out_later_fragment(struct __sk_buff *skb, const struct nd_packet *p,
					    const struct nd_state *state,
					    const struct nd_policy *policy)
{
	switch (nd_fragment_recall(p)) {
	case ND_FRAGMENT_PASS:
		return nd_pass(p, ND_PASS_OUT_FRAGMENT);
	case ND_FRAGMENT_REDIRECT:
		return nd_redirect(skb, p, state, policy);
	}
	/* The stack sends first fragments first and every verdict is remembered, so an unknown one's
	 * was evicted. Without ports nobody knows its filter or its context: it may be a secured
	 * flow's. */
	return nd_drop(skb, p, ND_DROP_FRAGMENT);
}

/* A datagram that answers one that came in clear to a broadcast or multicast address. WFP authorizes what comes
 * to such an address as a flow of its own, and lets it in; a unicast answer belongs to it and opens nothing for
 * further unicast from there. */
static __always_inline bool nd_answers_broadcast(const struct nd_packet *p, const struct nd_policy *policy)
{
	struct nd_flow_key key = p->key;
	__u64 *seen;

	if (p->key.proto != IPPROTO_UDP && p->key.proto != IPPROTO_UDPLITE)
		return false;
	__builtin_memset(&key.local, 0, sizeof(key.local));
	seen = bpf_map_lookup_elem(&nd_broadcasts, &key);
	return seen && p->now <= *seen + policy->idle_ns;
}

/* Rows 6 and 7: the packet leaves in clear; the first of a peer starts the negotiation. */
static __noinline int nd_out_clear(struct __sk_buff *skb, struct nd_packet *p, struct nd_policy *policy,
				   struct nd_flow *flow, struct nd_peer_key *key)
{
	bool quiet = p->notes & ND_NOTE_QUIET, fresh = !flow, asked = false;

	if (fresh) {
		bool failed = nd_flow_insert(p, policy->generation, key->context,
					     (quiet ? 0 : ND_FLOW_TRIGGER) | (nd_answers_broadcast(p, policy) ? ND_FLOW_ANSWER : 0));

		/* Another CPU may have secured it since this packet asked the latch. */
		if (bpf_map_lookup_elem(&nd_secured, &p->key)) {
			bpf_map_delete_elem(&nd_flows, &p->key);
			return nd_wait(skb, p, policy, key, ND_DROP_LATCHED);
		}
		if (failed)
			flow = bpf_map_lookup_elem(&nd_flows, &p->key);
	}
	if (!quiet && !nd_link_local(p)) {
		asked = nd_request_negotiation(skb, p, policy, key->context, ND_EVENT_NEGOTIATE);
		if (!asked && fresh) {
			struct nd_peer *peer = bpf_map_lookup_elem(&nd_peers, key);

			if (peer && peer->state == ND_PEER_NEGOTIATING)
				nd_emit(skb, p, ND_EVENT_STASH, 0, key->context);
		}
	}
	if (flow) {
		if (asked || (fresh && !quiet))
			__sync_fetch_and_or(&flow->flags, ND_FLOW_TRIGGER);
		if (flow->direction == ND_FLOW_INBOUND &&
		    (p->tcp_flags & (ND_TCP_SYN | ND_TCP_ACK)) == (ND_TCP_SYN | ND_TCP_ACK))
			__sync_fetch_and_or(&flow->flags, ND_FLOW_ACCEPTED);
		nd_flow_flags(flow, p);
		nd_flow_touch(flow, p);
		nd_flow_count(flow, ND_TRAFFIC_OUT_CLEAR, p->length);
		/* Exempt inbound but not outbound: the short way would count it as exempt. A SYN that was trusted for what
		 * it is says nothing of the packets behind it. */
		if (!(flow->flags & ND_FLOW_EXEMPT) &&
		    (flow->direction == ND_FLOW_OUTBOUND || (flow->flags & ND_FLOW_ACCEPTED) || !(p->tcp_flags & ND_TCP_SYN)))
			nd_flow_cache(flow, p);
	}
	return nd_out_pass(p, ND_PASS_OUT_CLEAR);
}

/* Outbound packets that a filter permits make an entry, so that answers are let in without one; but not what may
 * answer a stranger's packet. */
static __noinline int nd_out_permitted(struct nd_packet *p, struct nd_policy *policy, struct nd_flow *flow)
{
	bool answers = p->key.proto == IPPROTO_TCP &&
		       ((p->tcp_flags & ND_TCP_RST) ||
			(p->tcp_flags & (ND_TCP_SYN | ND_TCP_ACK)) == (ND_TCP_SYN | ND_TCP_ACK));

	if (!flow && !answers && nd_flow_insert(p, policy->generation, 0, ND_FLOW_EXEMPT))
		flow = bpf_map_lookup_elem(&nd_flows, &p->key);
	if (flow) {
		__sync_fetch_and_or(&flow->flags, ND_FLOW_EXEMPT);
		nd_flow_flags(flow, p);
		nd_flow_touch(flow, p);
		nd_flow_count(flow, ND_TRAFFIC_OUT_CLEAR, p->length);
		nd_flow_cache(flow, p);
	}
	return nd_out_pass(p, ND_PASS_OUT_EXEMPT);
}

/* The first packet of a flow into nd0 makes the latch. Without one nothing goes there. */
static __noinline int nd_out_protected(struct __sk_buff *skb, struct nd_packet *p, struct nd_policy *policy,
				       __u32 context)
{
	struct nd_state *state = nd_state_get();
	struct nd_flow *flow = bpf_map_lookup_elem(&nd_secured, &p->key);

	if (!state)
		return nd_lose(skb, p, ND_DROP_REDIRECT_FAILED);
	if (!flow) {
		nd_secured_insert(p, policy->generation, context);
		flow = bpf_map_lookup_elem(&nd_secured, &p->key);
	}
	if (!flow) {
		if (p->fragment == ND_FRAGMENT_FIRST)
			nd_fragment_remember(p, ND_FRAGMENT_DROP);
		return nd_lose(skb, p, ND_DROP_SECURED_FULL);
	}
	return nd_protect(skb, p, flow, state, policy);
}

/* After the filters: the flow and the peer. */
static __noinline int nd_out_flow(struct __sk_buff *skb, struct nd_packet *p, struct nd_policy *policy,
				  struct nd_flow *flow, long rule)
{
	struct nd_state *state = nd_state_get();
	struct nd_peer_key key = {};
	struct nd_peer *peer;
	__u32 action = nd_found_action(rule);
	bool decided = rule >= 0 && action != ND_ACTION_PERMIT;

	if (!state)
		return nd_out_drop(skb, p, ND_DROP_REDIRECT_FAILED);
	if (!decided && !p->latched)
		return nd_out_permitted(p, policy, flow);

	key.local = p->key.local;
	key.remote = p->key.remote;
	/* An exemption that came later leaves a secured flow with the SA that it has. */
	if (decided)
		key.context = nd_found_context(rule);
	else if (flow)
		key.context = flow->context;
	peer = bpf_map_lookup_elem(&nd_peers, &key);
	if (peer && peer->state == ND_PEER_SECURED) {
		nd_clamp_syn(skb, p, policy, state);
		return nd_out_protected(skb, p, policy, key.context);
	}
	if (p->latched)
		return nd_wait(skb, p, policy, &key, ND_DROP_LATCHED);
	if (!nd_trusts(p, flow, peer) && nd_maybe_latched(p, peer, policy))
		return nd_wait(skb, p, policy, &key, ND_DROP_LATCHED);
	if (action == ND_ACTION_REQUIRE_OUTBOUND ||
	    (!flow && peer && (peer->flags & ND_PEER_ANSWERING) && !nd_opens(p)))
		return nd_wait(skb, p, policy, &key, ND_DROP_HELD);
	/* While the negative cache stands there is nothing to ask, and no ESP to make room for: the
	 * rare flow that outlives it and is upgraded then pays with fragmented ESP. Rewriting the
	 * MSS would cost every connection to a plain host a copy of its headers. */
	if (peer && peer->state == ND_PEER_CLEAR && p->now < peer->clear_until)
		p->notes |= ND_NOTE_QUIET;
	else
		nd_clamp_syn(skb, p, policy, state);
	return nd_out_clear(skb, p, policy, flow, &key);
}

static __noinline int nd_out_slow(struct __sk_buff *skb, struct nd_packet *p)
{
	struct nd_state *state = nd_state_get();
	struct nd_policy *policy = nd_policy_of(nd_policy_banks());
	struct nd_flow *flow;
	bool permitted;
	__u32 reason;
	long found;

	p->now = bpf_ktime_get_coarse_ns();
	if (!state || !policy)
		return p->latched ? nd_lose(skb, p, ND_DROP_REDIRECT_FAILED) : nd_out_pass(p, ND_PASS_OUT_CLEAR);
	if (p->latched)
		p->latched = nd_latch(p, policy, true) != NULL;
	nd_set_filter_flags(skb, p, 0);
	if (nd_has_filters(policy, p, ND_LAYER_OUTBOUND_IPPACKET)) {
		found = nd_check_layer(skb, p, policy, ND_LAYER_OUTBOUND_IPPACKET);
		if (found >= 0)
			return nd_out_drop(skb, p, found);
	}
	if (!p->latched) {
		reason = nd_reason_out(skb, p, policy);
		if (reason != ND_NO_REASON)
			return nd_out_pass(p, reason);
	}
	if (p->fragment == ND_FRAGMENT_LATER)
		return nd_out_later_fragment(skb, p, state, policy);

	found = nd_decide(skb, policy, p, ND_LAYER_OUTBOUND_TRANSPORT);
	if (nd_found_is(found, ND_ACTION_BLOCK))
		return nd_out_drop(skb, p, nd_found_reason(found));
	permitted = found < 0 || nd_found_action(found) == ND_ACTION_PERMIT;
	if (permitted && !p->latched)
		p->notes |= ND_NOTE_EXEMPT;
	/* After that decision, so that the metadata can tell whether the payload will be in clear. */
	if (nd_has_filters(policy, p, nd_data_layer(p))) {
		long reason = nd_check_layer(skb, p, policy, nd_data_layer(p));

		if (reason >= 0)
			return nd_out_drop(skb, p, reason);
	}
	/* An error about a secured connection quotes its plaintext. */
	if (!p->latched && nd_icmp_is_error(p) &&
	    !(permitted && (policy->flags & ND_POLICY_ICMP_ERRORS_EXEMPT)))
		nd_follow_quoted(skb, p, permitted);
	if (!p->latched && (found < 0 || (permitted && nd_is_icmp(p))))
		/* Where ALE has no say, a block that was overridden for its sake stands. */
		return p->notes & ND_NOTE_OVERRIDDEN ? nd_out_drop(skb, p, ND_DROP_BLOCKED)
						     : nd_out_pass(p, ND_PASS_OUT_EXEMPT);

	flow = p->latched ? bpf_map_lookup_elem(&nd_secured, &p->key) : nd_clear_flow(p, policy);
	if (!flow && !p->latched) {
		long connect;

		nd_set_machine(p, policy, ND_LAYER_ALE_AUTH_CONNECT);
		connect = nd_decide(skb, policy, p, ND_LAYER_ALE_AUTH_CONNECT);

		if (nd_found_is(connect, ND_ACTION_BLOCK))
			return nd_out_drop(skb, p, nd_found_reason(connect));
	} else if (p->notes & ND_NOTE_OVERRIDDEN) {
		return nd_out_drop(skb, p, ND_DROP_BLOCKED);
	}
	return nd_out_flow(skb, p, policy, flow, found);
}

static __always_inline int nd_out(struct __sk_buff *skb, __u32 l3, __u16 proto)
{
	struct nd_packet p = { .l3 = l3, .outbound = 1 };
	struct nd_state *state;
	struct nd_flow *flow;

	switch (nd_parse(skb, proto, &p)) {
	case ND_NOT_IP:
		return ND_VERDICT_PASS;
	case ND_BAD_HEADER:
		return nd_drop(skb, &p, ND_DROP_MALFORMED);
	}
	state = nd_state_get();
	if (!state)
		return ND_VERDICT_PASS;
	p.now = nd_tick_time();
	/* Read before any verdict is made: a change after this line leaves the cache stale, so the
	 * next packet looks again. */
	p.epoch = *(volatile __u32 *)&state->epoch;
	flow = bpf_map_lookup_elem(&nd_secured, &p.key);
	if (flow) {
		if (flow->epoch == p.epoch && nd_fast(&p, flow) && !nd_flow_is_leaving(flow)) {
			struct nd_policy *policy;

			nd_flow_flags(flow, &p);
			nd_flow_touch(flow, &p);
			nd_flow_count(flow, ND_TRAFFIC_OUT_SECURE, p.length);
			if (!(state->flags & ND_STATE_KERNEL_ENGINE) &&
			    nd_device_stands(state, ND_DEVICE_ND0, state->nd0)) {
				nd_pass(&p, ND_PASS_OUT_PROTECTED);
				return bpf_redirect(state->nd0, 0);
			}
			policy = nd_policy_of(nd_policy_banks());
			return policy ? nd_redirect(skb, &p, state, policy)
				      : nd_lose(skb, &p, ND_DROP_REDIRECT_FAILED);
		}
		p.latched = 1;
		return nd_out_slow(skb, &p);
	}
	flow = bpf_map_lookup_elem(&nd_flows, &p.key);
	/* A clear verdict is good for a second: negative caches end and stuck negotiations are asked
	 * again without anybody raising the epoch. */
	if (flow && flow->epoch == p.epoch && nd_fast(&p, flow) && flow->checked == nd_coarse_time(&p)) {
		nd_flow_flags(flow, &p);
		nd_flow_touch(flow, &p);
		nd_flow_count(flow, ND_TRAFFIC_OUT_CLEAR, p.length);
		return nd_pass(&p, flow->flags & ND_FLOW_EXEMPT ? ND_PASS_OUT_EXEMPT
								: ND_PASS_OUT_CLEAR);
	}
	if (!flow)
		p.notes = ND_NOTE_NEW;
	return nd_out_slow(skb, &p);
}

/* ---- inbound, clear, on the protected interface ---- */

/* The reverse of nd_answers_broadcast. */
static __noinline void nd_remember_broadcast(const struct nd_packet *p)
{
	struct nd_flow_key key = p->key;
	__u64 now = p->now;

	if (p->key.proto != IPPROTO_UDP && p->key.proto != IPPROTO_UDPLITE)
		return;
	__builtin_memset(&key.local, 0, sizeof(key.local));
	bpf_map_update_elem(&nd_broadcasts, &key, &now, BPF_ANY);
}

static __noinline int nd_in_drop(struct __sk_buff *skb, const struct nd_packet *p, __u32 reason)
{
	if (p->fragment == ND_FRAGMENT_FIRST)
		nd_fragment_remember(p, ND_FRAGMENT_DROP);
	return nd_drop(skb, p, reason);
}

/* Later fragments of a dropped datagram with the same identifier must not meet this one's. */
static __always_inline int nd_in_pass(const struct nd_packet *p, __u32 kind)
{
	if (p->fragment == ND_FRAGMENT_FIRST)
		nd_fragment_remember(p, ND_FRAGMENT_PASS);
	return nd_pass(p, kind);
}

/* Row 3, and new flows that row 5 accepts. */
static __noinline int nd_in_clear(struct __sk_buff *skb, struct nd_packet *p,
				  struct nd_policy *policy, struct nd_flow *flow)
{
	if ((flow->flags & (ND_FLOW_TRIGGER | ND_FLOW_CLEAR_REPLY)) == ND_FLOW_TRIGGER) {
		struct nd_peer_key key = {
			.local = p->key.local, .remote = p->key.remote, .context = flow->context,
		};
		struct nd_peer *peer = bpf_map_lookup_elem(&nd_peers, &key);

		__sync_fetch_and_or(&flow->flags, ND_FLOW_CLEAR_REPLY);
		if (peer && peer->state == ND_PEER_NEGOTIATING)
			nd_emit(skb, p, ND_EVENT_CLEAR_REPLY, 0, flow->context);
	}
	nd_flow_flags(flow, p);
	nd_flow_touch(flow, p);
	nd_flow_count(flow, ND_TRAFFIC_IN_CLEAR, p->length);
	return nd_in_pass(p, flow->flags & ND_FLOW_EXEMPT ? ND_PASS_IN_EXEMPT : ND_PASS_IN_CLEAR);
}

/* What ALE_AUTH_RECV_ACCEPT has against a new clear flow, a reason for a drop; negative: nothing. */
static __always_inline long nd_refusal(long rule)
{
	if (nd_found_is(rule, ND_ACTION_BLOCK))
		return nd_found_reason(rule);
	if (nd_found_is(rule, ND_ACTION_INITIATE_SECURE))
		return ND_DROP_CLEAR_INBOUND;
	return -1;
}

/* Behind the filters. A function of its own: in one with them clang keeps "there is a flow" apart from the pointer,
 * and 6.1's verifier believed a branch between the two never to be taken (measured: a NULL flow was read). */
static __noinline int nd_in_flow(struct __sk_buff *skb, struct nd_packet *p, struct nd_policy *policy,
				 struct nd_flow *flow, __u32 context)
{
	struct nd_state *state = nd_state_get();

	if (!state)
		return nd_in_drop(skb, p, ND_DROP_REDIRECT_FAILED);
	if (p->notes & ND_NOTE_EXEMPT) {
		/* A stranger's packet makes no entry. */
		if (!flow)
			return nd_in_pass(p, ND_PASS_IN_EXEMPT);
		/* A cached "clear" would be counted as exempt from now on. */
		if (!(__sync_fetch_and_or(&flow->flags, ND_FLOW_EXEMPT) & ND_FLOW_EXEMPT))
			flow->epoch = p->epoch - 1;
		nd_flow_cache_in(flow, p);
		return nd_in_clear(skb, p, policy, flow);
	}
	if (!flow) {
		bool failed = nd_flow_insert(p, policy->generation, context, 0);

		/* Another CPU may have secured it since this packet asked the latch. */
		if (bpf_map_lookup_elem(&nd_secured, &p->key)) {
			bpf_map_delete_elem(&nd_flows, &p->key);
			return nd_in_drop(skb, p, ND_DROP_CLEAR_ON_SECURED);
		}
		if (!failed) {
			nd_clamp_syn(skb, p, policy, state);
			return nd_in_pass(p, ND_PASS_IN_CLEAR);
		}
		flow = bpf_map_lookup_elem(&nd_flows, &p->key);
		if (!flow)
			return nd_in_drop(skb, p, ND_DROP_CLEAR_INBOUND);
		/* The filters accept for itself what an answer to a broadcast does not let in. */
		if (__sync_fetch_and_and(&flow->flags, ~ND_FLOW_ANSWER) & ND_FLOW_ANSWER)
			flow->context = context;
	}
	/* The answer to a connection that was opened under the negative cache is left alone too. */
	if (flow->direction == ND_FLOW_INBOUND || (flow->flags & ND_FLOW_TRIGGER))
		nd_clamp_syn(skb, p, policy, state);
	nd_flow_cache_in(flow, p);
	return nd_in_clear(skb, p, policy, flow);
}

/* A clear packet whose 5-tuple is secured. ND_LATCH_NONE: it no longer is, for its time is over. */
static __noinline int nd_in_latched(struct __sk_buff *skb, struct nd_packet *p, const struct nd_policy *policy)
{
	struct nd_flow *flow = nd_latch(p, policy, false);

	if (flow)
		return nd_latch_in(skb, p, flow, policy);
	p->latched = 0;
	return ND_LATCH_NONE;
}

/* Row 5 of inbound: a new flow in clear may be a secured one whose entry was lost. A filter that asks for
 * persistence asks for this too. */
static __noinline bool nd_in_maybe_latched(const struct nd_packet *p, const struct nd_policy *policy, __u32 context)
{
	struct nd_peer_key key = { .local = p->key.local, .remote = p->key.remote, .context = context };

	return nd_maybe_latched(p, bpf_map_lookup_elem(&nd_peers, &key), policy);
}

static __always_inline int nd_in_decide(struct __sk_buff *skb, struct nd_packet *p, struct nd_policy *policy)
{
	struct nd_flow *flow;
	long transport, rule = -1, refusal;
	bool permitted, exempt, error = nd_icmp_is_error(p);
	__u32 reason;

	nd_set_filter_flags(skb, p, 0);
	if (nd_has_filters(policy, p, ND_LAYER_INBOUND_IPPACKET)) {
		rule = nd_check_layer(skb, p, policy, ND_LAYER_INBOUND_IPPACKET);
		if (rule >= 0)
			return nd_in_drop(skb, p, rule);
	}
	reason = nd_reason_in(skb, p, policy);
	if (reason == ND_BAD_SOURCE)
		return nd_in_drop(skb, p, ND_DROP_BAD_SOURCE);
	if (reason == ND_PASS_IN_NOT_UNICAST)
		nd_remember_broadcast(p);
	if (reason != ND_NO_REASON)
		return nd_in_pass(p, reason);
	p->notes |= ND_NOTE_OURS;
	if (p->fragment == ND_FRAGMENT_LATER) {
		/* It may overtake its first fragment; alone it delivers nothing, and the first
		 * one goes through the table. */
		if (nd_fragment_recall(p) == ND_FRAGMENT_DROP)
			return nd_drop(skb, p, ND_DROP_FRAGMENT);
		return nd_pass(p, ND_PASS_IN_FRAGMENT);
	}
	transport = nd_decide(skb, policy, p, ND_LAYER_INBOUND_TRANSPORT);
	if (nd_found_is(transport, ND_ACTION_BLOCK))
		return nd_in_drop(skb, p, nd_found_reason(transport));
	permitted = nd_found_is(transport, ND_ACTION_PERMIT);
	/* Exempt ICMP leaves no flow: each is a new one. An error belongs to what it quotes. */
	exempt = permitted && nd_is_icmp(p);
	if (error && !(exempt && (policy->flags & ND_POLICY_ICMP_ERRORS_EXEMPT))) {
		if (nd_icmp_hides_quote(p)) {
			nd_fragment_remember(p, ND_FRAGMENT_DROP);
			return nd_drop(skb, p, ND_DROP_ICMP_ERROR);
		}
		nd_follow_quoted(skb, p, exempt);
		if (p->latched) {
			int verdict = nd_in_latched(skb, p, policy);

			if (verdict != ND_LATCH_NONE)
				return verdict;
		}
	}

	flow = exempt ? NULL : nd_clear_flow(p, policy);
	if (flow && (flow->flags & ND_FLOW_ANSWER))
		flow = NULL;
	if (!flow && !(exempt && error)) {
		rule = nd_decide(skb, policy, p, ND_LAYER_ALE_AUTH_RECV_ACCEPT);
		refusal = nd_refusal(rule);
		if (transport >= 0 && !permitted && !flow &&
		    nd_in_maybe_latched(p, policy, rule >= 0 && refusal < 0 ? nd_found_context(rule) : 0))
			return nd_in_drop(skb, p, ND_DROP_CLEAR_ON_SECURED);
		if (refusal >= 0)
			return nd_in_drop(skb, p, refusal);
	} else if (p->notes & ND_NOTE_OVERRIDDEN) {
		/* ALE, for whose sake a block was overridden, has no say. */
		return nd_in_drop(skb, p, ND_DROP_BLOCKED);
	}
	if (exempt)
		return nd_in_pass(p, ND_PASS_IN_EXEMPT);
	if (permitted)
		p->notes |= ND_NOTE_EXEMPT;
	return nd_in_flow(skb, p, policy, flow, rule >= 0 ? nd_found_context(rule) : 0);
}

static __noinline int nd_in_slow(struct __sk_buff *skb, struct nd_packet *p)
{
	struct nd_policy *policy = nd_policy_of(nd_policy_banks());

	p->now = bpf_ktime_get_coarse_ns();
	if (!policy)
		return p->latched ? nd_in_drop(skb, p, ND_DROP_CLEAR_ON_SECURED) : nd_in_pass(p, ND_PASS_IN_CLEAR);
	if (p->latched) {
		int verdict = nd_in_latched(skb, p, policy);

		if (verdict != ND_LATCH_NONE)
			return verdict;
	}
	return nd_classify_data(skb, p, policy, nd_in_decide(skb, p, policy));
}

static __always_inline int nd_in(struct __sk_buff *skb, __u32 l3, __u16 proto)
{
	struct nd_packet p = { .l3 = l3 };
	struct nd_state *state;
	struct nd_flow *flow;

	switch (nd_parse(skb, proto, &p)) {
	case ND_NOT_IP:
		return ND_VERDICT_PASS;
	case ND_BAD_HEADER:
		return nd_drop(skb, &p, ND_DROP_MALFORMED);
	}
	state = nd_state_get();
	if (!state)
		return ND_VERDICT_PASS;
	p.now = nd_tick_time();
	p.epoch = *(volatile __u32 *)&state->epoch;
	if (bpf_map_lookup_elem(&nd_secured, &p.key)) {
		p.latched = 1;
		return nd_in_slow(skb, &p);
	}
	flow = bpf_map_lookup_elem(&nd_flows, &p.key);
	if (flow && flow->epoch_in == p.epoch &&
	    (flow->flags & (ND_FLOW_TRIGGER | ND_FLOW_CLEAR_REPLY)) != ND_FLOW_TRIGGER &&
	    !(flow->flags & ND_FLOW_ANSWER) && nd_fast(&p, flow)) {
		nd_flow_flags(flow, &p);
		nd_flow_touch(flow, &p);
		nd_flow_count(flow, ND_TRAFFIC_IN_CLEAR, p.length);
		return nd_pass(&p, flow->flags & ND_FLOW_EXEMPT ? ND_PASS_IN_EXEMPT
								: ND_PASS_IN_CLEAR);
	}
	if (!flow)
		p.notes = ND_NOTE_NEW;
	return nd_in_slow(skb, &p);
}

/* What an XFRM interface hands up after GRO has the link-layer header of the interface that it came
 * in by in front (measured on 6.1), though nd0 has none. The kernel knows where the IP header is;
 * its place is found by looking for the same bytes. Not static: see nd_no_link_header. */
__noinline __u32 nd_l3_decrypted(struct __sk_buff *skb)
{
	__u64 wanted[2], found[2];

	if (bpf_skb_load_bytes_relative(skb, 0, wanted, sizeof(wanted), BPF_HDR_START_NET))
		return 0;
	/* Tags are out of the data by then. */
	if (bpf_skb_load_bytes(skb, ETH_HLEN, found, sizeof(found)))
		return 0;
	return found[0] == wanted[0] && found[1] == wanted[1] ? ETH_HLEN : 0;
}

/* ---- programs ---- */

SEC("tc")
int nd_egress(struct __sk_buff *skb)
{
	__u16 proto = 0;
	int l3 = nd_l3_ethernet(skb, &proto);

	return l3 < 0 ? nd_malformed(skb, 1) : nd_out(skb, l3, proto);
}

SEC("tc")
int nd_ingress(struct __sk_buff *skb)
{
	__u16 proto = 0;
	int l3 = nd_l3_ethernet(skb, &proto);

	return l3 < 0 ? nd_malformed(skb, 0) : nd_in(skb, l3, proto);
}

/* Protected interfaces without a link-layer header (tun, wwan). */
SEC("tc")
int nd_egress_l3(struct __sk_buff *skb)
{
	/* With the bound clang keeps no copy of it on the stack, of which 6.1 leaves none. */
	return nd_out(skb, nd_no_link_header(skb) & ND_L3_MASK, skb->protocol);
}

SEC("tc")
int nd_ingress_l3(struct __sk_buff *skb)
{
	return nd_in(skb, nd_no_link_header(skb), skb->protocol);
}

SEC("tc")
int nd_nd0_ingress(struct __sk_buff *skb)
{
	struct nd_state *state = nd_state_get();
	__u32 l3 = nd_no_link_header(skb);

	if (state && (state->flags & ND_STATE_KERNEL_ENGINE)) {
		/* GRO brings here what the socket's program sees anyway. */
		if (state->flags & ND_STATE_AT_SOCKET)
			return ND_VERDICT_PASS;
		l3 = nd_l3_decrypted(skb);
	}
	return nd_decrypted(skb, l3, skb->protocol);
}

/* The daemon's sweep of secured flows: removes the entry of one key if it was last seen when the daemon read it. Here
 * and not by the daemon, for it may neither remove an entry that a packet touches meanwhile nor die half-way. */
SEC("syscall")
int nd_sweep(struct nd_sweep_request *request)
{
	struct nd_flow_key key = request->key;
	struct nd_flow *flow = bpf_map_lookup_elem(&nd_secured, &key);

	return flow && nd_secured_remove(&key, flow, request->seen);
}

char nd_license[] SEC("license") = "Dual BSD/GPL";
