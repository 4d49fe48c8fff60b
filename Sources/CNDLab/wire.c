#define _GNU_SOURCE
#include "CNDLab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif
#ifndef TCP_REPAIR_OFF_NO_WP
#define TCP_REPAIR_OFF_NO_WP -1
#endif

int nd_wire_open(int receive_buffer)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int on = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof(receive_buffer));
	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

static uint16_t be16(const uint8_t *at)
{
	return (uint16_t)(at[0] << 8 | at[1]);
}

static void map4(uint8_t *to, const uint8_t *from)
{
	memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	memcpy(to + 12, from, 4);
}

/* The addresses and ports of the packet at `at`; returns where its transport header begins, 0: nowhere. */
static size_t read_tuple(const uint8_t *p, size_t at, size_t end, struct nd_wire_tuple *tuple)
{
	if (at >= end)
		return 0;
	if (p[at] >> 4 == 4 && at + 20 <= end) {
		size_t l4 = at + (size_t)(p[at] & 15) * 4;

		map4(tuple->source, p + at + 12);
		map4(tuple->destination, p + at + 16);
		tuple->protocol = p[at + 9];
		tuple->later_fragment = be16(p + at + 6) & 0x1fff;
		at = l4;
	} else if (p[at] >> 4 == 6 && at + 40 <= end) {
		uint8_t next = p[at + 6];

		memcpy(tuple->source, p + at + 8, 16);
		memcpy(tuple->destination, p + at + 24, 16);
		at += 40;
		for (int i = 0; i < 8 && at + 8 <= end; i++) {
			if (next == 44) {
				tuple->later_fragment = be16(p + at + 2) & 0xfff8;
				next = p[at];
				at += 8;
			} else if (next == 0 || next == 43 || next == 60) {
				next = p[at];
				at += 8 + (size_t)p[at + 1] * 8;
			} else {
				break;
			}
		}
		tuple->protocol = next;
	} else {
		return 0;
	}
	tuple->valid = true;
	if (!tuple->later_fragment && (tuple->protocol == 6 || tuple->protocol == 17) && at + 4 <= end) {
		tuple->source_port = be16(p + at);
		tuple->destination_port = be16(p + at + 2);
	}
	return at <= end ? at : 0;
}

static void classify(const uint8_t *p, size_t size, struct nd_wire_record *r)
{
	size_t at = 12;
	size_t l4;

	while (at + 4 <= size && (be16(p + at) == 0x8100 || be16(p + at) == 0x88a8 || be16(p + at) == 0x9100))
		at += 4;
	if (at + 2 > size || (be16(p + at) != 0x0800 && be16(p + at) != 0x86dd))
		return;
	l4 = read_tuple(p, at + 2, size, &r->tuple);
	if (!r->tuple.valid)
		return;
	r->kind = ND_WIRE_CLEAR;
	switch (r->tuple.protocol) {
	case 50:
		r->kind = ND_WIRE_ESP;
		return;
	case 6:
		if (l4 && !r->tuple.later_fragment && l4 + 14 <= size)
			r->tcp_flags = p[l4 + 13];
		return;
	case 17:
		if (r->tuple.later_fragment || !l4)
			return;
		if (r->tuple.source_port == 4500 || r->tuple.destination_port == 4500) {
			bool marker = l4 + 12 <= size && !memcmp(p + l4 + 8, "\0\0\0\0", 4);

			r->kind = marker ? ND_WIRE_IKE : ND_WIRE_ESP;
		} else if (r->tuple.source_port == 500 || r->tuple.destination_port == 500) {
			r->kind = ND_WIRE_IKE;
		}
		return;
	case 1:
	case 58:
		r->kind = ND_WIRE_ICMP;
		if (!l4 || r->tuple.later_fragment || l4 + 8 > size)
			return;
		r->icmp_type = p[l4];
		r->icmp_code = p[l4 + 1];
		if (r->tuple.protocol == 1 ? p[l4] == 3 || p[l4] == 4 || p[l4] == 5 || p[l4] == 11 || p[l4] == 12
					   : p[l4] < 128)
			read_tuple(p, l4 + 8, size, &r->quoted);
		return;
	}
}

