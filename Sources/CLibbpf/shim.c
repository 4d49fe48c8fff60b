#include "CLibbpf.h"

#include <bpf/btf.h>

#include <errno.h>
#include <gelf.h>
#include <libelf.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/bpf.h>

/* Attach types of TCX; libbpf 1.1 and its headers do not know them yet. */
#define ND_BPF_TCX_INGRESS 46
#define ND_BPF_TCX_EGRESS 47
#define ND_BPF_F_BEFORE 8
/* Of netfilter links. */
#define ND_BPF_PROG_TYPE_NETFILTER 32
#define ND_BPF_NETFILTER 45

static _Thread_local char log_text[8192];
static _Thread_local size_t log_used;

static int keep_log(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char line[2048];
	int n;

	if (level == LIBBPF_DEBUG)
		return 0;
	n = vsnprintf(line, sizeof(line), format, arguments);
	if (n < 0)
		return 0;
	if ((size_t)n >= sizeof(line))
		n = sizeof(line) - 1;
	/* The end of a verifier log says why: keep the newest. */
	if (log_used + (size_t)n >= sizeof(log_text)) {
		size_t drop = log_used + (size_t)n + 1 - sizeof(log_text);

		if (drop > log_used)
			drop = log_used;
		memmove(log_text, log_text + drop, log_used - drop);
		log_used -= drop;
	}
	memcpy(log_text + log_used, line, (size_t)n);
	log_used += (size_t)n;
	log_text[log_used] = 0;
	return 0;
}

const char *nd_bpf_log(void)
{
	static _Thread_local char copy[sizeof(log_text)];

	memcpy(copy, log_text, log_used);
	copy[log_used] = 0;
	log_used = 0;
	return copy;
}

struct bpf_object *nd_bpf_open(const void *data, size_t size, const char *name)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = name);

	libbpf_set_print(keep_log);
	return bpf_object__open_mem(data, size, &options);
}

/* Offsets in struct __sk_buff: data, data_end, data_meta. */
static int is_packet_data(int16_t offset)
{
	return offset == 76 || offset == 80 || offset == 140;
}

static uint32_t scan_call(int32_t helper)
{
	switch (helper) {
	case BPF_FUNC_skb_load_bytes:
	case BPF_FUNC_skb_load_bytes_relative:
	case BPF_FUNC_skb_pull_data:
	case BPF_FUNC_perf_event_output: /* takes bytes of the packet with it */
		return ND_MAY_READ_PAYLOAD;
	case BPF_FUNC_skb_store_bytes:
	case BPF_FUNC_l3_csum_replace:
	case BPF_FUNC_l4_csum_replace:
	case BPF_FUNC_skb_vlan_push:
	case BPF_FUNC_skb_vlan_pop:
	case BPF_FUNC_skb_set_tunnel_key:
	case BPF_FUNC_skb_set_tunnel_opt:
	case BPF_FUNC_skb_change_proto:
	case BPF_FUNC_skb_change_type:
	case BPF_FUNC_skb_change_tail:
	case BPF_FUNC_skb_change_head:
	case BPF_FUNC_skb_adjust_room:
	case BPF_FUNC_skb_ecn_set_ce:
		return ND_MAY_CHANGE_PACKET;
	case BPF_FUNC_clone_redirect:
	case BPF_FUNC_redirect:
	case BPF_FUNC_redirect_map:
	case BPF_FUNC_redirect_neigh:
	case BPF_FUNC_redirect_peer:
	case BPF_FUNC_sk_assign:
		return ND_MAY_SEND;
	case BPF_FUNC_tail_call:
		return ND_MAY_TAIL_CALL;
	}
	return 0;
}

static uint32_t scan(const struct bpf_insn *code, size_t count)
{
	uint32_t may = 0;
	int stores = 0, data = 0;

	for (size_t i = 0; i < count; i++) {
		const struct bpf_insn *in = &code[i];
		uint8_t class = BPF_CLASS(in->code), mode = BPF_MODE(in->code);

		if (in->code == (BPF_JMP | BPF_CALL) && in->src_reg == 0)
			may |= scan_call(in->imm);
		/* Functions of the kernel itself (dynptrs) can do either. */
		if (in->code == (BPF_JMP | BPF_CALL) && in->src_reg == BPF_PSEUDO_KFUNC_CALL)
			may |= ND_MAY_READ_PAYLOAD | ND_MAY_CHANGE_PACKET;
		if (class == BPF_LD && (mode == BPF_ABS || mode == BPF_IND))
			may |= ND_MAY_READ_PAYLOAD;
		if (in->code == (BPF_LDX | BPF_MEM | BPF_W) && is_packet_data(in->off))
			data = 1;
		if ((class == BPF_ST || class == BPF_STX) && in->dst_reg != BPF_REG_10)
			stores = 1;
	}
	/* Which of the addresses that it writes to are the packet's only the verifier knows. */
	if (data)
		may |= ND_MAY_READ_PAYLOAD | (stores ? ND_MAY_CHANGE_PACKET : 0);
	return may;
}

