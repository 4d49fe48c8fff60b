/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* Questions to the filters alone, without packets and flows: for the differential test and the benchmark. */
#ifndef ND_ASK_H
#define ND_ASK_H

#include "nd.h"

#define ND_QUESTIONS 4096

struct nd_question {
	struct nd_flow_key key;
	__u32 ifindex;
	__u8 layer;
	__u8 family;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 flags;
	__u8 outbound;
	__u8 zero[4];
	__u16 machine;
	__s64 found;  /* the answer: found.h */
	__u64 filter; /* whose it is */
};

#endif
