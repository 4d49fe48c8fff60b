// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Netfilter programs (Linux 6.4) behind the routing and before the sockets, last of all there: a guard that hangs
 * on no device. A device that comes while no daemon lives has no TC program, and somebody may put another one
 * before ours, or take ours away. Here a packet of a secured flow ends whose device has no program of ndbpf as its
 * first, each time by the kernel's own word for it.
 *
 * Such a program gets the packet as the kernel's sk_buff, not as a TC program does; it reads by a dynptr.
 */
#define ND_AT_SOCKET 1
#include "flow.h"
#include "fragment.h"
#include "maps.h"
#include "parse.h"

#include <bpf/bpf_core_read.h>

#define NF_DROP 0
#define NF_ACCEPT 1

/* The ids of ndbpf's programs for TC, with their role. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} nd_programs SEC(".maps");

/* ---- the kernel's own, as much as is read of it ---- */

struct bpf_prog_aux {
	__u32 id;
} __attribute__((preserve_access_index));

struct bpf_prog {
	struct bpf_prog_aux *aux;
} __attribute__((preserve_access_index));

struct bpf_mprog_fp {
	struct bpf_prog *prog;
} __attribute__((preserve_access_index));

struct bpf_mprog_entry {
	struct bpf_mprog_fp fp_items[1];
} __attribute__((preserve_access_index));

struct net_device {
	unsigned int flags;
	int ifindex;
	struct bpf_mprog_entry *tcx_ingress; /* Linux 6.6 */
	struct bpf_mprog_entry *tcx_egress;
} __attribute__((preserve_access_index));

struct nf_hook_state {
	__u8 pf;
	struct net_device *in;
	struct net_device *out;
} __attribute__((preserve_access_index));

struct sk_buff {
	unsigned int len;
} __attribute__((preserve_access_index));

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} __attribute__((preserve_access_index));

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *to) __ksym;

/* Whether a program of ndbpf is the first that sees the device's packets. Most devices have one there, which is the
 * only thing that is looked up. */
static __always_inline bool nd_stands_first(const struct net_device *device, bool outbound)
{
	bool has_tcx = bpf_core_field_exists(device->tcx_egress);
	__u32 index = device->ifindex, id;
	struct nd_interface *interface;
	struct bpf_mprog_entry *entry;
	struct bpf_prog *first;

	if (device->flags & IFF_LOOPBACK)
		return true;
	if (has_tcx) {
		entry = outbound ? device->tcx_egress : device->tcx_ingress;
		if (!entry)
			return false;
		first = entry->fp_items[0].prog;
		if (first) {
			id = first->aux->id;
			return bpf_map_lookup_elem(&nd_programs, &id);
		}
	}
	interface = bpf_map_lookup_elem(&nd_interfaces, &index);
	/* The entry is there, without programs, where clsact is: what filters do is not seen from here. */
	return interface && (!has_tcx || (interface->flags & ND_INTERFACE_CLSACT));
}

/* ---- the packet ---- */

static __always_inline int nd_hook_ports(struct bpf_dynptr *packet, struct nd_packet *p, bool reversed)
{
	__u8 proto = p->key.proto, head[8];

	if (p->fragment == ND_FRAGMENT_LATER)
		return 0;
	if (!nd_has_ports(proto) && proto != IPPROTO_ICMP && proto != IPPROTO_ICMPV6)
		return 0;
	if (bpf_dynptr_read(head, sizeof(head), packet, p->l4, 0))
		return -1;
	if (nd_has_ports(proto)) {
		p->key.local_port = *(__u16 *)(reversed ? head + 2 : head);
		p->key.remote_port = *(__u16 *)(reversed ? head : head + 2);
	} else if (proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		p->icmp_type = head[0];
		p->icmp_code = head[1];
		nd_icmp_ports(p, *(__u16 *)(head + 4));
	}
	return 0;
}

