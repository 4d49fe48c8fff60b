// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* What the tests of callouts ask: a program writes down what it was told, and answers what the test wants. */
#include "../../bpf/nd_callout.h"

struct witness {
	__u64 seen;
	__u64 answer;
	struct nd_callout_metadata told;
	__u8 payload[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct witness);
} witnesses SEC(".maps");

static __always_inline int write_down(struct __sk_buff *skb, const struct nd_callout_metadata *m, __u32 which)
{
	struct witness *w = bpf_map_lookup_elem(&witnesses, &which);
	__u32 length = m->payload_length;

	if (!w)
		return ND_CALLOUT_CONTINUE;
	w->seen++;
	w->told = *m;
	__builtin_memset(w->payload, 0, sizeof(w->payload));
	if (length > sizeof(w->payload))
		length = sizeof(w->payload);
	length--;
	asm volatile("" : "+r"(length));
	length &= sizeof(w->payload) - 1;
	if (m->payload_length)
		bpf_skb_load_bytes(skb, m->payload, w->payload, length + 1);
	return w->answer;
}

static __always_inline int first(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	return write_down(skb, m, 0);
}
ND_CALLOUT_PROGRAM(witness, first)

static __always_inline int second(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	return write_down(skb, m, 1);
}
ND_CALLOUT_PROGRAM(second_witness, second)

static __always_inline int blind(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	__u32 which = 2;
	struct witness *w = bpf_map_lookup_elem(&witnesses, &which);

	if (w) {
		w->seen++;
		w->told = *m;
	}
	return w ? w->answer : ND_CALLOUT_CONTINUE;
}
ND_CALLOUT_PROGRAM(headers_only, blind)

/* Says nothing. */
SEC("tc") int silent(struct __sk_buff *skb)
{
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
