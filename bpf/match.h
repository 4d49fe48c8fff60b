/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What the policy's filters say of a packet at a layer. For each field that a filter tests the packet's
 * value has a row: the set of filters that take it. Filters in all rows match; the first of a sublayer
 * that gives its word is the sublayer's (docs/classification.md).
 */
#ifndef ND_MATCH_H
#define ND_MATCH_H

#include "address.h"
#include "found.h"
#include "nd_callout.h"
#include "parse.h"
#include "search.h"

/* One question to a layer's filters: what is known of the packet, and how far the search is. */
struct nd_classification {
	__s64 found;      /* found.h */
	__u64 filter;     /* the one it comes from */
	__u64 matches;    /* of the 64 filters of `word`: those in all rows */
	__u32 word;
	__u32 words;      /* of the filters of `block`: words that every row has something in */
	__u32 block;
	__u32 summary;    /* blocks that every row has something in */
	__u32 slot;       /* where the generation's banks are in nd_policies */
	__u32 filters;
	__u32 says;
	__u32 fields;
	__u32 from;       /* the next filter that may be asked */
	__u32 pending;    /* the filter at `from` has a program, which must be asked first */
	__u32 answer;     /* its answer, when it was asked */
	__u32 hard;
	__u32 broken;
	__u32 rows[ND_FIELD_COUNT]; /* addresses */
	__u32 references[ND_FIELD_COUNT]; /* of each row to `block` */
};

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

/* What a filter's word changes: bits of nd_arbitrate's answer. */
#define ND_OUTCOME_TAKE 0x01u    /* it is the decision now */
#define ND_OUTCOME_HARD 0x02u    /* which is final, but for a veto */
#define ND_OUTCOME_END 0x04u     /* nothing can change it, or a program must be asked first */
#define ND_OUTCOME_NEXT 0x08u    /* the filter leaves the word to the sublayer's next one */
#define ND_OUTCOME_PENDING 0x10u
#define ND_OUTCOME_PERMIT 0x20u  /* the program permits: a word without work */
#define ND_OUTCOME_BLOCK 0x40u

/* One sublayer's word joins those before it; the rules are told where Arbitration is defined
 * (Sources/NDPolicy/Filtering/Arbitration.swift). Not static, and numbers only: a verifier that follows each
 * of these ways through the rest of the classification does not come to an end. */
__noinline __u32 nd_arbitrate(__u32 kind_action_flags, __u32 answer, long found, __u32 final)
{
	__u32 kind = kind_action_flags & 0xff, action = kind_action_flags >> 8 & 0xff;
	__u32 flags = kind_action_flags >> 16, outcome = 0;
	__u32 old = final ? ND_OUTCOME_HARD : 0;
	bool hard = flags & ND_FILTER_HARD, program = false, block, blocked;

	if (kind == ND_SAYS_NOTHING)
		return old | ND_OUTCOME_NEXT;
	if (kind != ND_SAYS_ACTION) {
		if (answer == ND_CALLOUT_PENDING)
			return old | ND_OUTCOME_PENDING | ND_OUTCOME_END;
		if (kind == ND_SAYS_INSPECTION || answer == ND_CALLOUT_CONTINUE)
			return old | ND_OUTCOME_NEXT;
		/* Nobody there: a block filter's block. */
		program = answer != ND_CALLOUT_UNREGISTERED;
		hard |= answer != ND_CALLOUT_PERMIT && answer != ND_CALLOUT_BLOCK;
		action = answer == ND_CALLOUT_PERMIT ? ND_ACTION_PERMIT : ND_ACTION_BLOCK;
		outcome = action == ND_ACTION_PERMIT ? ND_OUTCOME_PERMIT : ND_OUTCOME_BLOCK;
	}
	block = action == ND_ACTION_BLOCK;
	if (block)
		outcome |= ND_OUTCOME_BLOCK;
	blocked = nd_found_is(found, ND_ACTION_BLOCK);
	/* What is final gives way to a veto only. */
	if (final && (blocked || !block || !hard || !program))
		return old;
	if (found < 0 || blocked != block ||
	    (!block && nd_found_action(found) == ND_ACTION_PERMIT && action != ND_ACTION_PERMIT))
		outcome |= ND_OUTCOME_TAKE;
	if (hard)
		outcome |= ND_OUTCOME_HARD;
	if (block && hard)
		outcome |= ND_OUTCOME_END;
	return outcome;
}

