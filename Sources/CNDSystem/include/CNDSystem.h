#ifndef CNDSYSTEM_H
#define CNDSYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * System calls that Swift can't reach: macros, GNU extensions, ioctls. Every function returns 0, a
 * descriptor or a count, or -errno.
 */

/* Moves the calling thread into the network namespace of this path. Threads made later follow. */
int nd_setns_net(const char *path);
int nd_mount_bpffs(const char *path);
bool nd_is_bpffs(const char *path);
/* Lets two files or directories of one file system change their names in one instant. */
int nd_exchange(const char *one, const char *other);

/* A netlink socket that becomes readable when links, addresses, routes, qdiscs or filters change; drain it, then
 * look. */
int nd_route_monitor_open(void);
int nd_drain(int fd);

/* MTU and ARPHRD type of an interface. */
int nd_interface_mtu(const char *name);
int nd_interface_type(const char *name);

/* The kernel's tables, read anew: the number of rows, or -errno. Nothing is guessed: a table that can't be read
 * whole is an error. -ENOSPC: there are more links. */
struct nd_link {
	uint32_t index;
	uint32_t flags; /* IFF_... */
	uint32_t mtu;
	uint16_t type;  /* ARPHRD_... */
	char name[16];
	char kind[32];
	char other_names[1024]; /* one behind the other, each with its zero */
};
int nd_links(struct nd_link *links, int most);
/* The interfaces that default routes of any table go by; one may come several times. */
int nd_default_routes(bool ipv6, uint32_t *indexes, int most);

/* The filters of a device's clsact in the order in which packets meet them. */
struct nd_tc_filter {
	uint32_t chain;
	uint32_t priority;
	uint32_t handle;
	uint32_t program; /* id; 0: no BPF program */
};
int nd_tc_filters(uint32_t index, bool ingress, struct nd_tc_filter *filters, int most);

/* The TCP sockets of the calling thread's network namespace that have a connection, or one that ends: all states
 * but LISTEN, TIME_WAIT and CLOSE. Returns how many; -ENOSPC: there are more. Addresses as in nd.h. */
struct nd_tcp_socket {
	uint8_t local[16];
	uint8_t remote[16];
	uint16_t local_port;  /* network order */
	uint16_t remote_port;
};
int nd_tcp_sockets(struct nd_tcp_socket *sockets, int most);

/* What tells the calling thread's network namespace from all others since the host was booted. */
int nd_namespace_cookie(uint64_t *cookie);

/* Raw sockets that send whole IP packets (header included), and that receive ICMP
 * destination-unreachable messages. */
int nd_raw_sender_open(bool ipv6);
int nd_raw_send(int fd, const void *packet, size_t size, bool ipv6);
int nd_icmp_error_open(bool ipv6);

/* A UDP socket, and its address: 4 bytes of IPv4 or 16 of IPv6 in network order, by the socket's family. The
 * address can be bound again at once, while datagrams of an earlier socket are on their way. */
int nd_udp_socket(bool ipv6);
int nd_udp_bind(int fd, bool ipv6, const void *address, uint16_t port);

/* Lines show as they are printed, also through a pipe. */
void nd_stdout_by_line(void);

/* Waits until one of the descriptors is readable; bit i of the result is descriptor i. */
int nd_poll(const int *fds, int count, int timeout_ms);

#endif
