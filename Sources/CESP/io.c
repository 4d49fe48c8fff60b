#define _GNU_SOURCE
#include "CESP.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

static int set_device(int fd, const char *name)
{
	struct ifreq r;
	unsigned index = 0;

	/* BPF knows the device by its index, so that is none that the kernel gives by itself (it counts from 1):
	 * where the device goes, its index stays nobody's. Of no effect where the device is there. */
	if (getrandom(&index, sizeof(index), 0) == sizeof(index)) {
		index = (index & 0x3fffffff) | 0x1000000;
		ioctl(fd, TUNSETIFINDEX, &index);
	}
	memset(&r, 0, sizeof(r));
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	r.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	return ioctl(fd, TUNSETIFF, &r) ? -errno : 0;
}

static int set_offloads(int fd, unsigned *offloads)
{
	unsigned tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;

	/* USO came with 6.2. */
	*offloads = 2;
	if (!ioctl(fd, TUNSETOFFLOAD, (unsigned long)(tso | TUN_F_USO4 | TUN_F_USO6)))
		return 0;
	*offloads = 1;
	return ioctl(fd, TUNSETOFFLOAD, (unsigned long)tso) ? -errno : 0;
}

int nd_tun_again(int fd, const char *name)
{
	unsigned offloads;
	struct ifreq r;
	int error;

	if (!ioctl(fd, TUNGETIFF, &r))
		return -EEXIST;
	error = set_device(fd, name);
	return error ? error : set_offloads(fd, &offloads);
}

int nd_tun_open(const char *name, unsigned *offloads)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), error;

	if (fd < 0)
		return -errno;
	error = set_device(fd, name);
	if (!error)
		error = set_offloads(fd, offloads);
	if (!error)
		return fd;
	close(fd);
	return error;
}

int nd_tun_offloads(int fd, unsigned offloads)
{
	return ioctl(fd, TUNSETOFFLOAD, (unsigned long)offloads) ? -errno : 0;
}

int nd_tun_persist(int fd, bool persist)
{
	return ioctl(fd, TUNSETPERSIST, persist ? 1UL : 0UL) ? -errno : 0;
}

int nd_link_up(const char *name, int mtu, int tx_queue)
{
	struct ifreq r;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error = 0;

	if (fd < 0)
		return -errno;
	memset(&r, 0, sizeof(r));
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	r.ifr_mtu = mtu;
	if (ioctl(fd, SIOCSIFMTU, &r))
		error = -errno;
	r.ifr_qlen = tx_queue;
	if (!error && ioctl(fd, SIOCSIFTXQLEN, &r))
		error = -errno;
	if (!error && ioctl(fd, SIOCGIFFLAGS, &r))
		error = -errno;
	r.ifr_flags |= IFF_UP;
	if (!error && ioctl(fd, SIOCSIFFLAGS, &r))
		error = -errno;
	close(fd);
	return error;
}

int nd_link_dummy_address(const char *name)
{
	struct {
		struct nlmsghdr header;
		struct ifaddrmsg address;
		struct rtattr attribute;
		uint8_t value[4];
	} request = {
		.header = { .nlmsg_len = sizeof(request), .nlmsg_type = RTM_NEWADDR,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ACK },
		.address = { .ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_scope = RT_SCOPE_HOST,
			     .ifa_index = if_nametoindex(name) },
		.attribute = { .rta_len = RTA_LENGTH(4), .rta_type = IFA_LOCAL },
		.value = { 192, 0, 0, 8 },
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (send(fd, &request, sizeof(request), 0) != sizeof(request))
		error = -errno;
	else if (recv(fd, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer.header))
		error = -EIO;
	else if (answer.header.nlmsg_type == NLMSG_ERROR)
		error = answer.error.error;
	close(fd);
	return error;
}

static void to_sockaddr(bool ipv6, const struct nd_addr16 *address, uint16_t port,
			struct sockaddr_storage *out, socklen_t *size)
{
	memset(out, 0, sizeof(*out));
	if (ipv6) {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)out;

		a->sin6_family = AF_INET6;
		a->sin6_port = htons(port);
		memcpy(&a->sin6_addr, address->bytes, 16);
		*size = sizeof(*a);
	} else {
		struct sockaddr_in *a = (struct sockaddr_in *)out;

		a->sin_family = AF_INET;
		a->sin_port = htons(port);
		memcpy(&a->sin_addr, address->bytes + 12, 4);
		*size = sizeof(*a);
	}
}

