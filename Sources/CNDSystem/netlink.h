#ifndef ND_NETLINK_H
#define ND_NETLINK_H

#include <linux/netlink.h>
#include <stddef.h>

typedef int (*nd_message_reader)(const struct nlmsghdr *message, void *into);

/* Asks for a whole table of a netlink protocol. Every message but the last goes to `read`, whose error ends it.
 * Returns 0 or -errno. -EINTR: the table changed meanwhile and what was read may have holes. */
int nd_netlink_dump(int protocol, int type, const void *head, size_t size, nd_message_reader read, void *into);

#endif