int nd_bpf_scan(const struct bpf_program *program, const void *image, size_t size, uint32_t *may)
{
	Elf *elf;
	Elf_Scn *section = NULL;
	size_t names;

	*may = scan(bpf_program__insns(program), bpf_program__insn_cnt(program));
	/* Functions that programs call stand in .text until the object is loaded. */
	elf_version(EV_CURRENT);
	elf = elf_memory((char *)image, size);
	if (!elf || elf_getshdrstrndx(elf, &names)) {
		elf_end(elf);
		return -EINVAL;
	}
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		const char *name;
		Elf_Data *data;

		if (!gelf_getshdr(section, &header))
			continue;
		name = elf_strptr(elf, names, header.sh_name);
		if (!name || strcmp(name, ".text"))
			continue;
		data = elf_getdata(section, NULL);
		if (data && data->d_buf)
			*may |= scan(data->d_buf, data->d_size / sizeof(struct bpf_insn));
	}
	elf_end(elf);
	return 0;
}

int nd_cgroup_attach(int prog_fd, int cgroup_fd)
{
	int fd = bpf_link_create(prog_fd, cgroup_fd, BPF_CGROUP_INET_INGRESS, NULL);

	return fd < 0 ? -errno : fd;
}

int nd_tcx_attach(int prog_fd, int ifindex, bool ingress)
{
	union bpf_attr attribute;
	int fd;

	memset(&attribute, 0, sizeof(attribute));
	attribute.link_create.prog_fd = (uint32_t)prog_fd;
	attribute.link_create.target_fd = (uint32_t)ifindex;
	attribute.link_create.attach_type = ingress ? ND_BPF_TCX_INGRESS : ND_BPF_TCX_EGRESS;
	/* Before everybody: relative to none. */
	attribute.link_create.flags = ND_BPF_F_BEFORE;
	fd = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &attribute, sizeof(attribute));
	return fd < 0 ? -errno : fd;
}

int nd_tcx_programs(int ifindex, bool ingress, uint32_t *ids, uint32_t most)
{
	/* union bpf_attr's part for BPF_PROG_QUERY, with what came with 6.6. */
	struct {
		uint32_t target_ifindex;
		uint32_t attach_type;
		uint32_t query_flags;
		uint32_t attach_flags;
		uint64_t prog_ids;
		uint32_t count;
		uint32_t zero;
		uint64_t prog_attach_flags;
		uint64_t link_ids;
		uint64_t link_attach_flags;
		uint64_t revision;
	} query = {
		.target_ifindex = (uint32_t)ifindex,
		.attach_type = ingress ? ND_BPF_TCX_INGRESS : ND_BPF_TCX_EGRESS,
		.prog_ids = (uint64_t)(uintptr_t)ids,
		.count = most,
	};

	if (syscall(__NR_bpf, BPF_PROG_QUERY, &query, sizeof(query))) {
		/* No program was ever attached. */
		if (errno == ENOENT)
			return 0;
		/* There are more: those that were asked for are written. */
		return errno == ENOSPC ? (int)most : -errno;
	}
	return (int)query.count;
}

int nd_netfilter_attach(int prog_fd, bool ipv6, uint32_t hook, int priority)
{
	/* union bpf_attr's part for BPF_LINK_CREATE of a netfilter program. */
	struct {
		uint32_t prog_fd;
		uint32_t target_fd;
		uint32_t attach_type;
		uint32_t flags;
		uint32_t family;
		uint32_t hook;
		int32_t priority;
		uint32_t netfilter_flags;
		uint64_t zero[2];
	} create = {
		.prog_fd = (uint32_t)prog_fd,
		.attach_type = ND_BPF_NETFILTER,
		.family = ipv6 ? 10 : 2, /* NFPROTO_IPV6, NFPROTO_IPV4 */
		.hook = hook,
		.priority = priority,
	};
	int fd = (int)syscall(__NR_bpf, BPF_LINK_CREATE, &create, sizeof(create));

	return fd < 0 ? -errno : fd;
}

