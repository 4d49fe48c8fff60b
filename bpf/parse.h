/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* From a packet to its flow key: VLAN tags, IPv4 options, IPv6 extension headers, fragments. */
#ifndef ND_PARSE_H
#define ND_PARSE_H

#define ND_FRAGMENT_FIRST 1
#define ND_FRAGMENT_LATER 2

#define ND_TCP_FIN 0x01
#define ND_TCP_SYN 0x02
#define ND_TCP_RST 0x04
#define ND_TCP_PSH 0x08
#define ND_TCP_ACK 0x10
#define ND_TCP_CWR 0x80

struct nd_packet {
	struct nd_flow_key key;
	__u64 now;         /* coarse clock, read once */
	__u32 epoch;       /* nd_state.epoch, read before any verdict is made */
	__u32 length;      /* from the IP header to the end */
	__u32 ifindex;     /* with flags: for filters, set where they are asked */
	__u32 fragment_id;
	__u16 l3;
	__u16 l4;
	__u8 family;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 fragment;     /* 0, ND_FRAGMENT_FIRST or ND_FRAGMENT_LATER */
	__u8 outbound;
	__u8 quiet;        /* the peer's state asks for no event */
	__u8 quoted;       /* key is the one that this ICMP error quotes */
	__u8 flags;        /* ND_FLAG_... */
	__u8 notes;        /* ND_NOTE_... */
	__u16 machine;     /* nd_protection.machine; set where filters ask for it */
};

/* A program was asked, or payload decided: the next packet is asked anew. */
#define ND_NOTE_UNCACHED 0x1u
/* A program's block gave way to ALE, which must be asked. */
#define ND_NOTE_OVERRIDDEN 0x2u
/* The filters of OUTBOUND_TRANSPORT exempt it: it leaves in clear whatever its peer is. */
#define ND_NOTE_EXEMPT 0x4u

enum nd_parsed { ND_PARSED, ND_NOT_IP, ND_BAD_HEADER };

#define ND_HEADERS_MAX 128
/* Ethernet and two tags are 22 bytes; the verifier wants to see a bound. */
#define ND_L3_MASK 31

/* Offset of the IP header behind an Ethernet header and up to two VLAN tags in the packet data
 * (an accelerated tag is not in the data). Negative: not IP. */
static __always_inline int nd_l3_ethernet(struct __sk_buff *skb, __u16 *proto)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u32 offset = sizeof(*eth);
	__u16 type;

	if (data + sizeof(*eth) > end)
		return -1;
	type = eth->h_proto;
#pragma unroll
	for (int i = 0; i < 2; i++) {
		__u16 *tag = data + offset;

		if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 2) > end)
			return -1;
		type = tag[1];
		offset += 4;
	}
	*proto = type;
	return offset;
}

/* Where the IP header is without a link-layer header. What a function that is not static returns is any number to
 * the verifier; with a zero that it knows it takes three times as many steps on 6.1 (measured). */
__noinline __u32 nd_no_link_header(struct __sk_buff *skb)
{
	__u32 zero = 0;

	asm volatile("" : "+r"(zero) : "r"(skb));
	return zero;
}

/* Walks IPv6 extension headers; returns the L4 offset with its protocol in bits 16-23 and the
 * fragment kind in bits 24-25, or -1. Not static: the verifier walks a global function once, not
 * once for every caller's state. */
