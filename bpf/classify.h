/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* The policy's filters, compiled to rules: the first rule of a layer that matches decides. */
#ifndef ND_CLASSIFY_H
#define ND_CLASSIFY_H

static __always_inline bool nd_prefix_matches(__u8 family, const struct nd_addr *address,
					      const struct nd_addr *prefix, __u32 bits)
{
	__u64 high, low;

	/* ::/0 is all of IPv6, not the mapped addresses too. */
	if (bits < 96 && family == 4)
		return false;
	if (bits >= 64) {
		high = ~0ull;
		low = bits >= 128 ? ~0ull : bits == 64 ? 0 : ~0ull << (128 - bits);
	} else {
		high = bits == 0 ? 0 : ~0ull << (64 - bits);
		low = 0;
	}
	return !((address->quads[0] ^ prefix->quads[0]) & bpf_cpu_to_be64(high)) &&
	       !((address->quads[1] ^ prefix->quads[1]) & bpf_cpu_to_be64(low));
}

static __noinline bool nd_rule_matches(const struct nd_rule *rule, const struct nd_packet *p)
{
	__u16 match = rule->match;
	__u16 local = bpf_ntohs(p->key.local_port);
	__u16 remote = bpf_ntohs(p->key.remote_port);

	if ((match & ND_MATCH_FAMILY) && rule->family != p->family)
		return false;
	if ((match & ND_MATCH_PROTO) && rule->proto != p->key.proto)
		return false;
	if ((match & ND_MATCH_LOCAL_PORT) &&
	    (!nd_has_ports(p->key.proto) || local < rule->local_port_min || local > rule->local_port_max))
		return false;
	if ((match & ND_MATCH_REMOTE_PORT) &&
	    (!nd_has_ports(p->key.proto) || remote < rule->remote_port_min ||
	     remote > rule->remote_port_max))
		return false;
	if ((match & ND_MATCH_ICMP_TYPE) &&
	    (p->icmp_type < rule->icmp_type_min || p->icmp_type > rule->icmp_type_max))
		return false;
	if ((match & ND_MATCH_ICMP_CODE) &&
	    (p->icmp_code < rule->icmp_code_min || p->icmp_code > rule->icmp_code_max))
		return false;
	if ((match & ND_MATCH_LOCAL) &&
	    !nd_prefix_matches(p->family, &p->key.local, &rule->local, rule->local_prefix))
		return false;
	return !(match & ND_MATCH_REMOTE) ||
	       nd_prefix_matches(p->family, &p->key.remote, &rule->remote, rule->remote_prefix);
}

struct nd_classification {
	struct nd_policy *policy;
	const struct nd_packet *packet;
	__u32 start;
	long found;
};

static long nd_classify_rule(__u32 index, struct nd_classification *c)
{
	__u32 at = (c->start + index) & (ND_MAX_RULES - 1);
	struct nd_rule *rule;

	/* The compiler must not fold the mask away: the verifier needs to see it. */
	asm volatile("%[at] &= %[mask]" : [at] "+r"(at) : [mask] "i"(ND_MAX_RULES - 1));
	rule = &c->policy->rules[at];
	if (!nd_rule_matches(rule, c->packet))
		return 0;
	c->found = (long)rule->action | (long)rule->context << 8;
	return 1;
}

/* Action in the low byte, context above it; negative: no rule of the layer matches. A bpf_loop:
 * the verifier walks the body once, whatever the number of rules. */
static __noinline long nd_classify(struct nd_policy *policy, const struct nd_packet *p, __u32 layer)
{
	struct nd_classification c = { .policy = policy, .packet = p, .found = -1 };
	__u32 count;

	if (layer >= ND_LAYER_COUNT)
		return -1;
	c.start = policy->layer_start[layer];
	count = policy->layer_count[layer];
	if (count > ND_MAX_RULES)
		count = ND_MAX_RULES;
	bpf_loop(count, nd_classify_rule, &c, 0);
	return c.found;
}

#endif