/* All bits of a number where the bit is set; no branch. */
static __always_inline __u64 nd_mask_where(__u32 outcome, __u32 bit)
{
	return -(__u64)(outcome / bit & 1);
}

static __always_inline bool nd_apply_filter(struct nd_bank *first, struct nd_classification *c, __u32 index)
{
	struct nd_filter *filter = nd_at(first, c->slot, c->says + index * sizeof(*filter), &c->broken);
	__u64 word = nd_found_of(filter->action, filter->context), take, pending;
	__u32 outcome;

	/* Most decisions: the first word of all, and no program's. */
	if (filter->kind == ND_SAYS_ACTION && c->found < 0 && !c->hard) {
		c->found = word;
		c->filter = filter->id;
		c->hard = filter->flags & ND_FILTER_HARD;
		c->from = filter->next;
		return (c->hard && filter->action == ND_ACTION_BLOCK) || c->from >= c->filters;
	}
	outcome = nd_arbitrate(filter->kind | (__u32)filter->action << 8 | (__u32)filter->flags << 16,
			       ND_CALLOUT(c, filter), c->found, c->hard);
	take = nd_mask_where(outcome, ND_OUTCOME_TAKE);
	pending = nd_mask_where(outcome, ND_OUTCOME_PENDING);
	/* A block has no context, and a program's permit no work. */
	word = (word & ~nd_mask_where(outcome, ND_OUTCOME_PERMIT) & ~nd_mask_where(outcome, ND_OUTCOME_BLOCK)) |
	       (ND_ACTION_PERMIT & nd_mask_where(outcome, ND_OUTCOME_PERMIT)) |
	       (ND_ACTION_BLOCK & nd_mask_where(outcome, ND_OUTCOME_BLOCK));
	c->found = (c->found & ~take) | (word & take);
	c->filter = (c->filter & ~take) | (filter->id & take);
	c->hard = outcome / ND_OUTCOME_HARD & 1;
	c->pending = outcome & ND_OUTCOME_PENDING;
	c->answer = ND_CALLOUT_PENDING;
	/* The next sublayer, the sublayer's next filter, or the same one again with its answer. */
	c->from = filter->next + ((index + 1 - filter->next) & nd_mask_where(outcome, ND_OUTCOME_NEXT)) +
		  ((index - filter->next) & pending);
	return (outcome & ND_OUTCOME_END) || c->from >= c->filters;
}

/* The references of all rows to a block, and its words that every row has something in. Global, as all that loops
 * over fields: a verifier walks it once, not once for each way that leads there. */
__noinline __u32 nd_open_block(struct nd_bank *first, struct nd_classification *c, __u32 block)
{
	__u32 words = (1 << ND_BLOCK_WORDS) - 1;

	if (!first || !c)
		return 0;
	for (__u32 i = 0; i < ND_FIELD_COUNT; i++) {
		__u32 reference;

		if (i >= c->fields)
			break;
		reference = nd_word(first, c->slot, c->rows[i] + offsetof(struct nd_row, blocks) + block * 4, &c->broken);
		c->references[i] = reference;
		words &= reference;
	}
	c->block = block;
	c->words = words;
	return words;
}

/* Of a word of the open block: the filters in all rows. */
__noinline __u64 nd_joined_word(struct nd_bank *first, struct nd_classification *c, __u32 word)
{
	__u64 matches = ~0ull;

	if (!first || !c)
		return 0;
	for (__u32 i = 0; i < ND_FIELD_COUNT; i++) {
		if (i >= c->fields)
			break;
		matches &= nd_word(first, c->slot, (c->references[i] >> ND_REFERENCE_SHIFT) * 64 + word * 8, &c->broken);
	}
	return matches;
}

