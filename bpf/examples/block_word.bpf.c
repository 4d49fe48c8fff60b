// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* A callout that decides by payload: what begins with "FORBIDDEN" is blocked. For CALLOUT_UNKNOWN at STREAM and
 * DATAGRAM_DATA, where payload is in clear on both engines. */
#include "../nd_callout.h"

#define WORD "FORBIDDEN"

static __always_inline int look(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	char start[sizeof(WORD) - 1];

	if (m->payload_length < sizeof(start) || bpf_skb_load_bytes(skb, m->payload, start, sizeof(start)))
		return ND_CALLOUT_CONTINUE;
#pragma unroll
	for (unsigned int i = 0; i < sizeof(start); i++)
		if (start[i] != WORD[i])
			return ND_CALLOUT_CONTINUE;
	return ND_CALLOUT_BLOCK;
}
ND_CALLOUT_PROGRAM(block_word, look)

char _license[] SEC("license") = "Dual BSD/GPL";