static void map_v4(struct nd_addr16 *out, const void *v4)
{
	memset(out->bytes, 0, 10);
	out->bytes[10] = out->bytes[11] = 0xff;
	memcpy(out->bytes + 12, v4, 4);
}

static int common_options(int fd, bool ipv6, uint32_t mark, int buffer)
{
	/* A socket that reads nothing sends datagrams of 64 KB all the same: with a small buffer the kernel refuses
	 * what it would have to fragment. */
	int on = 1, dont = IP_PMTUDISC_DONT, sends = buffer > 1 << 20 ? buffer : 1 << 20;
	struct timeval limit = { .tv_usec = 200000 };

	if (setsockopt(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_RECVPKTINFO : IP_PKTINFO, &on,
		       sizeof(on)))
		return -errno;
	/* The kernel fragments ESP of what is larger than the path. */
	setsockopt(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER, &dont,
		   sizeof(dont));
	if (mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &sends, sizeof(sends));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return 0;
}

int nd_udp_open(bool ipv6, uint16_t port, uint32_t mark, int buffer)
{
	struct sockaddr_storage address;
	struct nd_addr16 any = { { 0 } };
	socklen_t size;
	int on = 1, error;
	int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (ipv6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	error = common_options(fd, ipv6, mark, buffer);
	to_sockaddr(ipv6, &any, port, &address, &size);
	if (!error && bind(fd, (struct sockaddr *)&address, size))
		error = -errno;
	if (!error && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)))
		error = -errno;
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

int nd_esp_open(bool ipv6, uint32_t mark, int buffer)
{
	int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ESP);
	int error;

	if (fd < 0)
		return -errno;
	error = common_options(fd, ipv6, mark, buffer);
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

/* Room for a packet-info and a segment-size message. */
union control {
	char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t)) +
		   CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static size_t put_source(bool ipv6, struct cmsghdr *c, const struct nd_addr16 *from)
{
	if (ipv6) {
		struct in6_pktinfo info = { 0 };

		memcpy(&info.ipi6_addr, from->bytes, 16);
		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		return CMSG_SPACE(sizeof(info));
	}
	struct in_pktinfo info = { 0 };

	memcpy(&info.ipi_spec_dst, from->bytes + 12, 4);
	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	return CMSG_SPACE(sizeof(info));
}

int nd_udp_send(int fd, bool ipv6, const void *data, size_t size, uint16_t segment,
		const struct nd_addr16 *from, const struct nd_addr16 *to, uint16_t port)
{
	struct sockaddr_storage address;
	socklen_t address_size;
	union control control;
	struct iovec part = { .iov_base = (void *)data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_name = &address,
				  .msg_control = control.bytes };
	size_t used;
	ssize_t n;

	to_sockaddr(ipv6, to, port, &address, &address_size);
	message.msg_namelen = address_size;
	memset(&control, 0, sizeof(control));
	used = put_source(ipv6, (struct cmsghdr *)control.bytes, from);
	if (segment && segment < size) {
		struct cmsghdr *c = (struct cmsghdr *)(control.bytes + used);

		c->cmsg_level = IPPROTO_UDP;
		c->cmsg_type = UDP_SEGMENT;
		c->cmsg_len = CMSG_LEN(sizeof(segment));
		memcpy(CMSG_DATA(c), &segment, sizeof(segment));
		used += CMSG_SPACE(sizeof(segment));
	}
	message.msg_controllen = used;
	n = sendmsg(fd, &message, 0);
	return n < 0 ? -errno : (int)n;
}

static void take_control(struct msghdr *message, uint16_t *segment, struct nd_addr16 *to)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO && segment) {
			int size;

			memcpy(&size, CMSG_DATA(c), sizeof(size));
			*segment = (uint16_t)size;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			map_v4(to, &info.ipi_addr);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			memcpy(to->bytes, &info.ipi6_addr, 16);
		}
	}
}