/* Looks at the next word of 64 filters that may have a match in all rows, and asks its first one; 1: there is
 * nothing left to ask. */
__noinline int nd_next_match(struct nd_bank *first, struct nd_classification *c)
{
	__u32 from, block, at;
	__u64 matches;

	if (!first || !c)
		return 1;
	from = c->from;
	at = from / 64;
	if (at != c->word) {
		__u32 left, words;

		block = from / ND_BLOCK_FILTERS;
		left = c->summary & ~0u << (block & (ND_ROW_BLOCKS - 1));
		if (!left)
			return 1;
		at = nd_lowest_bit(left);
		if (at != block)
			from = at * ND_BLOCK_FILTERS;
		block = at;
		words = block == c->block ? c->words : nd_open_block(first, c, block);
		words &= ~0u << (from / 64 % ND_BLOCK_WORDS);
		if (!words) {
			c->from = (block + 1) * ND_BLOCK_FILTERS;
			return c->from >= c->filters;
		}
		at = nd_lowest_bit(words);
		if (at != from / 64 % ND_BLOCK_WORDS)
			from = block * ND_BLOCK_FILTERS + at * 64;
		c->matches = nd_joined_word(first, c, at);
		c->word = from / 64;
	}
	matches = c->matches & ~0ull << (from & 63);
	if (!matches) {
		c->from = (from | 63) + 1;
		return c->from >= c->filters;
	}
	at = (from & ~63u) + nd_lowest_bit(matches);
	/* Without a tested field every bit is set. */
	if (at >= c->filters)
		return 1;
	return nd_apply_filter(first, c, at);
}

/* What bpf_loop keeps on the stack. */
struct nd_search {
	struct nd_bank *first;
	struct nd_classification *c;
};

static long nd_match_step(__u32 step, struct nd_search *search)
{
	/* A verifier knows nothing of what a global function returns, and wants 0 or 1 here. */
	return nd_next_match(search->first, search->c) != 0;
}

