// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* A callout that looks on: counts payload by peer, direction and protection. For CALLOUT_INSPECTION at STREAM
 * and DATAGRAM_DATA. `ndbpf callouts` tells where its map can be read. */
#include "../nd_callout.h"

struct count_key {
	struct nd_addr remote;
	__u8 inbound;
	__u8 secured;
	__u8 zero[6];
};

struct count {
	__u64 packets;
	__u64 bytes;
	__u32 spi;             /* of the last packet */
	__u32 identity_length; /* of the peer, as it authenticated */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct count_key);
	__type(value, struct count);
} payload_counts SEC(".maps");

static __always_inline int look(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	struct count_key key = {
		.remote = m->flow.remote,
		.inbound = m->inbound,
		.secured = m->flags & ND_CALLOUT_SECURED ? 1 : 0,
	};
	struct count fresh = {}, *known;

	known = bpf_map_lookup_elem(&payload_counts, &key);
	if (!known) {
		bpf_map_update_elem(&payload_counts, &key, &fresh, BPF_NOEXIST);
		known = bpf_map_lookup_elem(&payload_counts, &key);
	}
	if (known) {
		__sync_fetch_and_add(&known->packets, 1);
		__sync_fetch_and_add(&known->bytes, m->payload_length);
		known->spi = m->spi;
		known->identity_length = m->identity_length;
	}
	return ND_CALLOUT_CONTINUE;
}
ND_CALLOUT_PROGRAM(count_payload, look)

char _license[] SEC("license") = "Dual BSD/GPL";
