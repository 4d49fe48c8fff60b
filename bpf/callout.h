/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Programs of third parties. A classification that meets a filter with a program stops there; the program is
 * called, and the classification goes on with its answer. The functions that are not static are walked once by a
 * verifier, not once for every caller. What such a program sees of this is nd_callout.h.
 */
#ifndef ND_CALLOUTS_H
#define ND_CALLOUTS_H

#include "flow.h"
#include "match.h"
#include "nd_callout.h"
#include "parse.h"

/* Whoever calls has a program type of its own, and so has what it may call. */
#if ND_AT_SOCKET
#define ND_CALLOUT_PROGRAMS nd_callouts_at_socket
#else
#define ND_CALLOUT_PROGRAMS nd_callouts
#endif

/* One question, from the first look at the layer's filters to its decision. */
struct nd_consultation {
	struct nd_classification c;
	struct nd_packet p;
	__s64 found;   /* as in nd_classification: what was said so far, and by whom */
	__u64 filter;
	__u64 asking;  /* the filter whose program is asked */
	__u32 generation;
	__u32 layer;
	__u32 from;    /* its place */
	__u32 hard;
	__u32 program; /* its number */
	__u32 changes; /* the program may change the packet */
	__u32 inspection;
	__u32 answer;  /* enum nd_callout_answer */
	__u32 frame;   /* skb->len before the call */
	__u32 ale;     /* ALE must classify the packet: a block is overridden */
	__u32 overridden;
	__u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_consultation);
} nd_consulting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, ND_CALLOUT_SLOTS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} ND_CALLOUT_PROGRAMS SEC(".maps");

static __always_inline struct nd_consultation *nd_consultation_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nd_consulting, &zero);
}

/* Puts down a classification that met a program. */
static __always_inline long nd_suspend(struct nd_consultation *q, struct nd_bank *first, const struct nd_packet *p,
				       __u32 layer)
{
	struct nd_classification *c = &q->c;
	const struct nd_filter *filter = nd_at(first, c->slot, c->says + c->from * sizeof(*filter), &c->broken);

	if (p) {
		q->p = *p;
		q->overridden = 0;
	}
	q->layer = layer;
	q->generation = first->policy.generation;
	q->found = c->found;
	q->filter = c->filter;
	q->asking = filter->id;
	q->from = c->from;
	q->hard = c->hard;
	q->program = filter->context;
	q->changes = filter->flags & ND_FILTER_CHANGES;
	q->inspection = filter->kind == ND_SAYS_INSPECTION;
	return ND_FOUND_PENDING;
}

/* Goes on where a program was asked. */
__noinline long nd_resume(struct nd_consultation *q)
{
	struct nd_classification *c;
	struct nd_bank *first;

	if (!q)
		return ND_ACTION_BLOCK;
	first = nd_generation(q->generation);
	/* It stays until nobody is in it; a filter's place means nothing in another one. */
	if (!first || first->policy.generation != q->generation)
		return nd_found_of(ND_ACTION_BLOCK, ND_DROP_POLICY_CHANGED);
	c = &q->c;
	c->from = q->from;
	c->found = q->found;
	c->filter = q->filter;
	c->hard = q->hard;
	c->answer = q->answer;
	nd_match(first, c, &q->p, q->layer);
	if (c->pending)
		return nd_suspend(q, first, NULL, q->layer);
	q->filter = c->filter;
	return c->found;
}

static __always_inline bool nd_is_transport(__u32 layer)
{
	return layer == ND_LAYER_INBOUND_TRANSPORT || layer == ND_LAYER_OUTBOUND_TRANSPORT;
}

static __always_inline bool nd_is_ip_packet(__u32 layer)
{
	return layer == ND_LAYER_INBOUND_IPPACKET || layer == ND_LAYER_OUTBOUND_IPPACKET;
}

/* Where the payload begins, from the frame's first byte. */
static __always_inline __u32 nd_payload_at(struct __sk_buff *skb, const struct nd_packet *p)
{
	__u8 offset;

	if (p->key.proto == IPPROTO_TCP)
		return bpf_skb_load_bytes(skb, p->l4 + 12, &offset, 1) ? p->l4 + 20
								      : p->l4 + (offset >> 4) * 4;
	if (p->key.proto == IPPROTO_DCCP)
		return bpf_skb_load_bytes(skb, p->l4 + 4, &offset, 1) ? p->l4 + 12 : p->l4 + offset * 4;
	if (p->key.proto == IPPROTO_SCTP)
		return p->l4 + 12;
	if (nd_has_ports(p->key.proto) || nd_has_icmp(p))
		return p->l4 + 8;
	return p->l4;
}

static __always_inline __u32 nd_payload_length(const struct nd_packet *p, __u32 payload)
{
	__u32 end = p->l3 + p->length;

	return end > payload ? end - payload : 0;
}

