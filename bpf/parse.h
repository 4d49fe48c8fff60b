/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * From a packet to its flow key: VLAN tags, IPv4 options, IPv6 extension headers, fragments.
 *
 * A packet that the parser can't finish is malformed and is dropped: the stack reads on where the parser
 * gave up, so whatever is let pass unread can be data of a secured connection.
 */
#ifndef ND_PARSE_H
#define ND_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/icmp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "nd.h"

#ifndef IPPROTO_UDPLITE
#define IPPROTO_UDPLITE 136
#endif
/* 1 in the program at the socket, which reads packets and changes none. */
#ifndef ND_AT_SOCKET
#define ND_AT_SOCKET 0
#endif

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
	__u8 latched;      /* its 5-tuple is secured */
	__u8 quoted;       /* key is the one that this ICMP error quotes */
	__u8 flags;        /* ND_FLAG_... */
	__u8 notes;        /* ND_NOTE_... */
	__u16 machine;     /* nd_protection.machine; set where filters ask for it */
};

/* A program was asked, or payload decided: the next packet is asked anew. */
#define ND_NOTE_UNCACHED 0x1u
/* A program's block gave way to ALE, which must be asked. */
#define ND_NOTE_OVERRIDDEN 0x2u
/* The filters of OUTBOUND_TRANSPORT or INBOUND_TRANSPORT permit it: clear, whatever its peer is. */
#define ND_NOTE_EXEMPT 0x4u
/* There was no reason to pass it unasked. */
#define ND_NOTE_OURS 0x8u
/* The peer's state asks for no event. */
#define ND_NOTE_QUIET 0x10u
/* Neither table of flows has its key. */
#define ND_NOTE_NEW 0x20u
/* The host's table of addresses does not have the remote one. */
#define ND_NOTE_STRANGER 0x40u
/* Nothing of it leaves before there are keys. */
#define ND_NOTE_WAITS 0x80u

enum nd_parsed { ND_PARSED, ND_NOT_IP, ND_BAD_HEADER };

#define ND_HEADERS_MAX 128
/* Tags that the parser follows. The kernel takes any number of tags with VID 0 away, and one for each VLAN
 * device on another. */
#define ND_TAGS_MAX 8
/* Ethernet and eight tags are 46 bytes; the verifier wants to see a bound. */
#define ND_L3_MASK 63

#define ND_L3_NOT_IP (-1)
#define ND_L3_MALFORMED (-2)

static __always_inline bool nd_is_tag(__u16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* Behind the tags in the packet's data: the offset, and the type in the upper half. Not static: see
 * nd_ipv6_extensions. */
__noinline int nd_behind_tags(struct __sk_buff *skb)
{
	__u32 offset = ETH_HLEN - 2;
	__u16 type = 0;

	for (int i = 0; i <= ND_TAGS_MAX; i++) {
		if (bpf_skb_load_bytes(skb, offset, &type, sizeof(type)))
			return ND_L3_MALFORMED;
		if (!nd_is_tag(type))
			return (offset + 2) | (__u32)bpf_ntohs(type) << 16;
		offset += 4;
	}
	return ND_L3_MALFORMED;
}

/* Offset of the IP header behind an Ethernet header and the VLAN tags in the packet's data (an accelerated
 * tag is not in the data). Negative: ND_L3_.... */
static __always_inline int nd_l3_ethernet(struct __sk_buff *skb, __u16 *proto)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u64 found;

	if (data + sizeof(*eth) > end)
		return ND_L3_MALFORMED;
	*proto = eth->h_proto;
	if (!nd_is_tag(eth->h_proto))
		return sizeof(*eth);
	found = (__u32)nd_behind_tags(skb);
	if (found == (__u32)ND_L3_MALFORMED)
		return ND_L3_MALFORMED;
	*proto = bpf_htons(found >> 16);
	return found & ND_L3_MASK;
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

			/* A fragment of a fragment: no stack makes one. */
			if (fragment)
				return -1;

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

/* The ports of an ICMP message's flow: the identifier, or else the type. With none, a protected error would make
 * one flow of itself and of neighbour discovery, which ESP itself needs. */
static __always_inline void nd_icmp_ports(struct nd_packet *p, __u16 id)
{
	bool has_id = nd_icmp_has_id(p->family, p->icmp_type);

	p->key.local_port = has_id ? id : 0;
	p->key.remote_port = has_id ? id : bpf_htons(p->icmp_type);
}

/* Of either family: filters exempt by the protocol's number. */
static __always_inline bool nd_is_icmp(const struct nd_packet *p)
{
	return p->key.proto == IPPROTO_ICMP || p->key.proto == IPPROTO_ICMPV6;
}

static __always_inline bool nd_icmp_is_error(const struct nd_packet *p)
{
	if (p->key.proto == IPPROTO_ICMP && p->family == 4)
		return p->icmp_type == 3 || p->icmp_type == 4 || p->icmp_type == 5 ||
		       p->icmp_type == 11 || p->icmp_type == 12;
	return p->key.proto == IPPROTO_ICMPV6 && p->family == 6 && p->icmp_type < 128;
}

/* What an error quotes may lie in its later fragments. An honest one is no larger than what every link carries
 * (RFC 1812 §4.3.2.3, RFC 4443 §2.4). */
static __always_inline bool nd_icmp_hides_quote(const struct nd_packet *p)
{
	return p->fragment == ND_FRAGMENT_FIRST;
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
		nd_icmp_ports(p, icmp->un.echo.id);
	}
	return ND_PARSED;
}