__noinline int nd_ipv6_extensions(struct __sk_buff *skb, __u32 offset, __u32 next,
				  __u32 *fragment_id)
{
	__u32 fragment = 0;
	__u8 header[8];

	if (!fragment_id)
		return -1;
	for (int i = 0; i < 8; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT)
			break;
		if (bpf_skb_load_bytes(skb, offset, header, sizeof(header)))
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			__u16 place = bpf_ntohs(*(__u16 *)(header + 2));

			/* An atomic fragment (RFC 6946) is a whole packet. */
			if (place & 0xfff9)
				fragment = place & 0xfff8 ? ND_FRAGMENT_LATER : ND_FRAGMENT_FIRST;
			*fragment_id = *(__u32 *)(header + 4);
			offset += 8;
			next = header[0];
			if (fragment == ND_FRAGMENT_LATER)
				break;
			continue;
		}
		next = header[0];
		offset += (header[1] + 1) * 8;
	}
	/* More headers than the walk follows: what they hide would pass as a protocol without ports. */
	if (offset > 0xffff ||
	    (fragment != ND_FRAGMENT_LATER &&
	     (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
	      next == IPPROTO_FRAGMENT)))
		return -1;
	return offset | next << 16 | fragment << 24;
}

static __always_inline bool nd_has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP ||
	       proto == IPPROTO_DCCP || proto == IPPROTO_UDPLITE;
}

/* ICMP messages of a conversation carry an identifier; all others have none. */
static __always_inline bool nd_icmp_has_id(__u8 family, __u8 type)
{
	if (family == 4)
		return type == 0 || type == 8 || (type >= 13 && type <= 18);
	return type == 128 || type == 129;
}

static __always_inline bool nd_icmp_is_error(const struct nd_packet *p)
{
	if (p->key.proto == IPPROTO_ICMP && p->family == 4)
		return p->icmp_type == 3 || p->icmp_type == 4 || p->icmp_type == 5 ||
		       p->icmp_type == 11 || p->icmp_type == 12;
	return p->key.proto == IPPROTO_ICMPV6 && p->family == 6 && p->icmp_type < 128;
}

static __always_inline void nd_map_v4(struct nd_addr *to, __u32 address)
{
	to->quads[0] = 0;
	to->words[2] = bpf_htonl(0xffff);
	to->words[3] = address;
}

static __always_inline void nd_copy_v6(struct nd_addr *to, const struct in6_addr *from)
{
	to->words[0] = from->in6_u.u6_addr32[0];
	to->words[1] = from->in6_u.u6_addr32[1];
	to->words[2] = from->in6_u.u6_addr32[2];
	to->words[3] = from->in6_u.u6_addr32[3];
}

/* The IP header's length counts, not the frame's: there may be padding behind the packet. Zero is
 * what packets above 64 KB carry (BIG TCP). */
static __always_inline bool nd_trim(struct nd_packet *p, __u32 claimed, bool zero)
{
	if (zero && p->length > 0xffff)
		return true;
	if (claimed > p->length || p->l3 + claimed < p->l4)
		return false;
	p->length = claimed;
	return true;
}

static __always_inline int nd_parse_l4(void *l4, void *end, struct nd_packet *p)
{
	__u32 room = p->l3 + p->length - p->l4;
	__u8 proto = p->key.proto;

	if (p->fragment == ND_FRAGMENT_LATER)
		return ND_PARSED;
	if (nd_has_ports(proto)) {
		__u16 *ports = l4;
		__u8 *flags = l4;

		if (l4 + 8 > end || room < 8)
			return ND_BAD_HEADER;
		p->key.local_port = p->outbound ? ports[0] : ports[1];
		p->key.remote_port = p->outbound ? ports[1] : ports[0];
		if (proto == IPPROTO_TCP) {
			if (l4 + 20 > end || room < 20)
				return ND_BAD_HEADER;
			p->tcp_flags = flags[13];
		}
	} else if (proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		struct icmphdr *icmp = l4;

		if (l4 + 8 > end || room < 8)
			return ND_BAD_HEADER;
		p->icmp_type = icmp->type;
		p->icmp_code = icmp->code;
		if (nd_icmp_has_id(p->family, icmp->type)) {
			p->key.local_port = icmp->un.echo.id;
			p->key.remote_port = icmp->un.echo.id;
		}
	}
	return ND_PARSED;
}

