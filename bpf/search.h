/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * Reading the policy's banks: addresses, sorted starts.
 *
 * What a verifier must follow is kept small by one rule: whatever lives longer than a few instructions is a
 * number in memory that came as a global function's argument. Of such memory a verifier knows nothing, so two
 * ways through the program are the same one where they meet (docs/classification.md, "What the verifiers want").
 */
#ifndef ND_SEARCH_H
#define ND_SEARCH_H

#include "maps.h"

/* The compiler must not fold the mask away: the verifier needs to see it. */
static __always_inline __u64 nd_in_bank(__u64 address)
{
	asm volatile("%[address] &= %[mask]" : [address] "+r"(address) : [mask] "i"(ND_BANK_BYTES - 1));
	return address;
}

/* A bank by its number; NULL: the policy has none such. */
static __always_inline void *nd_bank_by_number(__u32 slot, __u32 bank)
{
	void *banks = bpf_map_lookup_elem(&nd_policies, &slot);

	return banks ? bpf_map_lookup_elem(banks, &bank) : NULL;
}

/* The bank that an address is in. A small policy has one, which is at hand. `broken` is set by an address outside
 * of the banks: nothing that we wrote. */
static __always_inline void *nd_bank_of(struct nd_bank *first, __u32 slot, __u32 address, __u32 *broken)
{
	__u32 bank = address >> ND_BANK_BITS;
	void *base;

	if (!bank)
		return first;
	base = nd_bank_by_number(slot, bank);
	if (base)
		return base;
	*broken = 1;
	return first;
}

static __always_inline void *nd_at(struct nd_bank *first, __u32 slot, __u32 address, __u32 *broken)
{
	return nd_bank_of(first, slot, address, broken) + nd_in_bank(address);
}

/* What stands at an address outside of bank 0. A number, so that a loop that reads many has one way on. */
__noinline __u64 nd_far_word(__u32 slot, __u32 address, __u32 *broken)
{
	void *bank = nd_bank_by_number(slot, address >> ND_BANK_BITS);

	if (bank)
		return *(__u64 *)(bank + nd_in_bank(address));
	if (broken)
		*broken = 1;
	return 0;
}

static __always_inline __u64 nd_word(struct nd_bank *first, __u32 slot, __u32 address, __u32 *broken)
{
	return address >> ND_BANK_BITS ? nd_far_word(slot, address, broken)
				       : *(__u64 *)((void *)first + nd_in_bank(address));
}

/* Which interval a value is in: how many starts are not above it. Each step looks at three starts at once and takes a
 * quarter; where the depth is odd the first one takes a half. Without branches, which the processor would
 * guess wrong half of the time, and which the verifier would follow both ways. */

/* All bits set where start <= value: `above` is value + 1. The compiler must not make a branch of it. */
static __always_inline __u64 nd_reached32(void *bank, __u64 starts, __u64 index, __u64 above)
{
	__s64 differ = *(__u32 *)(bank + nd_in_bank(starts + index * 4)) - above;

	asm volatile("" : "+r"(differ));
	return differ >> 63;
}

static __always_inline __u32 nd_search32(void *bank, __u64 starts, __u32 depth, __u64 value)
{
	__u64 odd = depth & 1, step = 1ull << (depth & 31), half = (step >> 1) * odd, above = value + 1;
	__u64 place = half & nd_reached32(bank, starts, half - 1, above);

	step >>= odd;
	for (int i = 0; i < ND_SEARCH_DEPTH / 2; i++) {
		__u64 first, second, third;

		step >>= 2;
		if (!step)
			break;
		first = nd_reached32(bank, starts, place + step - 1, above);
		second = nd_reached32(bank, starts, place + 2 * step - 1, above);
		third = nd_reached32(bank, starts, place + 3 * step - 1, above);
		place += (step & first) + (step & second) + (step & third);
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

static __always_inline __u64 nd_reached128(void *bank, __u64 starts, __u64 index, __u64 high, __u64 low)
{
	__u64 *start = bank + nd_in_bank(starts + index * 16);
	__u64 differ = high ^ start[0];

	differ |= -differ;
	asm volatile("" : "+r"(differ));
	return (nd_below64(high, start[0]) | ((~differ >> 63) & nd_below64(low, start[1]))) - 1;
}

/* Global: a verifier walks its steps once, not once for each way that leads there. Those of 32 bits are a third as
 * many, and a call more for each field would cost IPv4 what it saves. */
__noinline __u32 nd_search128(struct nd_bank *bank, __u64 starts, __u32 depth, __u64 high, __u64 low)
{
	__u64 odd = depth & 1, step = 1ull << (depth & 31), half = (step >> 1) * odd;
	__u64 place;

	if (!bank)
		return 0;
	place = half & nd_reached128(bank, starts, half - 1, high, low);

	step >>= odd;
	for (int i = 0; i < ND_SEARCH_DEPTH / 2; i++) {
		__u64 first, second, third;

		step >>= 2;
		if (!step)
			break;
		first = nd_reached128(bank, starts, place + step - 1, high, low);
		second = nd_reached128(bank, starts, place + 2 * step - 1, high, low);
		third = nd_reached128(bank, starts, place + 3 * step - 1, high, low);
		place += (step & first) + (step & second) + (step & third);
	}
	return place;
}

#endif
