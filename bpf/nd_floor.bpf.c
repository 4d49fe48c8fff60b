// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Two programs that the benchmark measures nd_tc against: an empty one, and the least that any
 * connection table on TC must do: parse the packet and look it up in an LRU hash.
 */
#include "parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct nd_flow_key);
	__type(value, struct nd_flow);
} nd_floor_flows SEC(".maps");

SEC("tc")
int nd_empty(struct __sk_buff *skb)
{
	return -1;
}

SEC("tc")
int nd_floor(struct __sk_buff *skb)
{
	struct nd_packet p = { .outbound = 1 };
	__u16 proto = 0;
	int l3 = nd_l3_ethernet(skb, &proto);
	struct nd_flow *flow;

	if (l3 < 0)
		return -1;
	p.l3 = l3;
	if (nd_parse(skb, proto, &p) != ND_PARSED)
		return -1;
	flow = bpf_map_lookup_elem(&nd_floor_flows, &p.key);
	if (flow)
		flow->packets[0]++;
	return -1;
}

char nd_license[] SEC("license") = "Dual BSD/GPL";
