/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Reasons to pass: packets that are none of ndbpf's business, one list for each direction. Every reason has
 * a counter of its own. The latch was asked before: none of them holds for a secured flow.
 *
 * What is this host's is what the kernel says. Outbound, a packet that did not come in by an interface was
 * made here, whatever its source. Inbound, the map of own addresses is a cache; a destination that it does
 * not know is this host's unless the kernel would forward the packet.
 */
#ifndef ND_REASON_H
#define ND_REASON_H

#include "address.h"
#include "verdict.h"

#define ND_NO_REASON ND_PASS_COUNT
/* Behind the reasons to pass: inbound from a source that no packet may have. */
#define ND_BAD_SOURCE (ND_PASS_COUNT + 1)

static __always_inline bool nd_unspecified(const struct nd_packet *p, const struct nd_addr *address)
{
	return p->family == 4 ? !address->words[3] : !address->quads[0] && !address->quads[1];
}

static __always_inline bool nd_ike_port(const struct nd_packet *p, const struct nd_policy *policy)
{
	__u16 port = bpf_ntohs(p->key.local_port);

	return p->key.proto == IPPROTO_UDP && p->fragment != ND_FRAGMENT_LATER &&
	       (policy->flags & (p->family == 4 ? ND_POLICY_IKE_EXEMPT_V4 : ND_POLICY_IKE_EXEMPT_V6)) &&
	       (port == policy->ike_port || port == policy->natt_port);
}

/* Whether a datagram from an IKE port is the daemon's. Any user may bind a port above 1023 that the daemon does
 * not hold. ESP in UDP of the kernel's engine carries the socket of the packet inside, which is another one or
 * none. */
static __noinline bool nd_ike_sent(struct __sk_buff *skb, const struct nd_packet *p)
{
	struct bpf_sock *socket = skb->sk;

	if (socket)
		socket = bpf_sk_fullsock(socket);
	if (!socket)
		return !skb->ingress_ifindex;
	if (socket->protocol != IPPROTO_UDP || socket->src_port != bpf_ntohs(p->key.local_port))
		return true;
	return bpf_sk_storage_get(&nd_ike_sockets, socket, NULL, 0) != NULL;
}

/* Whether a datagram to an IKE port reaches the daemon, or nobody. */
static __noinline bool nd_ike_received(struct __sk_buff *skb, const struct nd_packet *p)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	__u32 size;
	bool daemon;

	if (p->family == 4) {
		tuple.ipv4.saddr = p->key.remote.words[3];
		tuple.ipv4.daddr = p->key.local.words[3];
		tuple.ipv4.sport = p->key.remote_port;
		tuple.ipv4.dport = p->key.local_port;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, p->key.remote.bytes, 16);
		__builtin_memcpy(tuple.ipv6.daddr, p->key.local.bytes, 16);
		tuple.ipv6.sport = p->key.remote_port;
		tuple.ipv6.dport = p->key.local_port;
		size = sizeof(tuple.ipv6);
	}
	socket = size == sizeof(tuple.ipv4) ? bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
					    : bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return true;
	daemon = bpf_sk_storage_get(&nd_ike_sockets, socket, NULL, 0) != NULL;
	bpf_sk_release(socket);
	return daemon;
}

static __always_inline bool nd_is_ipsec(const struct nd_packet *p)
{
	return p->key.proto == IPPROTO_ESP || p->key.proto == IPPROTO_AH;
}

/* What the remote address is to this host; filters may want to know it again. */
static __always_inline __u32 nd_remote_kind(struct nd_packet *p)
{
	__u32 kind = nd_local_kind(&p->key.remote);

	if (!kind)
		p->notes |= ND_NOTE_STRANGER;
	return kind;
}

static __always_inline __u32 nd_reason_out(struct __sk_buff *skb, struct nd_packet *p, const struct nd_policy *policy)
{
	if (nd_is_ipsec(p))
		return ND_PASS_OUT_IPSEC;
	if (nd_multicast(p, &p->key.remote) || (nd_remote_kind(p) & ND_LOCAL_BROADCAST))
		return ND_PASS_OUT_NOT_UNICAST;
	if (skb->ingress_ifindex && !(nd_local_kind(&p->key.local) & ND_LOCAL_UNICAST))
		return ND_PASS_OUT_FORWARDED;
	if (nd_unspecified(p, &p->key.local))
		return ND_PASS_OUT_UNADDRESSED;
	if (nd_ike_port(p, policy) && nd_ike_sent(skb, p))
		return ND_PASS_OUT_IKE;
	return ND_NO_REASON;
}

/* Whether the kernel would send the packet on. Without a route, and where the interface does not forward, it
 * delivers it or drops it. */
static __noinline bool nd_forwards(struct __sk_buff *skb, const struct nd_packet *p)
{
	struct bpf_fib_lookup fib = {};
	long found;

	/* For another host on the link: the kernel takes it only for a bridge. */
	if (skb->pkt_type == PACKET_OTHERHOST)
		return true;
	fib.ifindex = skb->ifindex;
	if (p->family == 4) {
		fib.family = 2; /* AF_INET */
		fib.ipv4_src = p->key.remote.words[3];
		fib.ipv4_dst = p->key.local.words[3];
	} else {
		fib.family = 10; /* AF_INET6 */
		__builtin_memcpy(fib.ipv6_src, p->key.remote.bytes, 16);
		__builtin_memcpy(fib.ipv6_dst, p->key.local.bytes, 16);
	}
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	return found == BPF_FIB_LKUP_RET_SUCCESS || found == BPF_FIB_LKUP_RET_NO_NEIGH ||
	       found == BPF_FIB_LKUP_RET_FRAG_NEEDED || found == BPF_FIB_LKUP_RET_BLACKHOLE ||
	       found == BPF_FIB_LKUP_RET_UNREACHABLE || found == BPF_FIB_LKUP_RET_PROHIBIT ||
	       found == BPF_FIB_LKUP_RET_UNSUPP_LWT;
}

static __always_inline __u32 nd_reason_in(struct __sk_buff *skb, struct nd_packet *p, const struct nd_policy *policy)
{
	__u32 local = nd_local_kind(&p->key.local), remote;
	bool unicast = local & ND_LOCAL_UNICAST ||
		       !(nd_multicast(p, &p->key.local) || (local & ND_LOCAL_BROADCAST));

	if (nd_is_ipsec(p))
		return ND_PASS_IN_IPSEC;
	if (unicast && !(local & ND_LOCAL_UNICAST) && nd_forwards(skb, p))
		return ND_PASS_IN_FORWARDED;
	remote = nd_remote_kind(p);
	/* Without an address a host may look for one, by broadcast and multicast. */
	if (nd_unspecified(p, &p->key.remote)) {
		if (unicast)
			return ND_BAD_SOURCE;
	} else if (nd_multicast(p, &p->key.remote) || (remote & (ND_LOCAL_BROADCAST | ND_LOCAL_UNICAST)) == ND_LOCAL_BROADCAST ||
		   (unicast && (remote & ND_LOCAL_UNICAST))) {
		return ND_BAD_SOURCE;
	}
	if (!unicast)
		return ND_PASS_IN_NOT_UNICAST;
	if (nd_ike_port(p, policy) && nd_ike_received(skb, p))
		return ND_PASS_IN_IKE;
	return ND_NO_REASON;
}

#endif