void nd_netfilter_program(struct bpf_program *program)
{
	bpf_program__set_type(program, (enum bpf_prog_type)ND_BPF_PROG_TYPE_NETFILTER);
	bpf_program__set_expected_attach_type(program, (enum bpf_attach_type)ND_BPF_NETFILTER);
}

int nd_program_id(int prog_fd, uint32_t *id)
{
	union {
		struct bpf_prog_info info;
		uint32_t words[128];
	} u;
	uint32_t size = sizeof(struct bpf_prog_info);

	memset(&u, 0, sizeof(u));
	if (bpf_obj_get_info_by_fd(prog_fd, &u, &size))
		return -errno;
	*id = u.info.id;
	return 0;
}

int nd_clsact_attach(int prog_fd, int ifindex, bool ingress, uint32_t handle, uint32_t priority,
		     bool *created_qdisc)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .prog_fd = prog_fd, .handle = handle, .priority = priority);
	int error = bpf_tc_hook_create(&hook);

	*created_qdisc = error == 0;
	if (error && error != -EEXIST)
		return error;
	return bpf_tc_attach(&hook, &options);
}

int nd_clsact_detach(int ifindex, bool ingress, uint32_t handle, uint32_t priority)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = handle, .priority = priority);

	return bpf_tc_detach(&hook, &options);
}

int nd_clsact_remove_qdisc(int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

	return bpf_tc_hook_destroy(&hook);
}

int nd_bpf_test_run(int prog_fd, const void *in, uint32_t in_size, void *out, uint32_t *out_size,
		    uint32_t ifindex, uint32_t mark, uint32_t repeat, uint32_t *retval,
		    uint32_t *duration_ns)
{
	/* The kernel takes ifindex and mark from the context and refuses protocol; the packet tells it. */
	struct __sk_buff context = { .ifindex = ifindex, .mark = mark };
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = in, .data_size_in = in_size,
		    .data_out = out, .data_size_out = out_size ? *out_size : 0, .repeat = (int)repeat,
		    .ctx_in = ifindex || mark ? &context : NULL,
		    .ctx_size_in = ifindex || mark ? sizeof(context) : 0);
	int error;

	error = bpf_prog_test_run_opts(prog_fd, &options);
	if (error)
		return -errno;
	*retval = options.retval;
	*duration_ns = options.duration;
	if (out_size)
		*out_size = options.data_size_out;
	return 0;
}

int nd_map_create_policy(int state_fd, uint32_t value_size, uint32_t banks)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_INNER_MAP);
	struct bpf_map_info info = { 0 };
	uint32_t size = sizeof(info);
	struct btf *btf = NULL;
	int fd;

	if (bpf_obj_get_info_by_fd(state_fd, &info, &size))
		return -errno;
	if (info.btf_id)
		btf = btf__load_from_kernel_by_id(info.btf_id);
	if (btf) {
		int type = btf__find_by_name_kind(btf, "nd_bank", BTF_KIND_STRUCT);
		int btf_fd = bpf_btf_get_fd_by_id(info.btf_id);

		if (type > 0 && btf_fd >= 0) {
			options.btf_fd = (uint32_t)btf_fd;
			options.btf_key_type_id = info.btf_key_type_id;
			options.btf_value_type_id = (uint32_t)type;
		}
	}
	fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "nd_policy_slot", sizeof(uint32_t), value_size, banks,
			    &options);
	if (fd < 0)
		fd = -errno;
	if (options.btf_fd)
		close((int)options.btf_fd);
	btf__free(btf);
	return fd;
}

int nd_link_describe(int link_fd, uint32_t *prog_id, uint32_t *ifindex)
{
	/* struct bpf_link_info of this header may be older than the kernel's: leave room. */
	union {
		struct bpf_link_info info;
		uint32_t words[64];
	} u;
	uint32_t size = sizeof(u);
	union bpf_attr attribute;

	memset(&u, 0, sizeof(u));
	memset(&attribute, 0, sizeof(attribute));
	attribute.info.bpf_fd = (uint32_t)link_fd;
	attribute.info.info_len = size;
	attribute.info.info = (uint64_t)(uintptr_t)&u;
	if (syscall(__NR_bpf, BPF_OBJ_GET_INFO_BY_FD, &attribute, sizeof(attribute)))
		return -errno;
	*prog_id = u.info.prog_id;
	*ifindex = u.words[4]; /* tcx.ifindex follows type, id, prog_id and padding */
	return 0;
}

struct ring_buffer *nd_ring_open(int map_fd, nd_ring_callback callback, void *context)
{
	return ring_buffer__new(map_fd, callback, context, NULL);
}
