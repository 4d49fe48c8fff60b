// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * The classifier by itself: one run answers up to ND_QUESTIONS questions. The differential test compares
 * the answers with the Swift reference, the benchmark measures them. Attached to nothing.
 */
#include "nd_ask.h"
#include "nd_callout.h"
#include "maps.h"
#include "parse.h"

/* Stands for registered programs: a number's answer is in its low bits, those without one are nobody's. */
static __always_inline __u32 nd_test_callout(__u32 number)
{
	switch (number & 7) {
	case 1:
		return ND_CALLOUT_CONTINUE;
	case 2:
		return ND_CALLOUT_PERMIT;
	case 3:
		return ND_CALLOUT_BLOCK;
	case 4:
		return ND_CALLOUT_VETO;
	}
	return ND_CALLOUT_UNREGISTERED;
}
#define ND_CALLOUT(c, filter) nd_test_callout((filter)->context)
#include "match.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ND_QUESTIONS);
	__type(key, __u32);
	__type(value, struct nd_question);
} nd_questions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nd_classification);
} nd_classifying SEC(".maps");

struct nd_asking {
	struct nd_bank *first;
	struct nd_classification *c;
};

static long nd_answer(__u32 index, struct nd_asking *asking)
{
	struct nd_question *question = bpf_map_lookup_elem(&nd_questions, &index);
	struct nd_packet p = {};

	if (!question)
		return 1;
	p.key = question->key;
	p.family = question->family;
	p.icmp_type = question->icmp_type;
	p.icmp_code = question->icmp_code;
	p.ifindex = question->ifindex;
	p.flags = question->flags;
	p.outbound = question->outbound;
	p.machine = question->machine;

	asking->c->found = ND_FOUND_NONE;
	asking->c->from = 0;
	asking->c->hard = 0;
	nd_match(asking->first, asking->c, &p, question->layer);
	question->found = asking->c->found;
	question->filter = question->found < 0 ? 0 : asking->c->filter;
	return 0;
}

/* The number of questions is the mark of the packet that the program is run on. Returns the generation
 * that answered. */
SEC("tc")
int nd_ask_filters(struct __sk_buff *skb)
{
	struct nd_asking asking;
	void *banks = nd_policy_banks();
	__u32 zero = 0;

	asking.first = banks ? bpf_map_lookup_elem(banks, &zero) : NULL;
	asking.c = bpf_map_lookup_elem(&nd_classifying, &zero);
	if (!asking.first || !asking.c)
		return 0;
	bpf_loop(skb->mark, nd_answer, &asking, 0);
	return asking.first->policy.generation;
}

char nd_license[] SEC("license") = "Dual BSD/GPL";
