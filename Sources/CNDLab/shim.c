#define _GNU_SOURCE
#include "CNDLab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

int nd_capture_open(int ifindex, int receive_buffer)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = ifindex,
	};
	int on = 1;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof(receive_buffer));
	setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		int error = -errno;

		close(fd);
		return error;
	}
	return fd;
}

int nd_capture_next(int fd, void *buffer, size_t size, uint32_t *length, bool *outgoing,
		    uint64_t *time_ns)
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
	*length = (uint32_t)n;
	*outgoing = from.sll_pkttype == PACKET_OUTGOING;
	*time_ns = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec t;

			memcpy(&t, CMSG_DATA(c), sizeof(t));
			*time_ns = (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
		}
	}
	return (int)((size_t)n < size ? (size_t)n : size);
}

int nd_capture_lost(int fd)
{
	struct tpacket_stats stats;
	socklen_t size = sizeof(stats);

	if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size))
		return -errno;
	return (int)stats.tp_drops;
}

int nd_frame_send(int ifindex, const void *frame, size_t size)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_ifindex = ifindex, .sll_halen = 6 };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (size >= 6)
		memcpy(address.sll_addr, frame, 6);
	n = sendto(fd, frame, size, 0, (struct sockaddr *)&address, sizeof(address));
	n = n < 0 ? -errno : n;
	close(fd);
	return (int)n;
}

int nd_foreign_tcx(int ifindex, bool ingress, int verdict, bool first)
{
	const struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attribute;
	int program, link;

	memset(&attribute, 0, sizeof(attribute));
	attribute.prog_type = BPF_PROG_TYPE_SCHED_CLS;
	attribute.insns = (uint64_t)(uintptr_t)code;
	attribute.insn_cnt = 2;
	attribute.license = (uint64_t)(uintptr_t)"GPL";
	program = (int)syscall(__NR_bpf, BPF_PROG_LOAD, &attribute, sizeof(attribute));
	if (program < 0)
		return -errno;
	memset(&attribute, 0, sizeof(attribute));
	attribute.link_create.prog_fd = (uint32_t)program;
	attribute.link_create.target_ifindex = (uint32_t)ifindex;
	attribute.link_create.attach_type = ingress ? 46 : 47;
	attribute.link_create.flags = first ? 8 : 0; /* BPF_F_BEFORE */
	link = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &attribute, sizeof(attribute));
	if (link < 0)
		link = -errno;
	close(program);
	return link;
}