static __noinline void nd_describe_protection(struct nd_callout_metadata *m, const struct nd_packet *p,
					  const struct nd_flow *flow, __u32 layer)
{
	struct nd_peer_key key = { .local = p->key.local, .remote = p->key.remote };
	struct nd_protection *known;
	struct nd_peer *peer;
	bool secured = p->flags & ND_FLAG_IS_IPSEC_SECURED;

	if (flow)
		key.context = flow->context;
	if (p->outbound) {
		/* While OUTBOUND_TRANSPORT decides only what left so before is known to leave so again. */
		secured = (flow && (flow->flags & ND_FLOW_SECURE)) ||
			  (!nd_is_transport(layer) && !(p->notes & ND_NOTE_EXEMPT) &&
			   !(flow && (flow->flags & ND_FLOW_EXEMPT)));
		peer = bpf_map_lookup_elem(&nd_peers, &key);
		secured = secured && peer && peer->state == ND_PEER_SECURED;
	}
	if (!secured)
		return;
	m->flags |= ND_CALLOUT_SECURED;
	m->mode = ND_CALLOUT_MODE_TRANSPORT;
	known = bpf_map_lookup_elem(&nd_protections, &key);
	if (!known)
		return;
	m->spi = p->outbound ? known->spi_out : known->spi_in;
	m->in_udp = known->in_udp;
	m->identity_type = known->identity_type;
	m->identity_length = known->identity_length;
	__builtin_memcpy(m->identity, known->identity, sizeof(m->identity));
}

