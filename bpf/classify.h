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
#define ND_CALLOUT(c, filter) ((c)->answer)
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

/* What a filter's word changes: bits of nd_say's answer. */
#define ND_SAID_TAKE 0x01u    /* it is the decision now */
#define ND_SAID_HARD 0x02u    /* which is final, but for a veto */
#define ND_SAID_END 0x04u     /* nothing can change it, or a program must be asked first */
#define ND_SAID_NEXT 0x08u    /* the filter leaves the word to the sublayer's next one */
#define ND_SAID_PENDING 0x10u
#define ND_SAID_PERMIT 0x20u  /* the program permits: a word without work */
#define ND_SAID_BLOCK 0x40u

/* One sublayer's word joins those before it; the rules are told where Arbitration is defined
 * (Sources/NDPolicy/Filtering/Arbitration.swift). Not static, and numbers only: a verifier that follows each
 * of these ways through the rest of the classification does not come to an end. */
__noinline __u32 nd_say(__u32 kind_action_flags, __u32 answer, long found, __u32 final)
{
	__u32 kind = kind_action_flags & 0xff, action = kind_action_flags >> 8 & 0xff;
	__u32 flags = kind_action_flags >> 16, said = 0;
	__u32 old = final ? ND_SAID_HARD : 0;
	bool hard = flags & ND_FILTER_HARD, program = false, block, blocked;

	if (kind == ND_SAYS_NOTHING)
		return old | ND_SAID_NEXT;
	if (kind != ND_SAYS_ACTION) {
		if (answer == ND_CALLOUT_PENDING)
			return old | ND_SAID_PENDING | ND_SAID_END;
		if (kind == ND_SAYS_INSPECTION || answer == ND_CALLOUT_CONTINUE)
			return old | ND_SAID_NEXT;
		/* Nobody there: a block filter's block. */
		program = answer != ND_CALLOUT_UNREGISTERED;
		hard |= answer != ND_CALLOUT_PERMIT && answer != ND_CALLOUT_BLOCK;
		action = answer == ND_CALLOUT_PERMIT ? ND_ACTION_PERMIT : ND_ACTION_BLOCK;
		said = action == ND_ACTION_PERMIT ? ND_SAID_PERMIT : ND_SAID_BLOCK;
	}
	block = action == ND_ACTION_BLOCK;
	if (block)
		said |= ND_SAID_BLOCK;
	blocked = found >= 0 && (found & 0xff) == ND_ACTION_BLOCK;
	/* What is final gives way to a veto only. */
	if (final && (blocked || !block || !hard || !program))
		return old;
	if (found < 0 || blocked != block ||
	    (!block && (found & 0xff) == ND_ACTION_PERMIT && action != ND_ACTION_PERMIT))
		said |= ND_SAID_TAKE;
	if (hard)
		said |= ND_SAID_HARD;
	if (block && hard)
		said |= ND_SAID_END;
	return said;
}

/* All bits of a number where the bit is set; no branch. */
static __always_inline __u64 nd_where(__u32 said, __u32 bit)
{
	return -(__u64)(said / bit & 1);
}

static __always_inline long nd_filter_says(struct nd_classification *c, __u32 index)
{
	struct nd_filter *filter = nd_at(c, c->says + index * sizeof(*filter));
	__u32 said = nd_say(filter->kind | (__u32)filter->action << 8 | (__u32)filter->flags << 16,
			    ND_CALLOUT(c, filter), c->found, c->hard);
	__u64 take = nd_where(said, ND_SAID_TAKE), pending = nd_where(said, ND_SAID_PENDING);
	__u64 word = filter->action | (__u64)filter->context << 8;

	/* A block has no context, and a program's permit no work. */
	word = (word & ~nd_where(said, ND_SAID_PERMIT) & ~nd_where(said, ND_SAID_BLOCK)) |
	       (ND_ACTION_PERMIT & nd_where(said, ND_SAID_PERMIT)) |
	       (ND_ACTION_BLOCK & nd_where(said, ND_SAID_BLOCK));
	c->found = (c->found & ~take) | (word & take);
	c->filter = (c->filter & ~take) | (filter->id & take);
	c->hard = said / ND_SAID_HARD & 1;
	c->pending = said & ND_SAID_PENDING;
	c->answer = nd_forget(c, ND_CALLOUT_PENDING);
	/* The next sublayer, the sublayer's next filter, or the same one again with its answer. */
	c->from = filter->next + ((index + 1 - filter->next) & nd_where(said, ND_SAID_NEXT)) +
		  ((index - filter->next) & pending);
	return said / ND_SAID_END & 1;
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
	ND_ROW(REMOTE_MACHINE, p->machine, nd_row32(c, field, p->machine))
#undef ND_ROW
}

/* Asks from `from` on; what was found before joins in. */
static __always_inline void nd_ask(struct nd_classification *c, const struct nd_packet *p, __u32 layer)
{
	const struct nd_table *table;
	__u32 number = layer * 2 + (p->family == 6);

	c->broken = c->zero;
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
