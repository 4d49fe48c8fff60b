/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Sizes: segments and packets must fit into their path after ESP. */
#ifndef ND_MSS_H
#define ND_MSS_H

#include "maps.h"
#include "parse.h"

#define ND_TCP_OPTIONS_MAX 40
#define ND_ROOM_LEAST 512
#define ND_SEGMENT_LEAST 88
#define ND_TCP_HEADER_MOST 60
/* ESP adds 57 bytes at most (AES-CBC with SHA-256), UDP 8. */
#define ND_TAIL_MOST 128

struct nd_mss_search {
	__u8 options[ND_TCP_OPTIONS_MAX];
	__u32 length;
	__u32 at;
	__u32 found;
};

/* One option a turn: a bpf_loop body is verified once, an unrolled walk a million times. */
static long nd_mss_option(__u32 index, struct nd_mss_search *s)
{
	__u32 at = s->at;
	__u8 kind, size;

	if (at > ND_TCP_OPTIONS_MAX - 4 || at + 4 > s->length)
		return 1;
	kind = s->options[at];
	if (kind == 0)
		return 1;
	if (kind == 1) {
		s->at = at + 1;
		return 0;
	}
	size = s->options[at + 1];
	if (kind == 2 && size == 4) {
		s->found = 1;
		return 1;
	}
	s->at = at + size;
	return size < 2;
}

/* most: the largest segment that may be announced. Not static, like what follows: see nd_ipv6_extensions. */
__noinline int nd_clamp_mss(struct __sk_buff *skb, const struct nd_packet *p, __u16 most)
{
	struct nd_mss_search s = {};
	__u32 length, at;
	__u16 old, clamped;
	__u8 offset;

	if (!p)
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4 + 12, &offset, 1))
		return 0;
	length = (offset >> 4) * 4;
	if (length <= 20 || length > 60)
		return 0;
	length -= 20;
	asm volatile("" : "+r"(length));
	if (length < 1 || length > ND_TCP_OPTIONS_MAX ||
	    bpf_skb_load_bytes(skb, p->l4 + 20, s.options, length))
		return 0;
	/* Linux and most others put it first. */
	if (s.options[0] == 2 && s.options[1] == 4 && length >= 4) {
		s.found = 1;
	} else {
		s.length = length;
		bpf_loop(ND_TCP_OPTIONS_MAX, nd_mss_option, &s, 0);
	}
	at = s.at;
	if (!s.found || at > ND_TCP_OPTIONS_MAX - 4)
		return 0;
	old = (__u16)s.options[at + 2] << 8 | s.options[at + 3];
	if (old <= most)
		return 0;
	old = bpf_htons(old);
	clamped = bpf_htons(most);
	/* An option may start at an odd offset; the checksum sees it byte-swapped then. */
	if (at & 1)
		bpf_l4_csum_replace(skb, p->l4 + 16, __builtin_bswap16(old),
				    __builtin_bswap16(clamped), 2);
	else
		bpf_l4_csum_replace(skb, p->l4 + 16, old, clamped, 2);
	bpf_skb_store_bytes(skb, p->l4 + 20 + at + 2, &clamped, 2, 0);
	return 1;
}

static __always_inline void nd_clamp_syn(struct __sk_buff *skb, const struct nd_packet *p,
					 const struct nd_policy *policy, const struct nd_state *state)
{
	__u32 overhead = p->family == 4 ? policy->overhead_v4 + 40 : policy->overhead_v6 + 60;
	__u32 mtu = state->mtu;

	if (p->key.proto == IPPROTO_TCP && (p->tcp_flags & ND_TCP_SYN) && !p->fragment && mtu &&
	    mtu >= overhead + 88 && nd_clamp_mss(skb, p, mtu - overhead)) {
		struct nd_stats *stats = nd_stats_get();

		if (stats)
			stats->mss_clamped++;
	}
}

/* What fits into an ESP packet of the kernel's engine. An XFRM interface lowers the route's PMTU for
 * whatever is larger, DF or not, and in transport mode inner and outer share that route: one packet
 * too many and it spirals down to 552 (measured). So nothing larger may reach it. */
static __always_inline __u32 nd_room(const struct nd_packet *p, const struct nd_state *state,
				     const struct nd_policy *policy)
{
	__u32 overhead = p->family == 4 ? policy->overhead_v4 : policy->overhead_v6;

	return state->mtu > overhead + ND_ROOM_LEAST ? state->mtu - overhead : 0;
}

/* Fits into an ESP packet, or was made to. A peer that does not clamp MSS lets our TCP send segments
 * that ESP makes too big. The kernel cuts a super-packet up after us, so it can be told a smaller
 * size: room made in front of the IP header takes it from the segments, and taken away again it
 * leaves them so. */
