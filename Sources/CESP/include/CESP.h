#ifndef CESP_H
#define CESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- AEAD over batches ---- */

/* One ESP packet, worked on in place. `data` is what is encrypted; `aad` what is only
 * authenticated; for CBC `iv` points at the 16 bytes in the packet, for GCM at the 8. */
struct nd_esp_op {
	uint8_t *data;
	uint8_t *iv;
	uint8_t *icv;
	uint8_t aad[12];
	uint32_t length;
	uint32_t aad_length; /* 8, or 12 with extended sequence numbers */
	bool ok;
};

enum nd_aead_kind { ND_AEAD_GCM, ND_AEAD_CBC_SHA256 };
enum nd_aead_library { ND_AEAD_OPENSSL, ND_AEAD_IPSEC_MB };

struct nd_aead;

/* Whether this build and this CPU can use ipsec-mb (needs AES-NI and AVX). */
bool nd_ipsec_mb_usable(void);

/* A keyed context for one thread. keymat: key, then 4 bytes of salt (GCM) or 32 bytes of HMAC key
 * (CBC). NULL when the library refuses. */
struct nd_aead *nd_aead_new(enum nd_aead_kind kind, enum nd_aead_library library, bool seal,
			    const uint8_t *keymat, unsigned key_bits);
void nd_aead_free(struct nd_aead *aead);

/* Encrypts and authenticates; sets every op's ok. CBC: fills the IV from a counter encrypted under
 * a key of its own, so it can't be predicted (RFC 3602 §3). */
void nd_aead_seal(struct nd_aead *aead, struct nd_esp_op *ops, unsigned count);
/* Verifies and decrypts; a failed op's data is not to be used. */
void nd_aead_open(struct nd_aead *aead, struct nd_esp_op *ops, unsigned count);

/* ---- checksums ---- */

/* Ones' complement sum in memory order, not folded below 32 bits. */
uint32_t nd_sum(const void *data, size_t size, uint32_t start);
/* The same while copying. */
uint32_t nd_copy_sum(void *to, const void *from, size_t size, uint32_t start);
static inline uint16_t nd_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* ---- TUN and sockets; 0, a descriptor or a count, or -errno ---- */

/* Opens one queue of the device. *offloads: 2 TSO and USO, 1 TSO only. */
int nd_tun_open(const char *name, unsigned *offloads);
/* The same with the descriptor of a queue whose device was deleted. -EEXIST: it has its device. */
int nd_tun_again(int fd, const char *name);

/* TUN_F_*: what the device may leave to its reader. 0, or a negative errno. */
int nd_tun_offloads(int fd, unsigned offloads);
int nd_tun_persist(int fd, bool persist);
int nd_link_up(const char *name, int mtu, int tx_queue);

/* Gives the device 192.0.0.8/32, the IPv4 dummy address (RFC 7600 §4.8), of host scope so that
 * nothing is ever sent from it. Loose reverse-path filtering drops everything that arrives on a
 * device without an IPv4 address (measured on 6.18). */
int nd_link_dummy_address(const char *name);

struct nd_addr16 {
	uint8_t bytes[16]; /* IPv4 mapped */
};

int nd_udp_open(bool ipv6, uint16_t port, uint32_t mark, int buffer);
int nd_esp_open(bool ipv6, uint32_t mark, int buffer);

/* Sends one datagram, or several of `segment` bytes each (UDP_SEGMENT, the last may be shorter). */
int nd_udp_send(int fd, bool ipv6, const void *data, size_t size, uint16_t segment,
		const struct nd_addr16 *from, const struct nd_addr16 *to, uint16_t port);
/* Receives one datagram or a UDP_GRO bundle of *segment-sized ones. */
int nd_udp_receive(int fd, bool ipv6, void *data, size_t size, uint16_t *segment,
		   struct nd_addr16 *from, uint16_t *port, struct nd_addr16 *to);

/* Protocol 50. Sends `count` packets of `segment` bytes (the last may be shorter) that lie one
 * after another; returns how many left. */
int nd_esp_send(int fd, bool ipv6, const uint8_t *data, size_t size, uint32_t segment,
		const struct nd_addr16 *from, const struct nd_addr16 *to);
/* One packet without its IP header. */
int nd_esp_receive(int fd, bool ipv6, void *data, size_t size, struct nd_addr16 *from,
		   struct nd_addr16 *to, size_t *offset);

int nd_event_open(void);
void nd_event_signal(int fd);
void nd_event_clear(int fd);

struct nd_wait {
	int fds[8];
	int count;
};
/* Bit i: fds[i] is readable. */
int nd_wait_readable(const struct nd_wait *wait, int timeout_ms);

/* Gathered write of a vnet header and pieces into the TUN. */
struct nd_piece {
	const void *data;
	size_t size;
};
int nd_tun_write(int fd, const struct nd_piece *pieces, int count);

#endif
