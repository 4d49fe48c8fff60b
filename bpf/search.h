/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Reading the policy's banks: addresses, sorted starts, rows. */
#ifndef ND_SEARCH_H
#define ND_SEARCH_H

struct nd_classification {
	void *banks;              /* the inner map: one generation, for the whole packet */
	struct nd_policy *policy; /* its bank 0 */
	const struct nd_row *rows[ND_FIELD_COUNT];
	__u32 tested;
	__u32 summary;  /* blocks that every row has something in */
	__u32 filters;
	__u32 says;
	__u32 from;     /* the next filter that may be asked */
	__u32 broken;   /* an address outside the banks: nothing that we wrote */
	long found;     /* action, context << 8; negative: none */
	__u64 filter;   /* the one it comes from */
	__u32 pending;  /* the filter at `from` has a program, which must be asked first */
	__u32 answer;   /* its answer, when it was asked */
	__u32 hard;
	__u32 bank;     /* key of a look-up: one place for all of them, the stack is small */
	__u32 zero;     /* nd_policy.zero */
	volatile __u32 address; /* what is looked up: see nd_word_there */
};

/* The verifier compares what it knows of numbers where ways through the program meet, and follows a
 * second one on where it knows something else. Here it knows no more of any. */
static __always_inline __u32 nd_forget(const struct nd_classification *c, __u32 number)
{
	return number + c->zero;
}

static __always_inline void *nd_bank(struct nd_classification *c, __u32 address)
{
	__u32 bank = address >> ND_BANK_BITS;
	void *base = c->policy;

	/* A small policy has one bank, which is at hand. */
	if (bank) {
		c->bank = bank;
		base = bpf_map_lookup_elem(c->banks, &c->bank);
		if (!base) {
			c->broken = nd_forget(c, 1);
			base = c->policy;
		}
	}
	return base;
}

/* The compiler must not fold the mask away: the verifier needs to see it. */
static __always_inline __u64 nd_in_bank(__u64 address)
{
	asm volatile("%[address] &= %[mask]" : [address] "+r"(address) : [mask] "i"(ND_BANK_BYTES - 1));
	return address;
}

static __always_inline void *nd_at(struct nd_classification *c, __u32 address)
{
	return nd_bank(c, address) + nd_in_bank(address);
}

/* Functions of their own: inlined two dozen times they take half of the stack. The address goes by memory:
 * where a pointer moves by a number that came as an argument 6.1's verifier can't tell where it is from, and
 * holds every number in all states on its way for one that matters (measured: 70 % of its time). */
static __noinline __u32 nd_word_there(struct nd_classification *c)
{
	return *(__u32 *)nd_at(c, nd_forget(c, c->address));
}

static __noinline const struct nd_row *nd_row_there(struct nd_classification *c)
{
	return nd_at(c, nd_forget(c, c->address));
}

static __noinline __u64 nd_word64_there(struct nd_classification *c)
{
	return *(__u64 *)nd_at(c, nd_forget(c, c->address));
}

static __always_inline __u32 nd_word32(struct nd_classification *c, __u32 address)
{
	c->address = address;
	return nd_word_there(c);
}

static __always_inline const struct nd_row *nd_row_at(struct nd_classification *c, __u32 address)
{
	c->address = address;
	return nd_row_there(c);
}

static __always_inline __u32 nd_reference(const struct nd_row *row, __u32 block)
{
	asm volatile("%[block] &= %[mask]" : [block] "+r"(block) : [mask] "i"(ND_ROW_BLOCKS - 1));
	return row->blocks[block];
}

/* Word `at` of a block. */
static __always_inline __u64 nd_block_word(struct nd_classification *c, __u32 reference, __u32 at)
{
	c->address = (reference >> ND_REFERENCE_SHIFT) * 64 + at * 8;
	return nd_word64_there(c);
}

/* Which interval a value is in: how many starts are not above it. Without branches, which the
 * processor would guess wrong half of the time, and which the verifier would follow both ways. Not
 * static: the verifier walks a global function once, not once for every caller's state. */
__noinline __u32 nd_search32(struct nd_bank *bank, __u64 starts, __u32 depth, __u64 value)
{
	__u64 step = 1ull << (depth & 31), place = 0;

	if (!bank)
		return 0;
	for (int i = 0; i < ND_SEARCH_DEPTH; i++) {
		__u64 below;

		step >>= 1;
		if (!step)
			break;
		below = value - *(__u32 *)((void *)bank + nd_in_bank(starts + (place + step - 1) * 4));
		asm volatile("" : "+r"(below));
		place += step & ((below >> 63) - 1);
	}
	return place;
}

/* 1 where a < b, else 0 (Hacker's Delight §2-12). */
static __always_inline __u64 nd_below64(__u64 a, __u64 b)
{
	__u64 borrow = (~a & b) | ((~a | b) & (a - b));

	asm volatile("" : "+r"(borrow));
	return borrow >> 63;
}

__noinline __u32 nd_search128(struct nd_bank *bank, __u64 starts, __u32 depth, __u64 high, __u64 low)
{
	__u64 step = 1ull << (depth & 31), place = 0;

	if (!bank)
		return 0;
	for (int i = 0; i < ND_SEARCH_DEPTH; i++) {
		__u64 *start, differ, below;

		step >>= 1;
		if (!step)
			break;
		start = (void *)bank + nd_in_bank(starts + (place + step - 1) * 16);
		differ = high ^ start[0];
		differ |= -differ;
		asm volatile("" : "+r"(differ));
		below = nd_below64(high, start[0]) | ((~differ >> 63) & nd_below64(low, start[1]));
		place += step & (below - 1);
	}
	return place;
}

static __always_inline __u32 nd_row_direct(struct nd_classification *c, const struct nd_field *field,
					   __u8 value)
{
	return nd_word32(c, field->rows + value * 4u);
}

static __always_inline __u32 nd_row32(struct nd_classification *c, const struct nd_field *field,
				      __u32 value)
{
	__u32 place = nd_search32(nd_bank(c, field->starts), field->starts, field->depth, value);

	return nd_word32(c, field->rows + (place & 0xffff) * 4);
}

static __always_inline __u32 nd_row128(struct nd_classification *c, const struct nd_field *field,
				       const struct nd_addr *address)
{
	__u32 place = nd_search128(nd_bank(c, field->starts), field->starts, field->depth,
				   bpf_be64_to_cpu(address->quads[0]),
				   bpf_be64_to_cpu(address->quads[1]));

	return nd_word32(c, field->rows + (place & 0xffff) * 4);
}

#endif