static __always_inline bool nd_has_icmp(const struct nd_packet *p)
{
	return p->key.proto == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* The packet's value in a field; false: it has no such field. A switch instead of a table of values: most policies
 * test three or four fields. */
static __always_inline bool nd_value(const struct nd_packet *p, __u32 field, __u32 *value)
{
	switch (field) {
	case ND_FIELD_LOCAL_ADDRESS:
		*value = bpf_ntohl(p->key.local.words[3]);
		return true;
	case ND_FIELD_REMOTE_ADDRESS:
		*value = bpf_ntohl(p->key.remote.words[3]);
		return true;
	case ND_FIELD_LOCAL_ADDRESS_TYPE:
		*value = nd_address_type(&p->key.local, p->family, ND_LOCAL_UNICAST);
		return true;
	case ND_FIELD_REMOTE_ADDRESS_TYPE:
		*value = p->notes & ND_NOTE_STRANGER ? nd_type_by_form(&p->key.remote, p->family)
						     : nd_address_type(&p->key.remote, p->family, 0);
		return true;
	case ND_FIELD_PROTOCOL:
		*value = p->key.proto;
		return true;
	case ND_FIELD_LOCAL_PORT:
		*value = bpf_ntohs(p->key.local_port);
		return nd_has_ports(p->key.proto);
	case ND_FIELD_REMOTE_PORT:
		*value = bpf_ntohs(p->key.remote_port);
		return nd_has_ports(p->key.proto);
	case ND_FIELD_ICMP_TYPE:
		*value = p->icmp_type;
		return nd_has_icmp(p);
	case ND_FIELD_ICMP_CODE:
		*value = p->icmp_code;
		return nd_has_icmp(p);
	case ND_FIELD_INTERFACE:
		*value = p->ifindex;
		return true;
	case ND_FIELD_DIRECTION:
		*value = !p->outbound;
		return true;
	case ND_FIELD_FLAGS:
		*value = p->flags;
		return true;
	case ND_FIELD_REMOTE_MACHINE:
		*value = p->machine;
		return p->machine;
	}
	return false;
}

/* The row of the packet's value in a field: its address, or of a small table the filters themselves. Not static: it
 * is walked once, not once for each field. */
__noinline __u64 nd_row_of(struct nd_bank *first, struct nd_classification *c, const struct nd_field *field,
			   const struct nd_packet *p)
{
	__u32 place, starts, at;

	if (!first || !c || !field || !p)
		return 0;
	at = field->absent;
	if (nd_value(p, field->number, &place)) {
		starts = field->starts;
		if (starts) {
			void *bank = nd_bank_of(first, c->slot, starts, &c->broken);

			if (field->number <= ND_FIELD_REMOTE_ADDRESS && p->family == 6) {
				const struct nd_addr *address =
					field->number == ND_FIELD_LOCAL_ADDRESS ? &p->key.local : &p->key.remote;

				place = nd_search128(bank, starts, field->depth, bpf_be64_to_cpu(address->quads[0]),
						     bpf_be64_to_cpu(address->quads[1]));
			} else {
				place = nd_search32(bank, starts, field->depth, place);
			}
		}
		at = field->rows + ((place & 0xffff) << (c->filters <= ND_SMALL_TABLE ? 3 : 2));
	}
	return nd_word(first, c->slot, at, &c->broken);
}

/* The place of a layer's table in the policy. Without a branch, of which a verifier would follow both ways; and
 * added, for of a 32-bit OR 6.1 does not know that the upper half is zero. */
static __always_inline __u32 nd_table_number(const struct nd_packet *p, __u32 layer)
{
	__u32 number = layer * 2;

	asm volatile("" : "+r"(number));
	return number + (p->family >> 1 & 1);
}

/* The rows of the packet's values; false: the layer has no filters. */
__noinline int nd_rows(struct nd_bank *first, struct nd_classification *c, struct nd_packet *p, __u32 layer)
{
	const struct nd_table *table;
	__u64 joined = ~0ull;
	__u32 number;

	if (!first || !c || !p)
		return 0;
	number = nd_table_number(p, layer);
	if (number >= ND_LAYER_COUNT * 2)
		return 0;
	table = &first->policy.tables[number];
	c->filters = table->filters;
	if (!table->filters)
		return 0;
	c->says = table->says;
	c->fields = table->fields_tested;
	if (table->filters <= ND_SMALL_TABLE) {
		for (__u32 i = 0; i < ND_FIELD_COUNT; i++) {
			/* Not unrolled: Linux 7.3 looks at all that is called once for each place that calls it. */
			asm volatile("" : "+r"(i));
			if (i >= c->fields)
				break;
			joined &= nd_row_of(first, c, &table->fields[i], p);
		}
		c->matches = joined;
		c->word = 0;
		return 1;
	}
	for (__u32 i = 0; i < ND_FIELD_COUNT; i++) {
		__u32 row;

		if (i >= c->fields)
			break;
		row = nd_row_of(first, c, &table->fields[i], p);
		c->rows[i] = row;
		joined &= nd_word(first, c->slot, row, &c->broken);
	}
	c->summary = joined;
	c->word = ~0u;
	c->block = ~0u;
	return 1;
}

/* Asks from `from` on; what was found before joins in. */
static __always_inline void nd_match(struct nd_bank *first, struct nd_classification *c, struct nd_packet *p, __u32 layer)
{
	struct nd_search search = { .first = first, .c = c };

	c->slot = nd_slot(first->policy.generation);
	c->broken = 0;
	c->pending = 0;
	/* Most decisions are made by the first word. */
	if (nd_rows(first, c, p, layer) && !nd_next_match(first, c))
		/* Each step asks a filter, or leaves a word or a block behind. */
		bpf_loop(ND_TABLE_FILTERS + ND_ROW_BLOCKS * (ND_BLOCK_WORDS + 1), nd_match_step, &search, 0);
	if (c->broken)
		c->found = ND_ACTION_BLOCK;
}

#endif