int nd_wire_next(int fd, uint8_t *buffer, size_t size, struct nd_wire_record *r)
{
	struct sockaddr_ll from;
	struct iovec part = { .iov_base = buffer, .iov_len = size };
	char control[128];
	struct msghdr message = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &part, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	ssize_t n = recvmsg(fd, &message, MSG_TRUNC);

	if (n < 0)
		return -errno;
	memset(r, 0, sizeof(*r));
	r->length = (uint32_t)n;
	r->kept = (uint32_t)((size_t)n < size ? (size_t)n : size);
	r->ifindex = (uint32_t)from.sll_ifindex;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec t;

			memcpy(&t, CMSG_DATA(c), sizeof(t));
			r->time_ns = (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
		}
	}
	classify(buffer, r->kept, r);
	return 0;
}

static const char genuine_magic[9] = "NDgenuin", forged_magic[9] = "NDforged";

void nd_marker_write(uint8_t *at, const struct nd_marker *marker)
{
	memset(at, '.', ND_MARKER_BYTES);
	memcpy(at, marker->forged ? forged_magic : genuine_magic, 8);
	memcpy(at + 8, &marker->flow, 4);
	memcpy(at + 12, &marker->number, 4);
	at[16] = marker->direction;
}

bool nd_marker_read(const uint8_t *at, struct nd_marker *marker)
{
	marker->forged = !memcmp(at, forged_magic, 8);
	if (!marker->forged && memcmp(at, genuine_magic, 8))
		return false;
	memcpy(&marker->flow, at + 8, 4);
	memcpy(&marker->number, at + 12, 4);
	marker->direction = at[16];
	return true;
}

int nd_markers_find(const uint8_t *bytes, size_t size, struct nd_marker *found, int most)
{
	int count = 0;
	const uint8_t *at = bytes, *end = bytes + size;

	while (count < most && at + 17 <= end && (at = memmem(at, (size_t)(end - at), "ND", 2))) {
		if (at + 17 > end)
			break;
		if (nd_marker_read(at, &found[count])) {
			count++;
			at += 17;
		} else {
			at += 2;
		}
	}
	return count;
}

static uint32_t sum16(uint32_t sum, const uint8_t *at, size_t size)
{
	for (size_t i = 0; i + 1 < size; i += 2)
		sum += be16(at + i);
	if (size & 1)
		sum += (uint32_t)at[size - 1] << 8;
	return sum;
}

static void fold(uint32_t sum, uint8_t *to)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	sum = ~sum;
	to[0] = (uint8_t)(sum >> 8);
	to[1] = (uint8_t)sum;
}

int nd_frame_flood(int ifindex, const void *frame, size_t size, int times, uint32_t seed)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = ifindex, .sll_halen = 6 };
	uint8_t bytes[256];
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	int sent = 0;

	if (fd < 0)
		return -errno;
	if (size > sizeof(bytes) || size < 62) {
		close(fd);
		return -EMSGSIZE;
	}
	memcpy(bytes, frame, size);
	memcpy(address.sll_addr, frame, 6);
	for (int i = 0; i < times; i++) {
		bool v6 = bytes[12] == 0x86;
		size_t l4 = v6 ? 54 : 34;
		uint8_t protocol = bytes[v6 ? 20 : 23];
		size_t sum_at = l4 + (protocol == 6 ? 16 : 6);
		uint32_t sum;

		seed = seed * 1664525u + 1013904223u;
		/* The last three octets of the source, and its port. */
		memcpy(bytes + (v6 ? 35 : 27), &seed, 3);
		bytes[l4] = (uint8_t)(4 + (seed >> 25));
		bytes[l4 + 1] = (uint8_t)(seed >> 17);
		if (!v6) {
			bytes[24] = bytes[25] = 0;
			fold(sum16(0, bytes + 14, 20), bytes + 24);
		}
		bytes[sum_at] = bytes[sum_at + 1] = 0;
		sum = v6 ? sum16(0, bytes + 22, 32) : sum16(0, bytes + 26, 8);
		fold(sum16(sum + protocol + (uint32_t)(size - l4), bytes + l4, size - l4), bytes + sum_at);
		if (sendto(fd, bytes, size, 0, (struct sockaddr *)&address, sizeof(address)) == (ssize_t)size)
			sent++;
	}
	close(fd);
	return sent;
}

int nd_tcp_next(int fd, uint32_t *receive)
{
	int on = 1, off = TCP_REPAIR_OFF_NO_WP, queue = TCP_RECV_QUEUE;
	socklen_t size = sizeof(*receive);
	int error = 0;

	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)))
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof(queue)) ||
	    getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, receive, &size))
		error = -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
	return error;
}

void nd_tcp_vanish(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on));
	close(fd);
}
