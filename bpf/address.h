/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/* What an address is: to this host, by its table, and by its form. */
#ifndef ND_ADDRESS_H
#define ND_ADDRESS_H

#include "maps.h"
#include "parse.h"

static __always_inline bool nd_link_local(const struct nd_packet *p)
{
	if (p->family == 4)
		return (p->key.remote.words[3] & bpf_htonl(0xffff0000)) == bpf_htonl(0xa9fe0000);
	return (p->key.remote.words[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool nd_multicast(const struct nd_packet *p, const struct nd_addr *address)
{
	if (p->family == 4)
		return (address->words[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) ||
		       address->words[3] == bpf_htonl(0xffffffff) || address->words[3] == 0;
	return address->bytes[0] == 0xff;
}

static __always_inline __u32 nd_local_kind(const struct nd_addr *address)
{
	__u32 *kind = bpf_map_lookup_elem(&nd_local, address);

	return kind ? *kind : 0;
}

static __always_inline __u32 nd_type_by_form(const struct nd_addr *address, __u32 family)
{
	if (family == 4) {
		if (address->words[3] == bpf_htonl(0xffffffff))
			return ND_TYPE_BROADCAST;
		if (!address->words[3])
			return ND_TYPE_UNSPECIFIED;
		return (address->bytes[12] & 0xf0) == 0xe0 ? ND_TYPE_MULTICAST : ND_TYPE_UNICAST;
	}
	if (!address->quads[0] && !address->quads[1])
		return ND_TYPE_UNSPECIFIED;
	return address->bytes[0] == 0xff ? ND_TYPE_MULTICAST : ND_TYPE_UNICAST;
}

/* enum nd_address_type. `host`: what the host's table says counts as unicast; of a remote address it
 * says only which are broadcast. Not static: see nd_ipv6_extensions. */
__noinline __u32 nd_address_type(const struct nd_addr *address, __u32 family, __u32 host)
{
	struct nd_addr key; /* 6.1 takes no argument's memory as a map's key */
	__u32 kind;

	if (!address)
		return ND_TYPE_UNSPECIFIED;
	key = *address;
	kind = nd_local_kind(&key);
	if (kind & host & ND_LOCAL_UNICAST)
		return ND_TYPE_UNICAST;
	if (kind & ND_LOCAL_BROADCAST)
		return ND_TYPE_BROADCAST;
	return nd_type_by_form(address, family);
}

#endif
