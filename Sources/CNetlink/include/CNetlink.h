#ifndef CNETLINK_H
#define CNETLINK_H

/* Before the kernel's headers, which then leave out what this one has. */
#include <netinet/in.h>

#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Netlink sockets, and the kernel's own declarations of what travels over them. Every function
 * returns 0, a descriptor or a count, or -errno.
 */

/* `groups` is a bit mask of multicast groups (group n is bit n-1); 0 for requests. */
int nd_netlink_open(int protocol, uint32_t groups);
int nd_netlink_send(int fd, const void *data, size_t size);
/* Waits up to timeout_ms for one datagram, which may hold several messages. -EMSGSIZE when the
 * buffer is too small for it. Only what the kernel itself sent is returned. */
int nd_netlink_receive(int fd, void *data, size_t size, int timeout_ms);

/* UDP socket whose ESP-in-UDP datagrams the kernel decapsulates (RFC 3948); the rest is IKE. */
int nd_udp_encapsulating_open(bool ipv6, uint16_t port);

/* Raw socket of one protocol with a transport-mode ESP policy of its own: what is sent through it
 * leaves as ESP by an SA of this request id outside any interface, or not at all. It receives
 * nothing. */
int nd_esp_policy_socket(bool ipv6, uint8_t proto, uint32_t reqid);
struct nd_raw_to {
	uint8_t from[16]; /* IPv4 in the first 4 bytes */
	uint8_t to[16];
	uint8_t ttl;
	uint8_t tos;
};
int nd_esp_policy_send(int fd, bool ipv6, const void *payload, size_t size, const struct nd_raw_to *to);

#endif
