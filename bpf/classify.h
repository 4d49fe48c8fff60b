/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What the policy's filters say of a packet at a layer. For each field that a filter tests the packet's
 * value has a row: the set of filters that take it. Filters in all rows match; the first of a sublayer
 * that gives its word is the sublayer's (docs/classification.md).
 */
#ifndef ND_CLASSIFY_H
#define ND_CLASSIFY_H

#include "nd_callout.h"

/* What a third party's program answers about the packet (enum nd_callout_answer); PENDING: it must be
 * asked first, and the filter again after that. */
#define ND_CALLOUT_PENDING 0xffu
#ifndef ND_CALLOUT
#define ND_CALLOUT(c, filter, index) ND_CALLOUT_UNREGISTERED
#endif

/* Lowest bit of a word that has one, by a de Bruijn sequence. */
static const __u8 nd_bit_numbers[64] = {
	0,  1,  2,  53, 3,  7,  54, 27, 4,  38, 41, 8,  34, 55, 48, 28, 62, 5,  39, 46, 44, 42,
	22, 9,  24, 35, 59, 56, 49, 18, 29, 11, 63, 52, 6,  26, 37, 40, 33, 47, 61, 45, 43, 21,
	23, 58, 17, 10, 51, 25, 36, 32, 60, 20, 57, 16, 50, 31, 19, 15, 30, 14, 13, 12,
};

static __always_inline __u32 nd_lowest_bit(__u64 word)
{
	return nd_bit_numbers[((word & -word) * 0x022fdd63cc95386dull) >> 58];
}

/* One sublayer's word joins those before it; the rules are told where Arbitration is defined
 * (Sources/NDPolicy/Filtering/Arbitration.swift). Returns 1 where nothing can change it any more. */
static __always_inline long nd_arbitrate(struct nd_classification *c, const struct nd_filter *filter,
					 __u32 action, __u32 context, bool hard, bool by_program)
{
	bool block = action == ND_ACTION_BLOCK;
	bool blocked = c->found >= 0 && (c->found & 0xff) == ND_ACTION_BLOCK;

	/* What is final gives way to a veto only. */
	if (c->hard && (blocked || !block || !hard || !by_program))
		return 0;
	if (c->found < 0 || blocked != block ||
	    (!block && (c->found & 0xff) == ND_ACTION_PERMIT && action != ND_ACTION_PERMIT)) {
		c->found = block ? ND_ACTION_BLOCK : (long)action | (long)context << 8;
		c->filter = filter->id;
	}
	c->hard = hard;
	return block && hard;
}

static __noinline long nd_filter_says(struct nd_classification *c, __u32 index)
{
	struct nd_filter *filter = nd_at(c, c->says + index * sizeof(*filter));
	__u32 action = filter->action, context = filter->context;
	bool hard = filter->flags & ND_FILTER_HARD, program = false;

	c->from = index + 1;
	if (filter->kind == ND_SAYS_NOTHING)
		return 0;
	if (filter->kind != ND_SAYS_ACTION) {
		__u32 answer = ND_CALLOUT(c, filter, index);

		if (answer == ND_CALLOUT_PENDING) {
			c->from = index;
			return 1;
		}
		if (filter->kind == ND_SAYS_INSPECTION || answer == ND_CALLOUT_CONTINUE)
			return 0;
		/* Nobody there: a block filter's block. */
		program = answer != ND_CALLOUT_UNREGISTERED;
		hard |= answer != ND_CALLOUT_PERMIT && answer != ND_CALLOUT_BLOCK;
		action = answer == ND_CALLOUT_PERMIT ? ND_ACTION_PERMIT : ND_ACTION_BLOCK;
		context = 0;
	}
	c->from = filter->next;
	return nd_arbitrate(c, filter, action, context, hard, program) || c->from >= c->filters;
}

/* Looks at the next word of 64 filters that may have a match in all rows, and asks its first one. */
static long nd_next_match(__u32 step, struct nd_classification *c)
{
	__u32 from = c->from, block = from / ND_BLOCK_FILTERS, words = (1 << ND_BLOCK_WORDS) - 1, tested, at;
	__u64 left, matches = ~0ull;

	if (from >= c->filters)
		return 1;
	left = c->summary & ~0u << (block & (ND_ROW_BLOCKS - 1));
	if (!left)
		return 1;
	at = nd_lowest_bit(left);
	if (at != block)
		from = at * ND_BLOCK_FILTERS;
	from = nd_forget(c, from);
	block = at;

	tested = c->tested;
#pragma unroll
	for (int field = 0; field < ND_FIELD_COUNT; field++)
		if (tested >> field & 1)
			words &= nd_reference(c->rows[field], block);
	words &= ~0u << (from / 64 % ND_BLOCK_WORDS);
	if (!words) {
		c->from = (block + 1) * ND_BLOCK_FILTERS;
		return 0;
	}
	at = nd_lowest_bit(words);
	if (at != from / 64 % ND_BLOCK_WORDS)
		from = block * ND_BLOCK_FILTERS + at * 64;
	from = nd_forget(c, from);

	/* Read again: conditions kept from above would take a hundred bytes of stack. */
	tested = *(volatile __u32 *)&c->tested;
#pragma unroll
	for (int field = 0; field < ND_FIELD_COUNT; field++)
		if (tested >> field & 1)
			matches &= nd_block_word(c, nd_reference(c->rows[field], block), at);
	matches &= ~0ull << (from & 63);
	if (!matches) {
		c->from = (from | 63) + 1;
		return 0;
	}
	at = (from & ~63u) + nd_lowest_bit(matches);
	/* Without a tested field every bit is set. */
	if (at >= c->filters)
		return 1;
	return nd_filter_says(c, at);
}