/* The same behind IPv6 extension headers, which may be longer than the part of the packet that lies in one
 * piece. */
static __always_inline int nd_parse_l4_far(struct __sk_buff *skb, struct nd_packet *p)
{
	__u32 room = p->l3 + p->length - p->l4;
	__u8 proto = p->key.proto;
	__u16 head[4];

	if (p->fragment == ND_FRAGMENT_LATER || !(nd_has_ports(proto) || proto == IPPROTO_ICMPV6))
		return ND_PARSED;
	if (room < 8 || bpf_skb_load_bytes(skb, p->l4, head, sizeof(head)))
		return ND_BAD_HEADER;
	if (proto == IPPROTO_ICMPV6) {
		p->icmp_type = *(__u8 *)head;
		p->icmp_code = ((__u8 *)head)[1];
		nd_icmp_ports(p, head[2]);
		return ND_PARSED;
	}
	if (p->outbound) {
		p->key.local_port = head[0];
		p->key.remote_port = head[1];
	} else {
		p->key.local_port = head[1];
		p->key.remote_port = head[0];
	}
	if (proto == IPPROTO_TCP) {
		if (room < 20 || bpf_skb_load_bytes(skb, p->l4 + 12, head, sizeof(head)))
			return ND_BAD_HEADER;
		p->tcp_flags = ((__u8 *)head)[1];
	}
	return ND_PARSED;
}

/* Where the packet lies, read again: clang would carry a value that it read earlier in 32 bits, which a verifier
 * no longer takes for a pointer. */
#define ND_PACKET_POINTER(skb, member)                                                               \
	({                                                                                           \
		void *pointer;                                                                       \
		asm volatile("%[to] = *(u32 *)(%[skb] + %[offset])"                                  \
			     : [to] "=r"(pointer)                                                    \
			     : [skb] "r"(skb), [offset] "i"(offsetof(struct __sk_buff, member)));    \
		pointer;                                                                             \
	})

static __always_inline int nd_parse_ipv4(struct __sk_buff *skb, struct nd_packet *p)
{
	void *data = ND_PACKET_POINTER(skb, data);
	void *end = ND_PACKET_POINTER(skb, data_end);
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
	void *data = ND_PACKET_POINTER(skb, data);
	void *end = ND_PACKET_POINTER(skb, data_end);
	struct ipv6hdr *ip = data + (p->l3 & ND_L3_MASK);
	__u32 l4 = p->l3 + sizeof(*ip);
	__u8 next;
	int found;

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
	found = nd_ipv6_extensions(skb, l4, next, &p->fragment_id);
	if (found < 0)
		return ND_BAD_HEADER;
	p->l4 = found;
	if (p->l4 > p->l3 + p->length)
		return ND_BAD_HEADER;
	p->key.proto = found >> 16;
	p->fragment = found >> 24 & 3;
	return nd_parse_l4_far(skb, p);
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
