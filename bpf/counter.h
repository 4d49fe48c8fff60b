/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Counters: of the whole datapath for each CPU, and of each flow. */
#ifndef ND_COUNTER_H
#define ND_COUNTER_H

#include "maps.h"
#include "parse.h"

static __always_inline void nd_count_pass(const struct nd_packet *p, __u32 kind)
{
	struct nd_stats *stats = nd_stats_get();

	if (stats && kind < ND_PASS_COUNT) {
		stats->packets[kind]++;
		stats->bytes[kind] += p->length;
	}
}

static __always_inline void nd_flow_count(struct nd_flow *flow, __u32 traffic, __u32 bytes)
{
	/* Two CPUs can carry one flow; sums shown to operators must not lose. */
	__sync_fetch_and_add(&flow->packets[traffic], 1);
	__sync_fetch_and_add(&flow->bytes[traffic], bytes);
}

#endif
