#define _GNU_SOURCE
#include "CNetlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_ENCAP
#define UDP_ENCAP 100
#endif
#ifndef UDP_ENCAP_ESPINUDP
#define UDP_ENCAP_ESPINUDP 2
#endif
#ifndef IP_XFRM_POLICY
#define IP_XFRM_POLICY 17
#endif
#ifndef IPV6_XFRM_POLICY
#define IPV6_XFRM_POLICY 35
#endif

int nd_netlink_open(int protocol, uint32_t groups)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	int size = 4 << 20;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

int nd_netlink_send(int fd, const void *data, size_t size)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	ssize_t n = sendto(fd, data, size, 0, (struct sockaddr *)&kernel, sizeof(kernel));

	return n < 0 ? -errno : (int)n;
}

int nd_netlink_receive(int fd, void *data, size_t size, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sockaddr_nl from;
	socklen_t length = sizeof(from);
	int ready = poll(&p, 1, timeout_ms);
	ssize_t n;

	if (ready < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (!ready)
		return -EAGAIN;
	n = recvfrom(fd, data, size, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from, &length);
	if (n < 0)
		return -errno;
	if (from.nl_pid)
		return 0;
	return (size_t)n > size ? -EMSGSIZE : (int)n;
}

int nd_udp_encapsulating_open(bool ipv6, uint16_t port)
{
	int on = 1, encapsulation = UDP_ENCAP_ESPINUDP, error = 0;
	int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (ipv6) {
		struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		if (setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on)) ||
		    bind(fd, (struct sockaddr *)&any, sizeof(any)))
			error = -errno;
	} else {
		struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };

		if (setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) ||
		    bind(fd, (struct sockaddr *)&any, sizeof(any)))
			error = -errno;
	}
	if (!error && setsockopt(fd, IPPROTO_UDP, UDP_ENCAP, &encapsulation, sizeof(encapsulation)))
		error = -errno;
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

static int drop_everything(int fd)
{
	struct sock_filter none[] = { BPF_STMT(BPF_RET | BPF_K, 0) };
	struct sock_fprog program = { .len = 1, .filter = none };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ? -errno : 0;
}

int nd_esp_policy_socket(bool ipv6, uint8_t proto, uint32_t reqid)
{
	struct {
		struct xfrm_userpolicy_info info;
		struct xfrm_user_tmpl template;
	} policy;
	int dont = IP_PMTUDISC_DONT, error = 0;
	int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, proto);

	if (fd < 0)
		return -errno;
	memset(&policy, 0, sizeof(policy));
	policy.info.sel.family = ipv6 ? AF_INET6 : AF_INET;
	policy.info.dir = XFRM_POLICY_OUT;
	policy.info.action = XFRM_POLICY_ALLOW;
	policy.info.lft.soft_byte_limit = policy.info.lft.hard_byte_limit = XFRM_INF;
	policy.info.lft.soft_packet_limit = policy.info.lft.hard_packet_limit = XFRM_INF;
	policy.template.id.proto = IPPROTO_ESP;
	policy.template.family = ipv6 ? AF_INET6 : AF_INET;
	policy.template.reqid = reqid;
	policy.template.mode = XFRM_MODE_TRANSPORT;
	policy.template.aalgos = policy.template.ealgos = policy.template.calgos = ~0u;
	error = drop_everything(fd);
	/* The kernel fragments the ESP packet. */
	if (!error && setsockopt(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_MTU_DISCOVER : IP_MTU_DISCOVER,
				 &dont, sizeof(dont)))
		error = -errno;
	if (!error && setsockopt(fd, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_XFRM_POLICY : IP_XFRM_POLICY,
				 &policy, sizeof(policy)))
		error = -errno;
	if (error) {
		close(fd);
		return error;
	}
	return fd;
}

int nd_esp_policy_send(int fd, bool ipv6, const void *payload, size_t size, const struct nd_raw_to *to)
{
	union {
		char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo)) + 2 * CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct sockaddr_in four = { .sin_family = AF_INET };
	struct iovec part = { .iov_base = (void *)payload, .iov_len = size };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
				  .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c;
	int value;
	ssize_t n;

	memset(&control, 0, sizeof(control));
	c = CMSG_FIRSTHDR(&message);
	if (ipv6) {
		struct in6_pktinfo info = { 0 };

		memcpy(&six.sin6_addr, to->to, 16);
		message.msg_name = &six;
		message.msg_namelen = sizeof(six);
		memcpy(&info.ipi6_addr, to->from, 16);
		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(c), &info, sizeof(info));
	} else {
		struct in_pktinfo info = { 0 };

		memcpy(&four.sin_addr, to->to, 4);
		message.msg_name = &four;
		message.msg_namelen = sizeof(four);
		memcpy(&info.ipi_spec_dst, to->from, 4);
		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(c), &info, sizeof(info));
	}
	size_t used = CMSG_SPACE(c->cmsg_len - CMSG_LEN(0));
	const int types[2] = { ipv6 ? IPV6_HOPLIMIT : IP_TTL, ipv6 ? IPV6_TCLASS : IP_TOS };
	const int values[2] = { to->ttl, to->tos };

	for (int i = 0; i < 2; i++) {
		/* TTL 0 is refused; the packet had one. */
		if (i == 0 && !values[0])
			continue;
		c = (struct cmsghdr *)(control.bytes + used);
		c->cmsg_level = ipv6 ? IPPROTO_IPV6 : IPPROTO_IP;
		c->cmsg_type = types[i];
		c->cmsg_len = CMSG_LEN(sizeof(value));
		value = values[i];
		memcpy(CMSG_DATA(c), &value, sizeof(value));
		used += CMSG_SPACE(sizeof(value));
	}
	message.msg_controllen = used;
	n = sendmsg(fd, &message, 0);
	return n < 0 ? -errno : (int)n;
}
