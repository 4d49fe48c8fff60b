/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Flows: what is known of each connection, in two tables.
 *
 * nd_secured holds the latch: 5-tuples of which a packet was protected by this host or arrived
 * authenticated. No clear packet makes, changes or ends an entry there. nd_flows holds all others; it is an
 * LRU, and losing an entry of it must never open anything. A flow that becomes secured moves from the second
 * to the first, which is always asked first: what may remain in the second means nothing.
 */
#ifndef ND_FLOW_H
#define ND_FLOW_H

#include "counter.h"

/* The coarse clock as this CPU last read it, and in which tick. */
struct nd_tick {
	__u64 jiffies;
	__u64 now;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_tick);
} nd_clock SEC(".maps");

/* The coarse clock, at most one tick late: the kernel advances it just behind the jiffies. It takes 12 ns to read, a
 * fifth of an established flow's packet (measured), and jiffies are a load. For cached verdicts; whatever is decided
 * anew reads the clock itself. */
static __always_inline __u64 nd_tick_time(void)
{
	__u32 zero = 0;
	struct nd_tick *tick = bpf_map_lookup_elem(&nd_clock, &zero);
	__u64 jiffies = bpf_jiffies64();

	if (!tick)
		return bpf_ktime_get_coarse_ns();
	if (tick->jiffies != jiffies) {
		tick->now = bpf_ktime_get_coarse_ns();
		tick->jiffies = jiffies;
	}
	return tick->now;
}

static __always_inline bool nd_opens(const struct nd_packet *p)
{
	return (p->tcp_flags & (ND_TCP_SYN | ND_TCP_ACK)) == ND_TCP_SYN;
}

static __always_inline bool nd_flow_ended(const struct nd_flow *flow)
{
	__u32 fins = ND_FLOW_FIN_OUT | ND_FLOW_FIN_IN;

	return (flow->flags & ND_FLOW_RESET) || (flow->flags & fins) == fins;
}

/* No packet of it came for the time that its kind is remembered. */
static __always_inline bool nd_flow_is_over(const struct nd_packet *p, const struct nd_policy *policy,
					    const struct nd_flow *flow)
{
	__u64 idle = flow->flags & ND_FLOW_SECURE ? policy->secured_idle_ns : policy->idle_ns;

	if (p->key.proto == IPPROTO_TCP)
		idle = policy->tcp_idle_ns;
	/* One that is about to be removed is no other packet's business. */
	return flow->last_seen && p->now > flow->last_seen + idle;
}

/* The packet opens a new connection on the 5-tuple of one that ended. */
static __always_inline bool nd_flow_restarts(const struct nd_packet *p, const struct nd_flow *flow)
{
	return p->key.proto == IPPROTO_TCP && nd_opens(p) && nd_flow_ended(flow);
}

/* The packet's flow, secured or not; NULL where there is none or its life is over. */
static __always_inline struct nd_flow *nd_flow_find(const struct nd_packet *p, const struct nd_policy *policy)
{
	struct nd_flow *flow = bpf_map_lookup_elem(&nd_secured, &p->key);

	if (!flow)
		flow = bpf_map_lookup_elem(&nd_flows, &p->key);
	return flow && !nd_flow_is_over(p, policy, flow) ? flow : NULL;
}

/* The clear flow of the packet. One whose life is over, or that the packet opens anew, is removed. One that another
 * CPU made since the packet found none is not looked for: nd_flow_insert meets it. */
static __always_inline struct nd_flow *nd_clear_flow(const struct nd_packet *p, const struct nd_policy *policy)
{
	struct nd_flow *flow;

	if (p->notes & ND_NOTE_NEW)
		return NULL;
	flow = bpf_map_lookup_elem(&nd_flows, &p->key);
	if (flow && (nd_flow_is_over(p, policy, flow) || nd_flow_restarts(p, flow))) {
		bpf_map_delete_elem(&nd_flows, &p->key);
		return NULL;
	}
	return flow;
}

/* Removes a secured flow's entry whose end was seen when it was last touched at `seen`. Another packet may touch it
 * meanwhile: then it lives on. Whoever marks it removes it, and until it is gone its packets wait. */
static __always_inline bool nd_secured_remove(const struct nd_flow_key *key, struct nd_flow *flow, __u64 seen)
{
	if (!seen || __sync_val_compare_and_swap(&flow->last_seen, seen, 0) != seen)
		return false;
	bpf_map_delete_elem(&nd_secured, key);
	return true;
}

/* The secured flow's entry, unless it ends here: its time is over, or with `opens`, for a packet that this host sends
 * or decrypted, that opens another connection on its 5-tuple. */
static __always_inline struct nd_flow *nd_latch(const struct nd_packet *p, const struct nd_policy *policy, bool opens)
{
	struct nd_flow *flow = bpf_map_lookup_elem(&nd_secured, &p->key);
	__u64 seen;

	if (!flow)
		return NULL;
	seen = *(volatile __u64 *)&flow->last_seen;
	if ((nd_flow_is_over(p, policy, flow) || (opens && nd_flow_restarts(p, flow))) &&
	    nd_secured_remove(&p->key, flow, seen))
		return NULL;
	return flow;
}

/* A new entry while it is written: 6.1 counts 512 bytes of stack for a whole chain of calls. Programs of one CPU
 * that make entries run one after the other. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_flow);
} nd_fresh SEC(".maps");

static __always_inline struct nd_flow *nd_fresh_flow(const struct nd_packet *p, __u32 generation, __u32 context,
						     __u32 flags)
{
	__u32 zero = 0;
	struct nd_flow *fresh = bpf_map_lookup_elem(&nd_fresh, &zero);

	if (!fresh)
		return NULL;
	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->first_seen = p->now;
	fresh->last_seen = p->now;
	fresh->generation = generation;
	fresh->context = context;
	fresh->flags = flags;
	fresh->direction = p->outbound ? ND_FLOW_OUTBOUND : ND_FLOW_INBOUND;
	return fresh;
}

/* Makes the packet's flow a secured one, with what is known of it as a clear one. Only for a packet that this
 * host protects or decrypted. Negative: there is no room, and what can't be latched must not be protected: later
 * packets of it could leave in clear. */
