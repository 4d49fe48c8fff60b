#ifndef CLIBBPF_H
#define CLIBBPF_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * What Swift can't say of libbpf's API by itself: option structs built by macros, variadic
 * callbacks. Every function returns 0 or a file descriptor, or -errno.
 */

/* Opens an object from memory without loading it; NULL with errno set. */
struct bpf_object *nd_bpf_open(const void *data, size_t size, const char *name);

/* libbpf's own messages since the last call, newest last; they hold the verifier's log. */
const char *nd_bpf_log(void);

/* What a program's instructions, and those of all functions of its object, may do. */
#define ND_MAY_READ_PAYLOAD 0x1u
#define ND_MAY_CHANGE_PACKET 0x2u
#define ND_MAY_SEND 0x4u       /* redirect, clone, another socket */
#define ND_MAY_TAIL_CALL 0x8u
int nd_bpf_scan(const struct bpf_program *program, const void *image, size_t size, uint32_t *may);

/* Attaches to a cgroup (v2) for packets on their way into sockets. Returns the link's descriptor. */
int nd_cgroup_attach(int prog_fd, int cgroup_fd);

/* A TCX link (kernel 6.6 on) before all others. ingress: else egress. Returns the link's descriptor.
 * -EEXIST: the same program hangs there already. */
int nd_tcx_attach(int prog_fd, int ifindex, bool ingress);
/* The ids of a device's TCX programs in their order, at most so many; -EINVAL before 6.6. */
int nd_tcx_programs(int ifindex, bool ingress, uint32_t *ids, uint32_t most);

/* A netfilter link in the calling thread's network namespace (kernel 6.4 on). Returns its descriptor.
 * -EBUSY: another BPF program has the priority. */
int nd_netfilter_attach(int prog_fd, bool ipv6, uint32_t hook, int priority);
/* libbpf 1.1 doesn't know the type: said before the object is loaded. */
void nd_netfilter_program(struct bpf_program *program);

int nd_program_id(int prog_fd, uint32_t *id);

/* clsact for older kernels: creates the qdisc where missing and adds the program as a direct-action
 * filter with this handle and priority. *created_qdisc tells whether the qdisc is ours to remove. */
int nd_clsact_attach(int prog_fd, int ifindex, bool ingress, uint32_t handle, uint32_t priority,
		     bool *created_qdisc);
int nd_clsact_detach(int ifindex, bool ingress, uint32_t handle, uint32_t priority);
int nd_clsact_remove_qdisc(int ifindex);

/* BPF_PROG_TEST_RUN with an optional __sk_buff context. */
int nd_bpf_test_run(int prog_fd, const void *in, uint32_t in_size, void *out, uint32_t *out_size,
		    uint32_t ifindex, uint32_t mark, uint32_t repeat, uint32_t *retval,
		    uint32_t *duration_ns);

/* A map of banks that can take the policy slot. It carries the type information of the object that `state_fd`
 * (its map nd_state) was loaded with: kernels before 6.3 take no inner map without the template's
 * (measured on 6.1: EINVAL, since the offsets of timers are compared). */
int nd_map_create_policy(int state_fd, uint32_t value_size, uint32_t banks);

/* Link details: kind of attachment, device and program. */
int nd_link_describe(int link_fd, uint32_t *prog_id, uint32_t *ifindex);

typedef int (*nd_ring_callback)(void *context, void *data, size_t size);
struct ring_buffer *nd_ring_open(int map_fd, nd_ring_callback callback, void *context);

#endif
