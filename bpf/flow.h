/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The connection table. Losing an entry must never open anything. */
#ifndef ND_FLOW_H
#define ND_FLOW_H

static __always_inline bool nd_opens(const struct nd_packet *p)
{
	return (p->tcp_flags & (ND_TCP_SYN | ND_TCP_ACK)) == ND_TCP_SYN;
}

static __always_inline bool nd_flow_ended(const struct nd_flow *flow)
{
	__u32 fins = ND_FLOW_FIN_OUT | ND_FLOW_FIN_IN;

	return (flow->flags & ND_FLOW_RESET) || (flow->flags & fins) == fins;
}

/* The entry, unless its life is over: idle too long, or a new connection opens on the 5-tuple of
 * an ended one. A stale entry is removed. */
static __always_inline struct nd_flow *nd_flow_find(const struct nd_packet *p,
						    const struct nd_policy *policy)
{
	struct nd_flow *flow = bpf_map_lookup_elem(&nd_flows, &p->key);
	bool tcp = p->key.proto == IPPROTO_TCP;

	if (!flow)
		return NULL;
	if (p->now > flow->last_seen + (tcp ? policy->tcp_idle_ns : policy->idle_ns) ||
	    (tcp && nd_opens(p) && nd_flow_ended(flow))) {
		bpf_map_delete_elem(&nd_flows, &p->key);
		return NULL;
	}
	return flow;
}

static __noinline struct nd_flow *nd_flow_create(const struct nd_packet *p,
						 const struct nd_policy *policy, __u32 context,
						 __u32 flags)
{
	struct nd_flow fresh = {
		.first_seen = p->now,
		.last_seen = p->now,
		.generation = policy->generation,
		.context = context,
		.flags = flags,
		.direction = p->outbound ? ND_FLOW_OUTBOUND : ND_FLOW_INBOUND,
	};
	struct nd_stats *stats = nd_stats_get();

	if (flags & ND_FLOW_SECURE)
		fresh.secured_at = p->now;
	/* NOEXIST: two CPUs with the first packets of one flow must end up with one entry. An LRU map
	 * can refuse an insert while another CPU holds its free list (measured, 1 of 100,000), so
	 * once more before the packet is given up. */
	for (int i = 0; i < 3; i++) {
		long failed = bpf_map_update_elem(&nd_flows, &p->key, &fresh, BPF_NOEXIST);

		if (!failed && stats)
			stats->flows_created++;
		if (!failed || failed == -17 /* EEXIST */)
			break;
	}
	return bpf_map_lookup_elem(&nd_flows, &p->key);
}

static __always_inline void nd_flow_flags(struct nd_flow *flow, const struct nd_packet *p)
{
	__u32 flags = 0;

	if (p->key.proto != IPPROTO_TCP || !(p->tcp_flags & (ND_TCP_FIN | ND_TCP_RST)))
		return;
	if (p->tcp_flags & ND_TCP_FIN)
		flags |= p->outbound ? ND_FLOW_FIN_OUT : ND_FLOW_FIN_IN;
	if (p->tcp_flags & ND_TCP_RST)
		flags |= ND_FLOW_RESET;
	__sync_fetch_and_or(&flow->flags, flags);
}

static __always_inline __u8 nd_coarse_time(const struct nd_packet *p)
{
	return p->now >> 30;
}

/* The next packets of the flow go without the table, until the epoch is raised. Filters saw an
 * ICMP error, not the flow that it quotes: its verdict is nobody else's. */
static __always_inline void nd_flow_cache(struct nd_flow *flow, const struct nd_packet *p)
{
	if (p->quoted)
		return;
	/* Filters see that a first fragment is one; whole packets are asked for themselves. */
	if (p->fragment || (p->notes & ND_NOTE_UNCACHED)) {
		flow->epoch = p->epoch - 1;
		return;
	}
	flow->checked = nd_coarse_time(p);
	flow->epoch = p->epoch;
}

static __always_inline void nd_flow_cache_in(struct nd_flow *flow, const struct nd_packet *p)
{
	if (!p->quoted)
		flow->epoch_in = p->fragment || (p->notes & ND_NOTE_UNCACHED) ? p->epoch - 1 : p->epoch;
}

static __always_inline void nd_flow_touch(struct nd_flow *flow, const struct nd_packet *p)
{
	/* Coarse clock: most packets find the same value and leave the cache line clean. */
	if (flow->last_seen != p->now)
		flow->last_seen = p->now;
}

/* Sets the latch once; counts a clear flow that became secured. */
static __always_inline void nd_flow_secure(struct nd_flow *flow, const struct nd_packet *p)
{
	if (flow->flags & ND_FLOW_SECURE)
		return;
	flow->secured_at = p->now;
	/* A cached verdict was "clear"; with the latch it would read "nd0", whatever the peer is. */
	flow->epoch = p->epoch - 1;
	if (!(__sync_fetch_and_or(&flow->flags, ND_FLOW_SECURE) & ND_FLOW_SECURE) &&
	    (flow->packets[ND_TRAFFIC_OUT_CLEAR] || flow->packets[ND_TRAFFIC_IN_CLEAR])) {
		struct nd_stats *stats = nd_stats_get();

		if (stats)
			stats->upgrades++;
	}
}

#if !ND_AT_SOCKET
/* An ICMP error that no filter exempts follows the flow that it quotes (DESIGN §3): put that
 * flow's key in place of its own. Quoted packets of ours went out, of the peer's came in. */
static __noinline void nd_follow_quoted(struct __sk_buff *skb, struct nd_packet *p)
{
	struct nd_flow_key quoted = {};
	__u32 at = p->l4 + 8;
	__u16 ports[2] = {};
	__u8 head[40];
	struct nd_addr source, destination;
	__u32 fragment_id = 0;

	if (p->family == 4) {
		__u32 header;

		if (bpf_skb_load_bytes(skb, at, head, 20))
			return;
		header = (head[0] & 0xf) * 4;
		if (head[0] >> 4 != 4 || header < 20)
			return;
		quoted.proto = head[9];
		nd_map_v4(&source, *(__u32 *)(head + 12));
		nd_map_v4(&destination, *(__u32 *)(head + 16));
		at += header;
	} else {
		if (bpf_skb_load_bytes(skb, at, head, 40) || head[0] >> 4 != 6)
			return;
		int found = nd_ipv6_extensions(skb, at + 40, head[6], &fragment_id);

		if (found < 0)
			return;
		quoted.proto = found >> 16;
		nd_copy_v6(&source, (struct in6_addr *)(head + 8));
		nd_copy_v6(&destination, (struct in6_addr *)(head + 24));
		at = found & 0xffff;
	}
	if (nd_has_ports(quoted.proto)) {
		if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
			return;
	} else if (quoted.proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		if (bpf_skb_load_bytes(skb, at, head, 8))
			return;
		if (nd_icmp_has_id(p->family, head[0]))
			ports[0] = ports[1] = *(__u16 *)(head + 4);
	}
	/* An inbound error quotes what we sent; an outbound one what we received. */
	quoted.local = p->outbound ? destination : source;
	quoted.remote = p->outbound ? source : destination;
	quoted.local_port = p->outbound ? ports[1] : ports[0];
	quoted.remote_port = p->outbound ? ports[0] : ports[1];
	if (!bpf_map_lookup_elem(&nd_flows, &quoted))
		return;
	p->key = quoted;
	p->quoted = 1;
}
#endif

#endif
