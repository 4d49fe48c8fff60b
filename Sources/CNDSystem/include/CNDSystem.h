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

/* A netlink socket that becomes readable when links or addresses change; drain it, then look. */
int nd_route_monitor_open(void);
int nd_drain(int fd);

/* MTU and ARPHRD type of an interface. */
int nd_interface_mtu(const char *name);
int nd_interface_type(const char *name);

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