static __always_inline bool nd_has_icmp(const struct nd_packet *p)
{
	return p->key.proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static __always_inline __u32 nd_row_address(struct nd_classification *c, const struct nd_field *field,
					    const struct nd_packet *p, const struct nd_addr *address)
{
	return p->family == 4 ? nd_row32(c, field, bpf_ntohl(address->words[3]))
			      : nd_row128(c, field, address);
}

/* The rows of the packet's values. A field that is not tested gets some place in bank 0, never read:
 * what the verifier knows of it is what it knows of a row, so it follows only one of the two ways on. */
static __noinline void nd_rows(struct nd_classification *c, const struct nd_table *table,
			       const struct nd_packet *p)
{
	const struct nd_field *f = table->fields;
	__u32 tested = table->tested, row;

#define ND_ROW(NUMBER, condition, value)                                         \
	if (tested >> ND_FIELD_##NUMBER & 1) {                                   \
		const struct nd_field *field = &f[ND_FIELD_##NUMBER];            \
		row = field->absent;                                             \
		if (condition)                                                   \
			row = (value);                                           \
		c->rows[ND_FIELD_##NUMBER] = nd_row_at(c, row);                  \
	} else {                                                                 \
		c->rows[ND_FIELD_##NUMBER] = (void *)c->policy + nd_in_bank(c->zero); \
	}
	ND_ROW(LOCAL_ADDRESS, true, nd_row_address(c, field, p, &p->key.local))
	ND_ROW(REMOTE_ADDRESS, true, nd_row_address(c, field, p, &p->key.remote))
	ND_ROW(LOCAL_ADDRESS_TYPE, true,
	       nd_row_direct(c, field, nd_address_type(&p->key.local, p->family, ND_LOCAL_UNICAST)))
	ND_ROW(REMOTE_ADDRESS_TYPE, true,
	       nd_row_direct(c, field, nd_address_type(&p->key.remote, p->family, 0)))
	ND_ROW(PROTOCOL, true, nd_row_direct(c, field, p->key.proto))
	ND_ROW(LOCAL_PORT, nd_has_ports(p->key.proto), nd_row32(c, field, bpf_ntohs(p->key.local_port)))
	ND_ROW(REMOTE_PORT, nd_has_ports(p->key.proto), nd_row32(c, field, bpf_ntohs(p->key.remote_port)))
	ND_ROW(ICMP_TYPE, nd_has_icmp(p), nd_row_direct(c, field, p->icmp_type))
	ND_ROW(ICMP_CODE, nd_has_icmp(p), nd_row_direct(c, field, p->icmp_code))
	ND_ROW(INTERFACE, true, nd_row32(c, field, p->ifindex))
	ND_ROW(DIRECTION, true, nd_row_direct(c, field, !p->outbound))
	ND_ROW(FLAGS, true, nd_row_direct(c, field, p->flags))
#undef ND_ROW
}

static __always_inline void nd_ask(struct nd_classification *c, const struct nd_packet *p, __u32 layer)
{
	const struct nd_table *table;
	__u32 number = layer * 2 + (p->family == 6);

	c->zero = c->policy->zero;
	c->found = -1l - (long)c->policy->zero;
	c->from = c->hard = c->broken = c->zero;
	if (number >= ND_LAYER_COUNT * 2)
		return;
	table = &c->policy->tables[number];
	c->filters = table->filters;
	if (!c->filters)
		return;
	c->tested = table->tested;
	c->says = table->says;
	nd_rows(c, table, p);
	c->summary = ~0u - c->zero;
#pragma unroll
	for (int field = 0; field < ND_FIELD_COUNT; field++)
		if (c->tested >> field & 1)
			c->summary &= c->rows[field]->summary;
	/* Each step asks a filter, or leaves a word or a block behind. */
	bpf_loop(ND_TABLE_FILTERS + ND_ROW_BLOCKS * (ND_BLOCK_WORDS + 1), nd_next_match, c, 0);
	if (c->broken)
		c->found = ND_ACTION_BLOCK;
}

#endif
