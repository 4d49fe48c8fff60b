#include "CNDSystem.h"
#include "netlink.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* enum of the kernel's tcp_states.h */
#define STATE_TIME_WAIT 6
#define STATE_CLOSE 7
#define STATE_LISTEN 10

struct sockets {
	struct nd_tcp_socket *rows;
	int count;
	int most;
};

static void address(uint8_t *to, const uint32_t *from, int family)
{
	memset(to, 0, 16);
	if (family == AF_INET) {
		to[10] = to[11] = 0xff;
		memcpy(to + 12, from, 4);
	} else {
		memcpy(to, from, 16);
	}
}

static int read_socket(const struct nlmsghdr *message, void *into)
{
	const struct inet_diag_msg *found = NLMSG_DATA(message);
	struct sockets *sockets = into;
	struct nd_tcp_socket *socket;

	if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY || message->nlmsg_len < NLMSG_LENGTH(sizeof(*found)))
		return 0;
	if (sockets->count == sockets->most)
		return -ENOSPC;
	socket = &sockets->rows[sockets->count++];
	address(socket->local, found->id.idiag_src, found->idiag_family);
	address(socket->remote, found->id.idiag_dst, found->idiag_family);
	socket->local_port = found->id.idiag_sport;
	socket->remote_port = found->id.idiag_dport;
	return 0;
}

int nd_tcp_sockets(struct nd_tcp_socket *rows, int most)
{
	static const int families[] = { AF_INET, AF_INET6 };
	struct sockets sockets = { .rows = rows, .most = most };

	for (int i = 0; i < 2; i++) {
		struct inet_diag_req_v2 request = {
			.sdiag_family = (uint8_t)families[i],
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = ~(1u << STATE_TIME_WAIT | 1u << STATE_CLOSE | 1u << STATE_LISTEN),
		};
		int error = nd_netlink_dump(NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, &request, sizeof(request), read_socket,
					    &sockets);

		/* A kernel without IPv6 has no sockets of it. */
		if (error == -ENOENT && families[i] == AF_INET6) {
			int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

			if (fd < 0 && errno == EAFNOSUPPORT)
				continue;
			if (fd >= 0)
				close(fd);
		}
		if (error)
			return error;
	}
	return sockets.count;
}
