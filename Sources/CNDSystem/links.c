#include "CNDSystem.h"
#include "netlink.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The highest attribute that is looked at. */
#define ATTRIBUTES_MAX 64
#define BUFFER_BYTES (1 << 18)

int nd_netlink_dump(int protocol, int type, const void *head, size_t size, nd_message_reader read, void *into)
{
	struct {
		struct nlmsghdr header;
		char head[64];
	} request = { .header = { .nlmsg_len = NLMSG_LENGTH(size), .nlmsg_type = (uint16_t)type,
				  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = 1 } };
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), error = 0, interrupted = 0, done = 0;
	char *buffer;

	if (fd < 0)
		return -errno;
	buffer = malloc(BUFFER_BYTES);
	memcpy(request.head, head, size);
	if (!buffer || sendto(fd, &request, request.header.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		error = buffer ? -errno : -ENOMEM;
	while (!error && !done) {
		ssize_t n = recv(fd, buffer, BUFFER_BYTES, 0);
		size_t left = n < 0 ? 0 : (size_t)n;
		struct nlmsghdr *m = (struct nlmsghdr *)buffer;

		if (n < 0 && errno != EINTR)
			error = -errno;
		for (; !error && NLMSG_OK(m, left); m = NLMSG_NEXT(m, left)) {
			interrupted |= m->nlmsg_flags & NLM_F_DUMP_INTR;
			if (m->nlmsg_type == NLMSG_DONE) {
				int code = 0;

				if (m->nlmsg_len >= NLMSG_LENGTH(sizeof(code)))
					memcpy(&code, NLMSG_DATA(m), sizeof(code));
				error = code < 0 ? code : 0;
				done = 1;
				break;
			}
			if (m->nlmsg_type == NLMSG_ERROR) {
				struct nlmsgerr *e = NLMSG_DATA(m);

				error = e->error ? e->error : -EPROTO;
				break;
			}
			error = read(m, into);
		}
	}
	free(buffer);
	close(fd);
	return error ? error : interrupted ? -EINTR : 0;
}

static void attributes(const struct rtattr **found, const void *first, int left)
{
	memset(found, 0, sizeof(*found) * (ATTRIBUTES_MAX + 1));
	for (const struct rtattr *a = first; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if ((a->rta_type & NLA_TYPE_MASK) <= ATTRIBUTES_MAX)
			found[a->rta_type & NLA_TYPE_MASK] = a;
}

static void text(char *to, size_t size, const struct rtattr *from)
{
	size_t length = from ? RTA_PAYLOAD(from) : 0;

	if (length >= size)
		length = size - 1;
	memset(to, 0, size);
	if (from)
		memcpy(to, RTA_DATA(from), length);
}

struct table {
	void *rows;
	int count;
	int most;
	int wanted; /* filters: the parent */
};

static int read_link(const struct nlmsghdr *message, void *into)
{
	const struct rtattr *found[ATTRIBUTES_MAX + 1], *inner[ATTRIBUTES_MAX + 1];
	const struct ifinfomsg *head = NLMSG_DATA(message);
	struct table *table = into;
	struct nd_link *link;

	if (message->nlmsg_type != RTM_NEWLINK)
		return 0;
	if (table->count == table->most)
		return -ENOSPC;
	attributes(found, (const char *)head + NLMSG_ALIGN(sizeof(*head)), (int)IFLA_PAYLOAD(message));
	link = (struct nd_link *)table->rows + table->count++;
	memset(link, 0, sizeof(*link));
	link->index = (uint32_t)head->ifi_index;
	link->type = head->ifi_type;
	link->flags = head->ifi_flags;
	text(link->name, sizeof(link->name), found[IFLA_IFNAME]);
	if (found[IFLA_MTU])
		memcpy(&link->mtu, RTA_DATA(found[IFLA_MTU]), sizeof(link->mtu));
	if (found[IFLA_LINKINFO]) {
		attributes(inner, RTA_DATA(found[IFLA_LINKINFO]), (int)RTA_PAYLOAD(found[IFLA_LINKINFO]));
		text(link->kind, sizeof(link->kind), inner[IFLA_INFO_KIND]);
	}
	if (found[IFLA_PROP_LIST]) {
		const struct rtattr *a = RTA_DATA(found[IFLA_PROP_LIST]);
		int left = (int)RTA_PAYLOAD(found[IFLA_PROP_LIST]);
		size_t used = 0;

		for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
			size_t length = RTA_PAYLOAD(a);

			if ((a->rta_type & NLA_TYPE_MASK) != IFLA_ALT_IFNAME ||
			    used + length + 1 > sizeof(link->other_names))
				continue;
			memcpy(link->other_names + used, RTA_DATA(a), length);
			used += strnlen(link->other_names + used, length) + 1;
		}
	}
	return 0;
}

static int read_route(const struct nlmsghdr *message, void *into)
{
	const struct rtattr *found[ATTRIBUTES_MAX + 1];
	const struct rtmsg *head = NLMSG_DATA(message);
	struct table *table = into;
	uint32_t *indexes = table->rows;

	if (message->nlmsg_type != RTM_NEWROUTE || head->rtm_dst_len || head->rtm_type != RTN_UNICAST)
		return 0;
	attributes(found, (const char *)head + NLMSG_ALIGN(sizeof(*head)), (int)RTM_PAYLOAD(message));
	if (found[RTA_OIF] && table->count < table->most)
		memcpy(indexes + table->count++, RTA_DATA(found[RTA_OIF]), sizeof(*indexes));
	if (found[RTA_MULTIPATH]) {
		const struct rtnexthop *hop = RTA_DATA(found[RTA_MULTIPATH]);
		int left = (int)RTA_PAYLOAD(found[RTA_MULTIPATH]);

		for (; left >= (int)sizeof(*hop) && RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
			if (table->count < table->most)
				indexes[table->count++] = (uint32_t)hop->rtnh_ifindex;
			left -= RTNH_ALIGN(hop->rtnh_len);
		}
	}
	return 0;
}

static int read_filter(const struct nlmsghdr *message, void *into)
{
	const struct rtattr *found[ATTRIBUTES_MAX + 1], *options[ATTRIBUTES_MAX + 1];
	const struct tcmsg *head = NLMSG_DATA(message);
	struct table *table = into;
	struct nd_tc_filter *filter;

	if (message->nlmsg_type != RTM_NEWTFILTER)
		return 0;
	attributes(found, (const char *)head + NLMSG_ALIGN(sizeof(*head)), (int)TCA_PAYLOAD(message));
	/* A filter's head without handle is the list, not a filter of it. */
	if (!head->tcm_handle && found[TCA_KIND] && !strcmp(RTA_DATA(found[TCA_KIND]), "bpf"))
		return 0;
	if (table->count == table->most)
		return 0;
	filter = (struct nd_tc_filter *)table->rows + table->count++;
	memset(filter, 0, sizeof(*filter));
	filter->priority = TC_H_MAJ(head->tcm_info) >> 16;
	filter->handle = head->tcm_handle;
	if (found[TCA_CHAIN])
		memcpy(&filter->chain, RTA_DATA(found[TCA_CHAIN]), sizeof(filter->chain));
	if (!found[TCA_OPTIONS] || !found[TCA_KIND] || strcmp(RTA_DATA(found[TCA_KIND]), "bpf"))
		return 0;
	attributes(options, RTA_DATA(found[TCA_OPTIONS]), (int)RTA_PAYLOAD(found[TCA_OPTIONS]));
	if (options[TCA_BPF_ID])
		memcpy(&filter->program, RTA_DATA(options[TCA_BPF_ID]), sizeof(filter->program));
	return 0;
}

/* What changes under a dump is read again. */
static int dump(int type, const void *head, size_t size, nd_message_reader read, struct table *table)
{
	int error = -EINTR;

	for (int i = 0; i < 8 && error == -EINTR; i++) {
		table->count = 0;
		error = nd_netlink_dump(NETLINK_ROUTE, type, head, size, read, table);
	}
	return error ? error : table->count;
}

int nd_links(struct nd_link *links, int most)
{
	struct table table = { .rows = links, .most = most };
	struct ifinfomsg head = { .ifi_family = AF_UNSPEC };

	return dump(RTM_GETLINK, &head, sizeof(head), read_link, &table);
}

int nd_default_routes(bool ipv6, uint32_t *indexes, int most)
{
	struct table table = { .rows = indexes, .most = most };
	struct rtmsg head = { .rtm_family = ipv6 ? AF_INET6 : AF_INET };

	return dump(RTM_GETROUTE, &head, sizeof(head), read_route, &table);
}

int nd_tc_filters(uint32_t index, bool ingress, struct nd_tc_filter *filters, int most)
{
	struct table table = { .rows = filters, .most = most };
	struct tcmsg head = { .tcm_ifindex = (int)index,
			      .tcm_parent = TC_H_MAKE(TC_H_CLSACT, ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS) };
	int count = dump(RTM_GETTFILTER, &head, sizeof(head), read_filter, &table);

	/* No clsact there. */
	return count == -EINVAL || count == -EOPNOTSUPP || count == -ENOENT ? 0 : count;
}

int nd_namespace_cookie(uint64_t *cookie)
{
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), error = 0;
	socklen_t size = sizeof(*cookie);

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, &size))
		error = -errno;
	close(fd);
	return error;
}
