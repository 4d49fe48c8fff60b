/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The maps. Names are what `ndbpf maps` prints; sizes are the defaults of `ndbpf load`. */
#ifndef ND_MAPS_H
#define ND_MAPS_H

#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "nd.h"

/* Clear flows. Anything may push anything out of here. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct nd_flow_key);
	__type(value, struct nd_flow);
} nd_flows SEC(".maps");

/* Secured flows: the latch. Only packets that this host protected or authenticated make entries, and none
 * pushes another one out. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct nd_flow_key);
	__type(value, struct nd_flow);
} nd_secured SEC(".maps");

/* Datagrams that came in clear to a broadcast or multicast address, with the local address zero, and when. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct nd_flow_key);
	__type(value, __u64);
} nd_broadcasts SEC(".maps");

/* Interfaces that a program of ours is attached to, and those that need none. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct nd_interface);
} nd_interfaces SEC(".maps");

/* nd0, and what takes fragments. The kernel takes a device out of such a map when it goes; its index may be
 * another's by then. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} nd_devices SEC(".maps");

/* On the daemon's IKE sockets: whoever else binds their ports has ordinary ones. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} nd_ike_sockets SEC(".maps");

/* Numbers from 1, by name. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ND_MACHINES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct nd_machine);
	__type(value, __u32);
} nd_machines SEC(".maps");

/* Beside nd_peers. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct nd_peer_key);
	__type(value, struct nd_protection);
} nd_protections SEC(".maps");

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

struct nd_bank {
	union {
		struct nd_policy policy; /* bank 0 */
		__u64 words[(ND_BANK_BYTES + ND_BANK_SLACK) / 8];
	};
};

/* BPF_F_INNER_MAP: a generation has as many banks as its filters need. */
struct nd_policy_slot {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_bank);
};

/* The generation in force is at 0, and at 1 or 2 by its number: who began with one finds it there, while the next
 * takes its place. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
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

#define ND_EVENTS_BYTES (4 << 20)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, ND_EVENTS_BYTES);
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

/* The generation in force. A packet takes it once and works with it alone. */
static __always_inline void *nd_policy_banks(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&nd_policies, &zero);
}

static __always_inline __u32 nd_slot(__u32 generation)
{
	return 1 + (generation & 1);
}

static __always_inline struct nd_bank *nd_generation(__u32 generation)
{
	__u32 slot = nd_slot(generation), zero = 0;
	void *banks = bpf_map_lookup_elem(&nd_policies, &slot);

	return banks ? bpf_map_lookup_elem(banks, &zero) : NULL;
}

/* Its const parameter is what makes clang 14 put all of the struct's type into the object, which libbpf
 * needs to make the template; for the pointer in the map's definition it writes a forward declaration. Called by
 * nobody: a call more for every packet. */
__attribute__((used)) static __noinline const struct nd_policy *nd_policy_in(const struct nd_bank *first)
{
	return &first->policy;
}

static __always_inline struct nd_policy *nd_policy_of(void *banks)
{
	__u32 zero = 0;
	struct nd_bank *first = banks ? bpf_map_lookup_elem(banks, &zero) : NULL;

	return first ? &first->policy : NULL;
}

#endif
