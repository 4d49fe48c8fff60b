/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What was found of a packet at a layer: one number, which functions return and a classification adds up. Negative,
 * it is no decision; else it has an action, and with it the context of a negotiation, or of a block the reason.
 */
#ifndef ND_FOUND_H
#define ND_FOUND_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "nd.h"

#define ND_FOUND_NONE (-1)    /* no filter has a say */
#define ND_FOUND_PENDING (-2) /* a program must be asked first */

static __always_inline __s64 nd_found_of(__u32 action, __u32 context)
{
	return action | (__s64)context << 8;
}

static __always_inline __u64 nd_found_action(__s64 found)
{
	return found & 0xff;
}

static __always_inline bool nd_found_is(__s64 found, __u64 action)
{
	return found >= 0 && nd_found_action(found) == action;
}

static __always_inline __u64 nd_found_context(__s64 found)
{
	return found >> 8;
}

/* Of a block. A filter's gives none. */
static __always_inline __s64 nd_found_reason(__s64 found)
{
	return found >> 8 ? found >> 8 : ND_DROP_BLOCKED;
}

#endif