__noinline int nd_secured_insert(const struct nd_packet *p, __u32 generation, __u32 context)
{
	struct nd_stats *stats = nd_stats_get();
	struct nd_flow_key key;
	struct nd_flow *clear, *fresh;
	bool upgrade = false;
	long failed;

	if (!p || !stats)
		return -1;
	key = p->key;
	fresh = nd_fresh_flow(p, generation, context, 0);
	if (!fresh)
		return -1;
	clear = bpf_map_lookup_elem(&nd_flows, &key);
	if (clear && !nd_flow_restarts(p, clear)) {
		*fresh = *clear;
		upgrade = fresh->packets[ND_TRAFFIC_OUT_CLEAR] || fresh->packets[ND_TRAFFIC_IN_CLEAR];
		/* Clear packets may have forged them. */
		fresh->flags &= ~(ND_FLOW_FIN_IN | ND_FLOW_FIN_OUT | ND_FLOW_RESET);
	}
	fresh->last_seen = p->now;
	fresh->secured_at = p->now;
	fresh->protected_rx_at = 0;
	fresh->context = context;
	fresh->flags |= ND_FLOW_SECURE;
	/* A cached verdict was "clear". */
	fresh->epoch = p->epoch - 1;
	fresh->epoch_in = p->epoch - 1;
	failed = bpf_map_update_elem(&nd_secured, &key, fresh, BPF_NOEXIST);
	if (failed == -17 /* EEXIST */)
		return 0;
	if (failed) {
		stats->secured_full++;
		return failed;
	}
	stats->flows_created += !clear;
	stats->upgrades += upgrade;
	if (clear)
		bpf_map_delete_elem(&nd_flows, &key);
	return 0;
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

/* Makes an entry for a clear flow that counts the packet and has its verdict cached: the table is written once and
 * not read again. NOEXIST: two CPUs with the first packets of one flow must
 * end up with one entry; whose insert fails has to look for it. An LRU map can refuse an insert while another CPU holds its free list (measured, 1 of 100,000), so
 * once more before the packet is given up. Not static: see nd_ipv6_extensions. */
__noinline int nd_flow_insert(const struct nd_packet *p, __u32 generation, __u32 context, __u32 flags)
{
	struct nd_stats *stats = nd_stats_get();
	struct nd_flow_key key; /* 6.1 takes no argument's memory as a map's key */
	struct nd_flow *fresh;
	long failed = 0;

	if (!p)
		return -1;
	key = p->key;
	fresh = nd_fresh_flow(p, generation, context, flags);
	if (!fresh)
		return -1;
	nd_flow_flags(fresh, p);
	if (p->outbound) {
		fresh->packets[ND_TRAFFIC_OUT_CLEAR] = 1;
		fresh->bytes[ND_TRAFFIC_OUT_CLEAR] = p->length;
		nd_flow_cache(fresh, p);
	} else {
		fresh->packets[ND_TRAFFIC_IN_CLEAR] = 1;
		fresh->bytes[ND_TRAFFIC_IN_CLEAR] = p->length;
		nd_flow_cache_in(fresh, p);
	}
	for (int i = 0; i < 3; i++) {
		failed = bpf_map_update_elem(&nd_flows, &key, fresh, BPF_NOEXIST);
		if (!failed && stats)
			stats->flows_created++;
		if (!failed || failed == -17 /* EEXIST */)
			break;
	}
	return failed;
}

static __always_inline void nd_flow_touch(struct nd_flow *flow, const struct nd_packet *p)
{
	__u64 seen = *(volatile __u64 *)&flow->last_seen;

	/* Coarse clock: most packets find the same value and leave the cache line clean. */
	if (seen && seen < p->now)
		__sync_val_compare_and_swap(&flow->last_seen, seen, p->now);
}

/* The entry is about to be removed: the packet is lost, and the next one finds what comes after it. */
static __always_inline bool nd_flow_is_leaving(const struct nd_flow *flow)
{
	return !*(volatile __u64 *)&flow->last_seen;
}

/* A flow idle for longer goes through the whole table once, where its life is checked. */
#define ND_FAST_IDLE (2000000000ull)

static __always_inline bool nd_fast(const struct nd_packet *p, const struct nd_flow *flow)
{
	/* ICMP has too many meanings under one key: an error's flow is the one it quotes, and filters
	 * see the type. */
	return !p->fragment && p->key.proto != IPPROTO_ICMP && p->key.proto != IPPROTO_ICMPV6 &&
	       !(p->tcp_flags & ND_TCP_SYN) &&
	       p->now <= flow->last_seen + ND_FAST_IDLE;
}

#if !ND_AT_SOCKET
/* An ICMP error follows the flow that it quotes (DESIGN §3): puts that flow's key in place of its own. Quoted
 * packets of ours went out, of the peer's came in. An exempt error follows secured flows alone. */
static __noinline void nd_follow_quoted(struct __sk_buff *skb, struct nd_packet *p, bool exempt)
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
	if (bpf_map_lookup_elem(&nd_secured, &quoted))
		p->latched = 1;
	else if (exempt || !bpf_map_lookup_elem(&nd_flows, &quoted))
		return;
	p->key = quoted;
	p->quoted = 1;
	p->notes &= ~(ND_NOTE_NEW | ND_NOTE_STRANGER);
}
#endif

#endif