static __always_inline int nd_parse_ipv4(struct __sk_buff *skb, struct nd_packet *p)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + (p->l3 & ND_L3_MASK);
	__u32 header;
	__u16 place;

	/* One pointer: computed a second time it would be one that the verifier has not seen
	 * checked. */
	asm volatile("" : "+r"(ip));
	if ((void *)(ip + 1) > end)
		return ND_BAD_HEADER;
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip))
		return ND_BAD_HEADER;
	p->family = 4;
	p->l4 = p->l3 + header;
	if (!nd_trim(p, bpf_ntohs(ip->tot_len), !ip->tot_len))
		return ND_BAD_HEADER;
	p->key.proto = ip->protocol;
	nd_map_v4(&p->key.local, p->outbound ? ip->saddr : ip->daddr);
	nd_map_v4(&p->key.remote, p->outbound ? ip->daddr : ip->saddr);
	place = bpf_ntohs(ip->frag_off);
	p->fragment_id = ip->id;
	if (place & 0x3fff)
		p->fragment = place & 0x1fff ? ND_FRAGMENT_LATER : ND_FRAGMENT_FIRST;
	return nd_parse_l4((void *)ip + header, end, p);
}

static __always_inline int nd_parse_ipv6(struct __sk_buff *skb, struct nd_packet *p)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ipv6hdr *ip = data + (p->l3 & ND_L3_MASK);
	__u32 l4 = p->l3 + sizeof(*ip);
	__u8 next;

	asm volatile("" : "+r"(ip));
	if ((void *)(ip + 1) > end || ip->version != 6)
		return ND_BAD_HEADER;
	p->family = 6;
	p->l4 = l4;
	if (!nd_trim(p, sizeof(*ip) + bpf_ntohs(ip->payload_len), !ip->payload_len))
		return ND_BAD_HEADER;
	/* Two plain branches: a selected pointer tempts the compiler into arithmetic on stack
	 * addresses that the verifier refuses. */
	if (p->outbound) {
		nd_copy_v6(&p->key.local, &ip->saddr);
		nd_copy_v6(&p->key.remote, &ip->daddr);
	} else {
		nd_copy_v6(&p->key.local, &ip->daddr);
		nd_copy_v6(&p->key.remote, &ip->saddr);
	}
	next = ip->nexthdr;
	if (next == IPPROTO_TCP || next == IPPROTO_UDP) {
		p->key.proto = next;
		return nd_parse_l4((void *)(ip + 1), end, p);
	}
	int found = nd_ipv6_extensions(skb, l4, next, &p->fragment_id);

	if (found < 0)
		return ND_BAD_HEADER;
	p->l4 = found;
	if (p->l4 > p->l3 + p->length)
		return ND_BAD_HEADER;
	p->key.proto = found >> 16;
	p->fragment = found >> 24 & 3;
	l4 = found & 0xffff;
	/* The verifier wants a bound on a variable packet offset. */
	if (l4 > 1024)
		return ND_BAD_HEADER;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	return nd_parse_l4(data + l4, end, p);
}

/* proto in network order, p->l3 and p->outbound set, everything else zero. */
static __always_inline int nd_parse(struct __sk_buff *skb, __u16 proto, struct nd_packet *p)
{
	__u32 length = skb->len;
#if !ND_AT_SOCKET
	__u32 linear = (long)skb->data_end - (long)skb->data;
#endif

	if (proto != bpf_htons(ETH_P_IP) && proto != bpf_htons(ETH_P_IPV6))
		return ND_NOT_IP;
	p->length = length - p->l3;
#if !ND_AT_SOCKET
	/* Only where more than the linear part exists: a pull un-shares the headers. */
	if (linear < length && linear < ND_HEADERS_MAX)
		bpf_skb_pull_data(skb, length < ND_HEADERS_MAX ? length : ND_HEADERS_MAX);
#endif
	return proto == bpf_htons(ETH_P_IP) ? nd_parse_ipv4(skb, p) : nd_parse_ipv6(skb, p);
}

#endif
