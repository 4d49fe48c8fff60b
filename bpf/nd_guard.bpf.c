// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * TC programs of all interfaces that are not protected: a guard that knows the latch only. A route may move
 * to any of them, and a packet of a secured connection may be sent to this host by any of them.
 */
#include "address.h"
#include "flow.h"
#include "fragment.h"
#include "latch.h"
#include "maps.h"
#include "mss.h"
#include "parse.h"
#include "verdict.h"

static __always_inline void nd_count_guarded(void)
{
	struct nd_stats *stats = nd_stats_get();

	if (stats)
		stats->guarded++;
}

/* A packet that came out of nd0, or that the kernel sends on for others, has no secured flow of this host. */
static __noinline int nd_guard_out(struct __sk_buff *skb, struct nd_packet *p)
{
	struct nd_state *state = nd_state_get();
	struct nd_policy *policy = nd_policy_of(nd_policy_banks());
	struct nd_peer_key key = {};
	struct nd_flow *flow;
	struct nd_peer *peer;

	if (!state || !policy)
		return nd_lose(skb, p, ND_DROP_REDIRECT_FAILED);
	if (p->fragment == ND_FRAGMENT_LATER && !p->latched) {
		switch (nd_fragment_recall(p)) {
		case ND_FRAGMENT_REDIRECT:
			return nd_redirect(skb, p, state, policy);
		case ND_FRAGMENT_DROP:
			return nd_drop(skb, p, ND_DROP_FRAGMENT);
		}
		return ND_VERDICT_PASS;
	}
	if (nd_icmp_is_error(p) && !(policy->flags & ND_POLICY_ICMP_ERRORS_EXEMPT))
		nd_follow_quoted(skb, p, true);
	flow = nd_latch(p, policy, true);
	if (!flow)
		return ND_VERDICT_PASS;
	p->latched = 1;
	nd_count_guarded();
	key.local = p->key.local;
	key.remote = p->key.remote;
	key.context = flow->context;
	peer = bpf_map_lookup_elem(&nd_peers, &key);
	if (!peer || peer->state != ND_PEER_SECURED)
		return nd_wait(skb, p, policy, &key, ND_DROP_LATCHED);
	nd_clamp_syn(skb, p, policy, state);
	return nd_protect(skb, p, flow, state, policy);
}

static __noinline int nd_guard_in(struct __sk_buff *skb, struct nd_packet *p)
{
	struct nd_policy *policy = nd_policy_of(nd_policy_banks());
	struct nd_flow *flow;

	if (!policy)
		return nd_drop(skb, p, ND_DROP_CLEAR_ON_SECURED);
	if (nd_icmp_is_error(p) && !(policy->flags & ND_POLICY_ICMP_ERRORS_EXEMPT)) {
		/* One that is forwarded is another host's business. */
		if (nd_icmp_hides_quote(p) && nd_local_kind(&p->key.local)) {
			nd_fragment_remember(p, ND_FRAGMENT_DROP);
			return nd_drop(skb, p, ND_DROP_ICMP_ERROR);
		}
		nd_follow_quoted(skb, p, true);
	}
	flow = bpf_map_lookup_elem(&nd_secured, &p->key);
	if (!flow || nd_flow_is_over(p, policy, flow))
		return ND_VERDICT_PASS;
	nd_count_guarded();
	return nd_latch_in(skb, p, flow, policy);
}

static __always_inline int nd_guard(struct __sk_buff *skb, __u32 l3, __u16 proto, __u32 outbound)
{
	struct nd_packet p = { .l3 = l3, .outbound = outbound };
	struct nd_state *state = nd_state_get();

	switch (nd_parse(skb, proto, &p)) {
	case ND_NOT_IP:
		return ND_VERDICT_PASS;
	case ND_BAD_HEADER:
		/* What another host sends through this one is its own business. */
		return outbound && skb->ingress_ifindex ? ND_VERDICT_PASS : nd_malformed(skb, outbound);
	}
	if (!state)
		return ND_VERDICT_PASS;
	p.now = bpf_ktime_get_coarse_ns();
	p.epoch = *(volatile __u32 *)&state->epoch;
	p.latched = bpf_map_lookup_elem(&nd_secured, &p.key) != NULL;
	if (!p.latched && !nd_icmp_is_error(&p) && !(outbound && p.fragment == ND_FRAGMENT_LATER))
		return ND_VERDICT_PASS;
	return outbound ? nd_guard_out(skb, &p) : nd_guard_in(skb, &p);
}

SEC("tc")
int nd_guard_egress(struct __sk_buff *skb)
{
	__u16 proto = 0;
	int l3 = nd_l3_ethernet(skb, &proto);

	if (l3 < 0)
		return skb->ingress_ifindex ? ND_VERDICT_PASS : nd_malformed(skb, 1);
	return nd_guard(skb, l3, proto, 1);
}

SEC("tc")
int nd_guard_ingress(struct __sk_buff *skb)
{
	__u16 proto = 0;
	int l3 = nd_l3_ethernet(skb, &proto);

	return l3 < 0 ? nd_malformed(skb, 0) : nd_guard(skb, l3, proto, 0);
}

/* Interfaces without a link-layer header (tun, wwan, IP tunnels). */
SEC("tc")
int nd_guard_egress_l3(struct __sk_buff *skb)
{
	return nd_guard(skb, nd_no_link_header(skb) & ND_L3_MASK, skb->protocol, 1);
}

SEC("tc")
int nd_guard_ingress_l3(struct __sk_buff *skb)
{
	return nd_guard(skb, nd_no_link_header(skb) & ND_L3_MASK, skb->protocol, 0);
}

char nd_license[] SEC("license") = "Dual BSD/GPL";
