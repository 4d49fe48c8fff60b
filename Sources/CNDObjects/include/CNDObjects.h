#ifndef CNDOBJECTS_H
#define CNDOBJECTS_H

#include <stddef.h>

/* The compiled BPF programs, carried inside the binary. */
const void *nd_object_tc(size_t *size);
/* For interfaces that are not protected. */
const void *nd_object_guard(size_t *size);
/* Behind the routing and before the sockets: hangs on no device (netfilter, Linux 6.4). */
const void *nd_object_hook(size_t *size);
/* For packets that the kernel decrypted: attached to the root cgroup where a policy needs it. */
const void *nd_object_socket(size_t *size);
/* The classifier by itself, for the differential test and the benchmark. */
const void *nd_object_ask(size_t *size);
/* What the benchmark measures against. */
const void *nd_object_floor(size_t *size);
/* Tests/Scenarios as a tar archive (ustar), what `ndbpf demo` plays. */
const void *nd_object_scenarios(size_t *size);

#endif
