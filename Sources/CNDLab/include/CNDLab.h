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

#endif
