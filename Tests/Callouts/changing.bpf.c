// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* Programs that change packets, each in one way. */
#include <linux/in.h>
#include <linux/ip.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include "../../bpf/nd_callout.h"

#define LESS 10

/* Cuts ten bytes off and says nothing of it in the header. */
static __always_inline int cut(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	if (bpf_skb_change_tail(skb, skb->len - LESS, 0))
		return ND_CALLOUT_VETO;
	return ND_CALLOUT_PERMIT;
}
ND_CALLOUT_CHANGING_PROGRAM(cut_only, cut)

static __always_inline int cut_and_tell(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	__u16 length, less;

	if (m->family != 4 || bpf_skb_change_tail(skb, skb->len - LESS, 0) ||
	    bpf_skb_load_bytes(skb, m->l3 + offsetof(struct iphdr, tot_len), &length, 2))
		return ND_CALLOUT_VETO;
	less = bpf_htons(bpf_ntohs(length) - LESS);
	if (bpf_l3_csum_replace(skb, m->l3 + offsetof(struct iphdr, check), length, less, 2) ||
	    bpf_skb_store_bytes(skb, m->l3 + offsetof(struct iphdr, tot_len), &less, 2, 0))
		return ND_CALLOUT_VETO;
	return ND_CALLOUT_PERMIT;
}
ND_CALLOUT_CHANGING_PROGRAM(cut_and_rebuild, cut_and_tell)

/* Another destination: what was classified is no longer what is sent. */
static __always_inline int turn(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	__u32 where = bpf_htonl(0xc6336401), was;

	if (bpf_skb_load_bytes(skb, m->l3 + offsetof(struct iphdr, daddr), &was, 4) ||
	    bpf_l3_csum_replace(skb, m->l3 + offsetof(struct iphdr, check), was, where, 4) ||
	    bpf_skb_store_bytes(skb, m->l3 + offsetof(struct iphdr, daddr), &where, 4, 0))
		return ND_CALLOUT_VETO;
	return ND_CALLOUT_PERMIT;
}
ND_CALLOUT_CHANGING_PROGRAM(send_elsewhere, turn)

/* Refused before they are loaded. */
static __always_inline int away(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	bpf_clone_redirect(skb, m->ifindex, 0);
	return ND_CALLOUT_BLOCK;
}
ND_CALLOUT_CHANGING_PROGRAM(clone_away, away)

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} others SEC(".maps");

SEC("tc") int call_another(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &others, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