/* Fills the metadata for the program that is asked next. */
__noinline int nd_describe_packet(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct nd_callout_metadata *m = bpf_map_lookup_elem(&nd_callout_meta, &zero);
	struct nd_consultation *q = nd_consultation_get();
	struct nd_policy *policy = nd_policy_of(nd_policy_banks());
	const struct nd_packet *p;
	struct nd_flow *flow;

	if (!m || !q || !policy)
		return 0;
	p = &q->p;
	flow = nd_flow_find(p, policy);
	__builtin_memset(m, 0, sizeof(*m));
	m->size = sizeof(*m);
	m->flow = p->key;
	m->filter = q->asking;
	m->ifindex = p->ifindex;
	m->l3 = p->l3;
	m->l4 = p->l4;
	m->payload = p->l3 + p->length;
	if (p->fragment != ND_FRAGMENT_LATER)
		m->payload = nd_payload_at(skb, p);
	m->payload_length = nd_payload_length(p, m->payload);
#if !ND_AT_SOCKET
	/* Behind a UDP datagram there may be padding that hides its length (RFC 4303 §2.7). */
	if (p->key.proto == IPPROTO_UDP && !p->fragment && !skb->gso_size) {
#else
	if (p->key.proto == IPPROTO_UDP) {
#endif
		__u16 length;

		if (!bpf_skb_load_bytes(skb, p->l4 + 4, &length, 2) && bpf_ntohs(length) >= 8 &&
		    bpf_ntohs(length) - 8u < m->payload_length)
			m->payload_length = bpf_ntohs(length) - 8;
	}
	m->layer = q->layer;
	m->family = p->family;
	m->inbound = !p->outbound;
	m->tcp_flags = p->tcp_flags;
	m->icmp_type = p->icmp_type;
	m->icmp_code = p->icmp_code;
	if (p->flags & ND_FLAG_IS_FRAGMENT)
		m->flags |= ND_CALLOUT_FRAGMENT;
	if (p->flags & ND_FLAG_IS_LOOPBACK)
		m->flags |= ND_CALLOUT_LOOPBACK;
	if (ND_AT_SOCKET)
		m->flags |= ND_CALLOUT_AT_SOCKET;
	q->ale = nd_is_transport(q->layer) && !flow;
	if (q->ale)
		m->flags |= ND_CALLOUT_ALE_CLASSIFY_REQUIRED;
	/* Before decryption there is ESP, whose SA is not looked at. */
	if (!nd_is_ip_packet(q->layer))
		nd_describe_protection(m, p, flow, q->layer);
	q->frame = skb->len;
	q->answer = ND_CALLOUT_UNREGISTERED;
	return 0;
}

/* The program returns here: a call that finds its way replaces this function alone. */
__noinline int nd_call(struct __sk_buff *skb, __u32 number)
{
	bpf_tail_call(skb, &ND_CALLOUT_PROGRAMS, number);
	return 1;
}

#if !ND_AT_SOCKET
/* A changed packet is still what was classified, and its header tells what is behind it. */
static __noinline bool nd_header_is_rebuilt(struct __sk_buff *skb, struct nd_packet *p, __u32 frame)
{
	__u32 header = p->l4 - p->l3, length, ports[1];
	__u64 sum = 0;
	__u8 ip[40];

	if (p->family == 4) {
		if (bpf_skb_load_bytes(skb, p->l3, ip, 20) || ip[0] != (0x40 | header / 4) ||
		    ip[9] != p->key.proto)
			return false;
		if (*(__u32 *)(ip + 12) != (p->outbound ? p->key.local : p->key.remote).words[3] ||
		    *(__u32 *)(ip + 16) != (p->outbound ? p->key.remote : p->key.local).words[3])
			return false;
		length = bpf_ntohs(*(__u16 *)(ip + 2));
#pragma unroll
		for (int i = 0; i < 5; i++)
			sum += ((__u32 *)ip)[i];
		for (__u32 at = 20; at < 60 && at < header; at += 4) {
			if (bpf_skb_load_bytes(skb, p->l3 + at, ip, 4))
				return false;
			sum += *(__u32 *)ip;
		}
		sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		if (sum != 0xffff)
			return false;
	} else {
		const struct nd_addr *source = p->outbound ? &p->key.local : &p->key.remote;
		const struct nd_addr *destination = p->outbound ? &p->key.remote : &p->key.local;

		if (bpf_skb_load_bytes(skb, p->l3, ip, 40) || ip[0] >> 4 != 6 ||
		    (header == 40 && ip[6] != p->key.proto))
			return false;
		for (int i = 0; i < 4; i++)
			if (((__u32 *)ip)[2 + i] != source->words[i] || ((__u32 *)ip)[6 + i] != destination->words[i])
				return false;
		length = 40 + bpf_ntohs(*(__u16 *)(ip + 4));
	}
	/* Packets above 64 KB carry no length (BIG TCP). */
	if (p->length <= 0xffff) {
		/* What was behind the packet in the frame (a link's padding) is still behind it. */
		if (length < header || frame - p->length + length != skb->len)
			return false;
		p->length = length;
	} else if (skb->len != frame) {
		return false;
	}
	if (nd_has_ports(p->key.proto)) {
		__u16 *port = (__u16 *)ports;

		if (bpf_skb_load_bytes(skb, p->l4, ports, 4) ||
		    port[0] != (p->outbound ? p->key.local_port : p->key.remote_port) ||
		    port[1] != (p->outbound ? p->key.remote_port : p->key.local_port))
			return false;
	}
	return true;
}
#endif

/* Takes the answer; returns the reason why the packet must be dropped whatever it is, or 0. */
__noinline int nd_take_answer(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct nd_callout_metadata *m = bpf_map_lookup_elem(&nd_callout_meta, &zero);
	struct nd_consultation *q = nd_consultation_get();
	struct nd_stats *stats = nd_stats_get();
	__u32 answer;

	asm volatile("" : : "r"(skb)); /* unused at the socket, where the caller would pass nothing */
	if (!m || !q || !stats)
		return ND_DROP_BLOCKED;
	answer = m->answer;
	stats->callouts_asked++;
	if (answer == ND_CALLOUT_UNREGISTERED)
		stats->callouts_missing++;
	else if (!q->inspection && answer != ND_CALLOUT_CONTINUE && answer != ND_CALLOUT_PERMIT && q->ale) {
		stats->callouts_overridden++;
		q->overridden = 1;
		answer = ND_CALLOUT_CONTINUE;
	}
	q->answer = answer;
#if !ND_AT_SOCKET
	if (q->changes && !nd_header_is_rebuilt(skb, &q->p, q->frame))
		return ND_DROP_CALLOUT_HEADER;
#endif
	return 0;
}

/* Asks program after program until the layer has decided. Unrolled: a counter kept across calls costs 6.1's
 * verifier what docs/classification.md tells of numbers that matter. */
__noinline long nd_consult(struct __sk_buff *skb)
{
	struct nd_consultation *q = nd_consultation_get();

	if (!q)
		return ND_ACTION_BLOCK;
#pragma unroll
	for (int i = 0; i < ND_CALLOUTS_A_LAYER; i++) {
		long found;
		int reason;

		nd_describe_packet(skb);
		nd_call(skb, q->program);
		reason = nd_take_answer(skb);
		if (reason) {
			q->filter = q->asking;
			return nd_found_of(ND_ACTION_BLOCK, reason);
		}
		found = nd_resume(q);
		if (found != ND_FOUND_PENDING)
			return found;
	}
	return ND_ACTION_BLOCK;
}

/* What came of programs' answers beside the decision. */
__noinline int nd_take_changes(struct nd_packet *p)
{
	struct nd_consultation *q = nd_consultation_get();

	if (!p || !q)
		return -1;
	p->length = q->p.length;
	p->notes |= ND_NOTE_UNCACHED | (q->overridden ? ND_NOTE_OVERRIDDEN : 0);
	return 0;
}

#endif
