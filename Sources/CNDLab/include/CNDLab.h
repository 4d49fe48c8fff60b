#ifndef CNDLAB_H
#define CNDLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Packet sockets as independent witnesses. Returns 0, a descriptor or a count, or -errno. */
int nd_capture_open(int ifindex, int receive_buffer);
/* One frame: its first bytes, its whole length, whether this host sent it, and the kernel's time
 * stamp (CLOCK_REALTIME nanoseconds). Returns the bytes copied. */
int nd_capture_next(int fd, void *buffer, size_t size, uint32_t *length, bool *outgoing,
		    uint64_t *time_ns);
/* Frames that the socket had no room for, since the last call. */
int nd_capture_lost(int fd);
/* Sends one whole Ethernet frame, for injection. */
int nd_frame_send(int ifindex, const void *frame, size_t size);

/* A TCX program of somebody else's that only says `verdict` (0: it passes, and nobody after it is asked), before all
 * others or behind them. Returns the link's descriptor; -EINVAL: the kernel has no TCX. */
int nd_foreign_tcx(int ifindex, bool ingress, int verdict, bool first);

/* Every frame that arrives at the interfaces of this namespace, as a bridge between hosts has them: what this
 * namespace sends itself is not among them. */
int nd_wire_open(int receive_buffer);

enum nd_wire_kind { ND_WIRE_OTHER, ND_WIRE_CLEAR, ND_WIRE_ESP, ND_WIRE_IKE, ND_WIRE_ICMP };

struct nd_wire_tuple {
	uint8_t source[16], destination[16]; /* IPv4 mapped */
	uint16_t source_port, destination_port; /* 0 in later fragments */
	uint8_t protocol;
	bool later_fragment;
	bool valid;
};

struct nd_wire_record {
	uint64_t time_ns; /* CLOCK_REALTIME */
	uint32_t length, kept;
	uint32_t ifindex;
	uint8_t kind;
	uint8_t tcp_flags;
	uint8_t icmp_type, icmp_code;
	struct nd_wire_tuple tuple;
	struct nd_wire_tuple quoted; /* of an ICMP error */
};

/* Returns 0, or -errno. */
int nd_wire_next(int fd, uint8_t *buffer, size_t size, struct nd_wire_record *record);

/* What the payload of a test's packets is made of, again and again: whose it is and which. */
struct nd_marker {
	uint32_t flow, number;
	uint8_t direction;
	bool forged;
};
#define ND_MARKER_BYTES 32
void nd_marker_write(uint8_t *at, const struct nd_marker *marker);
bool nd_marker_read(const uint8_t *at, struct nd_marker *marker);
/* All that are in there, wherever; returns their number, `most` at most. */
int nd_markers_find(const uint8_t *bytes, size_t size, struct nd_marker *found, int most);

/* Many frames by one socket: `frame` is sent `times` times, each with other addresses and ports of its sender
 * (IPv4 or IPv6 with TCP or UDP and no options; sums put right). Returns how many were sent, or -errno. */
int nd_frame_flood(int ifindex, const void *frame, size_t size, int times, uint32_t seed);

/* What a connected socket's next octet from its peer will be; the connection is left as it is. -errno; needs root. */
int nd_tcp_next(int fd, uint32_t *receive);
/* Closes a connection as a power failure does: nothing is sent. */
void nd_tcp_vanish(int fd);

#endif
