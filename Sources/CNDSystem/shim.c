#define _GNU_SOURCE
#include "CNDSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/icmpv6.h>
#include <linux/if.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

int nd_setns_net(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int error;

	if (fd < 0)
		return -errno;
	error = setns(fd, CLONE_NEWNET) ? -errno : 0;
	close(fd);
	return error;
}

int nd_mount_bpffs(const char *path)
{
	return mount("bpf", path, "bpf", 0, "mode=0700") ? -errno : 0;
}

bool nd_is_bpffs(const char *path)
{
	struct statfs s;

	return statfs(path, &s) == 0 && (uint32_t)s.f_type == 0xcafe4a11u;
}

int nd_exchange(const char *one, const char *other)
{
	return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) ? -errno : 0;
}

int nd_route_monitor_open(void)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_TC | RTMGRP_IPV4_ROUTE |
			     RTMGRP_IPV6_ROUTE,
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

int nd_drain(int fd)
{
	char buffer[16384];
	int count = 0;

	/* ENOBUFS means that messages were lost: something changed all the same. */
	for (int i = 0; i < 1024; i++) {
		ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

		if (n < 0 && errno != ENOBUFS && errno != EINTR)
			break;
		count++;
	}
	return count;
}

static int interface_ioctl(const char *name, unsigned long request, struct ifreq *r)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error;

	if (fd < 0)
		return -errno;
	memset(r, 0, sizeof(*r));
	strncpy(r->ifr_name, name, IFNAMSIZ - 1);
	error = ioctl(fd, request, r) ? -errno : 0;
	close(fd);
	return error;
}

int nd_interface_mtu(const char *name)
{
	struct ifreq r;
	int error = interface_ioctl(name, SIOCGIFMTU, &r);

	return error ? error : r.ifr_mtu;
}

int nd_interface_type(const char *name)
{
	struct ifreq r;
	int error = interface_ioctl(name, SIOCGIFHWADDR, &r);

	return error ? error : r.ifr_hwaddr.sa_family;
}

int nd_raw_sender_open(bool ipv6)
{
	int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);

	return fd < 0 ? -errno : fd;
}

int nd_raw_send(int fd, const void *packet, size_t size, bool ipv6)
{
	const unsigned char *p = packet;
	ssize_t n;

	if (size < (ipv6 ? 40u : 20u))
		return -EINVAL;
	if (ipv6) {
		struct sockaddr_in6 to = { .sin6_family = AF_INET6 };

		memcpy(&to.sin6_addr, p + 24, 16);
		n = sendto(fd, packet, size, 0, (struct sockaddr *)&to, sizeof(to));
	} else {
		struct sockaddr_in to = { .sin_family = AF_INET };

		memcpy(&to.sin_addr, p + 16, 4);
		n = sendto(fd, packet, size, 0, (struct sockaddr *)&to, sizeof(to));
	}
	return n < 0 ? -errno : (int)n;
}

int nd_icmp_error_open(bool ipv6)
{
	int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
			ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

	if (fd < 0)
		return -errno;
	if (ipv6) {
		struct icmp6_filter filter;

		/* A set bit blocks. */
		memset(&filter, 0xff, sizeof(filter));
		((uint32_t *)&filter)[0] &= ~(1u << 1);
		setsockopt(fd, IPPROTO_ICMPV6, 1 /* ICMPV6_FILTER */, &filter, sizeof(filter));
	} else {
		uint32_t block = ~(1u << 3);

		setsockopt(fd, SOL_RAW, 1 /* ICMP_FILTER */, &block, sizeof(block));
	}
	return fd;
}

int nd_poll(const int *fds, int count, int timeout_ms)
{
	struct pollfd p[16];
	int ready = 0;

	if (count < 0 || count > 16)
		return -EINVAL;
	for (int i = 0; i < count; i++)
		p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
	if (poll(p, (nfds_t)count, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++)
		if (p[i].revents)
			ready |= 1 << i;
	return ready;
}

void nd_stdout_by_line(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
}

int nd_udp_socket(bool ipv6)
{
	int on = 1;
	int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ipv6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return fd;
}

int nd_udp_bind(int fd, bool ipv6, const void *address, uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

	if (ipv6)
		memcpy(&v6.sin6_addr, address, sizeof(v6.sin6_addr));
	else
		memcpy(&v4.sin_addr, address, sizeof(v4.sin_addr));
	if (bind(fd, ipv6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4, ipv6 ? sizeof(v6) : sizeof(v4)))
		return -errno;
	return 0;
}