/* The IP header at `at`; `outbound`: its source is this host. */
static __always_inline int nd_hook_parse(struct bpf_dynptr *packet, struct nd_packet *p, __u32 at, bool outbound)
{
	struct nd_addr source, destination;
	__u16 place;

	if (p->family == 4) {
		struct iphdr ip;

		if (bpf_dynptr_read(&ip, sizeof(ip), packet, at, 0))
			return -1;
		nd_map_v4(&source, ip.saddr);
		nd_map_v4(&destination, ip.daddr);
		p->key.proto = ip.protocol;
		p->l4 = at + ip.ihl * 4;
		p->fragment_id = ip.id;
		place = bpf_ntohs(ip.frag_off);
		if (place & 0x3fff)
			p->fragment = place & 0x1fff ? ND_FRAGMENT_LATER : ND_FRAGMENT_FIRST;
	} else {
		struct ipv6hdr ip;
		__u32 offset = at + sizeof(ip);
		__u8 next, header[8];

		if (bpf_dynptr_read(&ip, sizeof(ip), packet, at, 0))
			return -1;
		nd_copy_v6(&source, &ip.saddr);
		nd_copy_v6(&destination, &ip.daddr);
		next = ip.nexthdr;
		for (int i = 0; i < 8; i++) {
			if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
			    next != IPPROTO_FRAGMENT)
				break;
			if (bpf_dynptr_read(header, sizeof(header), packet, offset, 0))
				return -1;
			if (next == IPPROTO_FRAGMENT) {
				place = bpf_ntohs(*(__u16 *)(header + 2));
				p->fragment_id = *(__u32 *)(header + 4);
				offset += 8;
				next = header[0];
				if (place & 0xfff8) {
					p->fragment = ND_FRAGMENT_LATER;
					break;
				}
				if (place & 1)
					p->fragment = ND_FRAGMENT_FIRST;
				continue;
			}
			next = header[0];
			offset += (header[1] + 1) * 8;
		}
		p->key.proto = next;
		p->l4 = offset;
	}
	p->key.local = outbound ? source : destination;
	p->key.remote = outbound ? destination : source;
	return nd_hook_ports(packet, p, !outbound);
}

static __always_inline int nd_hook_drop(struct nd_packet *p)
{
	struct nd_stats *stats = nd_stats_get();

	if (p->fragment == ND_FRAGMENT_FIRST)
		nd_fragment_remember(p, ND_FRAGMENT_DROP);
	if (stats) {
		stats->drops[ND_DROP_UNGUARDED]++;
		stats->drop_bytes[ND_DROP_UNGUARDED] += p->length;
	}
	return NF_DROP;
}

static __always_inline bool nd_hook_latched(const struct nd_packet *p, const struct nd_policy *policy)
{
	struct nd_flow *flow = bpf_map_lookup_elem(&nd_secured, &p->key);

	return flow && !nd_flow_is_over(p, policy, flow);
}

static __always_inline int nd_hook(struct bpf_nf_ctx *ctx, bool outbound)
{
	const struct nf_hook_state *state = ctx->state;
	const struct net_device *device = outbound ? state->out : state->in;
	struct nd_policy *policy;
	struct nd_packet p = {};
	struct bpf_dynptr packet;
	struct nd_state *own;
	__u8 version;

	if (!device || nd_stands_first(device, outbound))
		return NF_ACCEPT;
	policy = nd_policy_of(nd_policy_banks());
	if (!policy || bpf_dynptr_from_skb((struct __sk_buff *)ctx->skb, 0, &packet))
		return NF_ACCEPT;
	p.now = bpf_ktime_get_ns();
	p.outbound = outbound;
	p.length = ctx->skb->len;
	/* What comes out of nd0 was decrypted, which the program that stands there writes down. Without it a
	 * connection would begin that nobody here knows for secured. */
	own = nd_state_get();
	if (!outbound && own && own->nd0 == (__u32)device->ifindex)
		return nd_hook_drop(&p);
	if (bpf_dynptr_read(&version, 1, &packet, 0, 0))
		return NF_ACCEPT;
	p.family = version >> 4;
	/* What no kernel could deliver. */
	if (nd_hook_parse(&packet, &p, 0, outbound))
		return nd_hook_drop(&p);
	if (p.fragment == ND_FRAGMENT_LATER)
		return nd_fragment_recall(&p) == ND_FRAGMENT_DROP ? nd_hook_drop(&p) : NF_ACCEPT;
	if (nd_hook_latched(&p, policy))
		return nd_hook_drop(&p);
	/* An error carries a part of the packet that it quotes, which went the other way. */
	if (nd_icmp_is_error(&p) && !(policy->flags & ND_POLICY_ICMP_ERRORS_EXEMPT)) {
		struct nd_packet quoted = { .family = p.family, .now = p.now };

		if (!nd_hook_parse(&packet, &quoted, p.l4 + 8, !outbound) && nd_hook_latched(&quoted, policy))
			return nd_hook_drop(&p);
	}
	return NF_ACCEPT;
}

SEC("netfilter")
int nd_hook_out(struct bpf_nf_ctx *ctx)
{
	return nd_hook(ctx, true);
}

SEC("netfilter")
int nd_hook_in(struct bpf_nf_ctx *ctx)
{
	return nd_hook(ctx, false);
}

char nd_license[] SEC("license") = "Dual BSD/GPL";
