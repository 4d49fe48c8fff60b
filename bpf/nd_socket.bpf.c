// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Decrypted packets of the kernel's ESP, which TC doesn't see again: a cgroup program shows them on their way
 * into a socket. Attached to the root cgroup, it runs in every network namespace, and only while the policy has
 * filters for what arrived protected.
 */
#define ND_AT_SOCKET 1
#include "decrypted.h"
#include "maps.h"
#include "parse.h"
#include "verdict.h"

/* After decryption the kernel names nd0 as the packet's interface (measured on 6.1 and 6.12). nd0's index is
 * one that no other namespace has (KernelEngine); a packet of nobody's is let pass. */
SEC("cgroup_skb/ingress")
int nd_socket(struct __sk_buff *skb)
{
	struct nd_state *state = nd_state_get();

	if (!state || !(state->flags & ND_STATE_KERNEL_ENGINE) || !state->nd0 || skb->ifindex != state->nd0)
		return 1;
	return nd_decrypted(skb, nd_no_link_header(skb), skb->protocol) != ND_VERDICT_DROP;
}

char nd_license[] SEC("license") = "Dual BSD/GPL";
