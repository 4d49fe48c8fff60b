// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * For the tests only: BPF_PROG_TEST_RUN gives TC programs an Ethernet frame, and nd0 has none.
 */
#include "nd_tc.bpf.c"

SEC("tc")
int nd_nd0_ingress_framed(struct __sk_buff *skb)
{
	__u16 proto = 0;
	int l3 = nd_l3_ethernet(skb, &proto);

	return l3 < 0 ? ND_VERDICT_PASS : nd_decrypted(skb, l3, proto);
}
