/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Later fragments carry no ports: they follow the verdict of their first fragment. */
#ifndef ND_FRAGMENT_H
#define ND_FRAGMENT_H

#include "maps.h"
#include "parse.h"

static __always_inline void nd_fragment_key_of(const struct nd_packet *p,
					       struct nd_fragment_key *key)
{
	key->source = p->outbound ? p->key.local : p->key.remote;
	key->destination = p->outbound ? p->key.remote : p->key.local;
	key->id = p->fragment_id;
	key->proto = p->family == 4 ? p->key.proto : 0;
	key->outbound = p->outbound;
}

__noinline int nd_fragment_remember(const struct nd_packet *p, __u32 verdict)
{
	struct nd_fragment_key key = {};
	struct nd_fragment value = { .verdict = verdict };

	if (!p)
		return -1;
	value.seen = p->now;
	nd_fragment_key_of(p, &key);
	return bpf_map_update_elem(&nd_fragments, &key, &value, BPF_ANY);
}

/* enum nd_fragment_verdict, or -1 when the first fragment was not seen. */
__noinline int nd_fragment_recall(const struct nd_packet *p)
{
	struct nd_fragment_key key = {};
	struct nd_fragment *known;

	if (!p)
		return -1;
	nd_fragment_key_of(p, &key);
	known = bpf_map_lookup_elem(&nd_fragments, &key);
	/* 30 s: the stack's own reassembly time; an identifier means nothing after it. */
	if (!known || p->now > known->seen + 30 * 1000000000ull)
		return -1;
	return known->verdict;
}

#endif
