// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Programs that the benchmark measures nd_tc against: an empty one, and the least that any connection table on
 * TC must do: parse the packet and look it up in an LRU hash. And one that makes each repetition of a test run
 * the packet of another flow.
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

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_flow);
} nd_floor_entry SEC(".maps");

/* And what remembers a flow that it finds no entry of. */
SEC("tc")
int nd_floor_first(struct __sk_buff *skb)
{
	struct nd_packet p = { .outbound = 1 };
	__u16 proto = 0;
	int l3 = nd_l3_ethernet(skb, &proto);
	struct nd_flow *entry;
	__u32 zero = 0;

	if (l3 < 0)
		return -1;
	p.l3 = l3;
	if (nd_parse(skb, proto, &p) != ND_PARSED || bpf_map_lookup_elem(&nd_floor_flows, &p.key))
		return -1;
	entry = bpf_map_lookup_elem(&nd_floor_entry, &zero);
	if (entry)
		bpf_map_update_elem(&nd_floor_flows, &p.key, entry, BPF_NOEXIST);
	return -1;
}

/* The program that nd_next_flow goes on with. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} nd_measured SEC(".maps");

/* A test run repeats with one packet, and what a program writes into it stays: each repetition finds other ports
 * than the one before. */
SEC("tc")
int nd_next_flow(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__u32 *ports;

	if (data + ETH_HLEN + sizeof(struct ipv6hdr) + 4 > end)
		return -1;
	ports = data + ETH_HLEN + (eth->h_proto == bpf_htons(ETH_P_IP) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	if ((void *)(ports + 1) > end)
		return -1;
	++*ports;
	bpf_tail_call(skb, &nd_measured, 0);
	return -1;
}

char nd_license[] SEC("license") = "Dual BSD/GPL";