__noinline bool nd_fits(struct __sk_buff *skb, const struct nd_packet *p, __u32 room)
{
	__u32 headers, over, segment = skb->gso_size;
	__u8 offset = 0;

	if (!p)
		return false;
	headers = p->l4 - p->l3;
	if (!segment)
		return p->length <= room;
	if (headers + ND_TCP_HEADER_MOST + segment <= room)
		return true;
	if (p->key.proto != IPPROTO_TCP)
		return headers + 8 + segment <= room;
	if (bpf_skb_load_bytes(skb, p->l4 + 12, &offset, 1))
		return false;
	headers += (offset >> 4) * 4;
	if (headers + segment <= room)
		return true;
	over = headers + segment - room;
	if (over > 1024 || headers + ND_SEGMENT_LEAST > room)
		return false;
	return !bpf_skb_adjust_room(skb, over, BPF_ADJ_ROOM_MAC, 0) &&
	       !bpf_skb_adjust_room(skb, -(__s32)over, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* Local TCP leaves its checksum to the device: the field holds the pseudo header's sum. */
__noinline bool nd_checksum_is_partial(const struct nd_packet *p, __u32 l4_length, __u16 check)
{
	const __u32 *local, *remote;
	__u64 sum = bpf_htons((__u16)l4_length) + bpf_htons(IPPROTO_TCP);

	if (!p)
		return false;
	local = p->key.local.words;
	remote = p->key.remote.words;
	/* The mapped prefix of IPv4 is no part of it. */
	if (p->family == 6)
		sum += (__u64)local[0] + local[1] + local[2] + remote[0] + remote[1] + remote[2];
	sum += (__u64)local[3] + remote[3];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == check;
}

/* Cuts the packet's length from one total to another. */
__noinline int nd_set_length(struct __sk_buff *skb, const struct nd_packet *p, __u32 from, __u32 to)
{
	__u32 before;
	__u16 old, new;

	if (!p)
		return -1;
	before = p->l4 - p->l3;
	old = bpf_htons(p->family == 4 ? from : from - 40);
	new = bpf_htons(p->family == 4 ? to : to - 40);
	if (bpf_skb_change_tail(skb, p->l3 + to, 0))
		return -1;
	if (p->family == 4 && bpf_l3_csum_replace(skb, p->l3 + 10, old, new, 2))
		return -1;
	if (bpf_skb_store_bytes(skb, p->l3 + (p->family == 4 ? 2 : 4), &new, 2, 0))
		return -1;
	return bpf_l4_csum_replace(skb, p->l4 + 16, bpf_htons(from - before), bpf_htons(to - before),
				   BPF_F_PSEUDO_HDR | 2);
}

/* A bound that 6.1's verifier sees: it forgets what it knew of a number that went to the stack. */
static __always_inline __u32 nd_tail_size(__u32 left)
{
	left -= 1;
	asm volatile("%0 &= %1" : "+r"(left) : "i"(ND_TAIL_MOST - 1));
	return left + 1;
}

/* 6.1 counts 512 bytes of stack for a whole chain of calls. TC programs of one CPU run one after the
 * other, and what nd0 sends in between comes back here no more. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__uint(value_size, ND_TAIL_MOST);
} nd_tail SEC(".maps");

/* A single segment that ESP makes too big becomes two, as the kernel would cut a super-packet: the
 * larger part goes ahead, the few bytes that don't fit follow behind the same headers. */
__noinline bool nd_cut(struct __sk_buff *skb, const struct nd_packet *p, __u32 room, __u32 nd0)
{
	__u32 left, headers, sequence;
	__u32 zero = 0;
	__u8 *tail = bpf_map_lookup_elem(&nd_tail, &zero);
	struct tcphdr tcp;
	__u8 flags;

	if (!p || !tail || p->key.proto != IPPROTO_TCP || bpf_skb_load_bytes(skb, p->l4, &tcp, sizeof(tcp)))
		return false;
	left = p->length - room;
	headers = p->l4 - p->l3 + tcp.doff * 4;
	if (tcp.syn || tcp.urg || headers + ND_SEGMENT_LEAST > room ||
	    !nd_checksum_is_partial(p, p->length - (p->l4 - p->l3), tcp.check))
		return false;
	if (left > ND_TAIL_MOST || bpf_skb_load_bytes(skb, p->l3 + room, tail, nd_tail_size(left)))
		return false;
	flags = ((__u8 *)&tcp)[13] & ~(ND_TCP_FIN | ND_TCP_PSH);
	if (nd_set_length(skb, p, p->length, room))
		return false;
	/* Where a part can't be sent, TCP sends it again. */
	if (bpf_skb_store_bytes(skb, p->l4 + 13, &flags, 1, 0) || bpf_clone_redirect(skb, nd0, 0))
		return true;
	flags = ((__u8 *)&tcp)[13] & ~ND_TCP_CWR;
	sequence = bpf_htonl(bpf_ntohl(tcp.seq) + room - headers);
	if (bpf_skb_store_bytes(skb, p->l4 + tcp.doff * 4, tail, nd_tail_size(left), 0))
		return true;
	nd_set_length(skb, p, room, headers + left);
	bpf_skb_store_bytes(skb, p->l4 + 4, &sequence, 4, 0);
	bpf_skb_store_bytes(skb, p->l4 + 13, &flags, 1, 0);
	return true;
}

#endif
