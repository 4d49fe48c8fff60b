/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The maps. Names are what `ndbpf maps` prints; sizes are the defaults of `ndbpf load`. */
#ifndef ND_MAPS_H
#define ND_MAPS_H

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct nd_flow_key);
	__type(value, struct nd_flow);
} nd_flows SEC(".maps");

/* Not LRU: a peer that was secured must not be forgotten because of a scan. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct nd_peer_key);
	__type(value, struct nd_peer);
} nd_peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct nd_addr);
	__type(value, __u32);
} nd_local SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct nd_fragment_key);
	__type(value, struct nd_fragment);
} nd_fragments SEC(".maps");

struct nd_policy_slot {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_policy);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct nd_policy_slot);
} nd_policies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_state);
} nd_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_stats);
} nd_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} nd_events SEC(".maps");

static __always_inline struct nd_state *nd_state_get(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&nd_state, &zero);
}

static __always_inline struct nd_stats *nd_stats_get(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&nd_stats, &zero);
}

static __always_inline struct nd_policy *nd_policy_get(void)
{
	__u32 zero = 0;
	void *slot = bpf_map_lookup_elem(&nd_policies, &zero);
	return slot ? bpf_map_lookup_elem(slot, &zero) : NULL;
}

#endif
