// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/* A callout of two layers, as IPsec asks of whoever blocks at the transport layers: known_peer_transport blocks
 * large packets of connections, known_peer_accept lets in who authenticated, and nobody else. A connection's
 * first packet is ALE's: the block of known_peer_transport is overridden there. */
#include <stdbool.h>
#include "../nd_callout.h"

#define LARGE 1200

static __always_inline int transport(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	return m->payload_length > LARGE ? ND_CALLOUT_BLOCK : ND_CALLOUT_CONTINUE;
}
ND_CALLOUT_PROGRAM(known_peer_transport, transport)

static __always_inline int accept(struct __sk_buff *skb, const struct nd_callout_metadata *m)
{
	bool known = (m->flags & ND_CALLOUT_SECURED) && m->mode == ND_CALLOUT_MODE_TRANSPORT && m->spi &&
		     m->identity_length;

	return known ? ND_CALLOUT_CONTINUE : ND_CALLOUT_VETO;
}
ND_CALLOUT_PROGRAM(known_peer_accept, accept)

char _license[] SEC("license") = "Dual BSD/GPL";