static void take_source(bool ipv6, const struct sockaddr_storage *address, struct nd_addr16 *from,
			uint16_t *port)
{
	if (ipv6) {
		const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)address;

		memcpy(from->bytes, &a->sin6_addr, 16);
		if (port)
			*port = ntohs(a->sin6_port);
	} else {
		const struct sockaddr_in *a = (const struct sockaddr_in *)address;

		map_v4(from, &a->sin_addr);
		if (port)
			*port = ntohs(a->sin_port);
	}
}

int nd_udp_receive(int fd, bool ipv6, void *data, size_t size, uint16_t *segment,
		   struct nd_addr16 *from, uint16_t *port, struct nd_addr16 *to)
{
	struct sockaddr_storage address;
	union control control;
	struct iovec part = { .iov_base = data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_name = &address,
				  .msg_namelen = sizeof(address), .msg_control = control.bytes,
				  .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	*segment = 0;
	memset(to, 0, sizeof(*to));
	take_control(&message, segment, to);
	take_source(ipv6, &address, from, port);
	return (int)n;
}

#define ND_MMSG 64

int nd_esp_send(int fd, bool ipv6, const uint8_t *data, size_t size, uint32_t segment,
		const struct nd_addr16 *from, const struct nd_addr16 *to)
{
	struct sockaddr_storage address;
	socklen_t address_size;
	union control control;
	struct mmsghdr messages[ND_MMSG];
	struct iovec parts[ND_MMSG];
	size_t used, at = 0;
	int sent = 0;

	if (!segment)
		return -EINVAL;
	to_sockaddr(ipv6, to, 0, &address, &address_size);
	memset(&control, 0, sizeof(control));
	used = put_source(ipv6, (struct cmsghdr *)control.bytes, from);
	while (at < size) {
		unsigned count = 0;
		int done;

		while (at < size && count < ND_MMSG) {
			size_t length = size - at < segment ? size - at : segment;

			parts[count] = (struct iovec){ .iov_base = (void *)(data + at), .iov_len = length };
			messages[count] = (struct mmsghdr){ .msg_hdr = {
				.msg_name = &address, .msg_namelen = address_size, .msg_iov = &parts[count],
				.msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = used } };
			at += length;
			count++;
		}
		done = sendmmsg(fd, messages, count, 0);
		if (done < 0)
			return sent ? sent : -errno;
		sent += done;
		if ((unsigned)done < count)
			return sent;
	}
	return sent;
}

int nd_esp_receive(int fd, bool ipv6, void *data, size_t size, struct nd_addr16 *from,
		   struct nd_addr16 *to, size_t *offset)
{
	struct sockaddr_storage address;
	union control control;
	struct iovec part = { .iov_base = data, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_name = &address,
				  .msg_namelen = sizeof(address), .msg_control = control.bytes,
				  .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);

	if (n < 0)
		return -errno;
	memset(to, 0, sizeof(*to));
	take_control(&message, NULL, to);
	take_source(ipv6, &address, from, NULL);
	*offset = 0;
	if (!ipv6) {
		/* IPv4 raw sockets deliver the IP header too. */
		size_t header = n >= 20 ? (size_t)(((const uint8_t *)data)[0] & 0xf) * 4 : 0;

		if (header < 20 || (ssize_t)header > n)
			return 0;
		*offset = header;
		n -= (ssize_t)header;
	}
	return (int)n;
}

int nd_event_open(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

void nd_event_signal(int fd)
{
	uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

void nd_event_clear(int fd)
{
	uint64_t value;

	(void)!read(fd, &value, sizeof(value));
}

int nd_wait_readable(const struct nd_wait *wait, int timeout_ms)
{
	struct pollfd p[8];
	int ready = 0;
	int count = wait->count < 8 ? wait->count : 8;

	for (int i = 0; i < count; i++)
		p[i] = (struct pollfd){ .fd = wait->fds[i], .events = POLLIN };
	if (poll(p, (nfds_t)count, timeout_ms) < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < count; i++)
		if (p[i].revents & (POLLIN | POLLERR))
			ready |= 1 << i;
	return ready;
}

int nd_tun_write(int fd, const struct nd_piece *pieces, int count)
{
	/* struct nd_piece has the layout of struct iovec. */
	ssize_t n = writev(fd, (const struct iovec *)pieces, count);

	return n < 0 ? -errno : (int)n;
}
