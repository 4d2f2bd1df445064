// One program for each thing that has no counterpart on Windows, or that Linux itself would refuse; REFUSED selects it.
#include "linux.h"

struct bpf_sock_addr {
    u32 user_family, user_ip4, user_ip6[4], user_port, family, type, protocol, msg_src_ip4, msg_src_ip6[4];
    u64 sk;
};

struct bpf_sock_ops {
    u32 op, args[4], family;
};

static long (*redirect)(u32 interface, u64 flags) = (void *)23;
static long (*redirect_map)(void *map, u64 key, u64 flags) = (void *)51;
static void *(*lookup_socket)(void *context, void *tuple, u32 size, u64 netns, u64 flags) = (void *)84;
static u64 (*uid)(void) = (void *)15;
static long (*bind)(void *context, void *address, int length) = (void *)64;

struct {
    UINT(type, MAP);
    UINT(key_size, 4);
    UINT(value_size, 4);
    UINT(max_entries, 4);
#ifdef FLAGS
    UINT(map_flags, FLAGS);
#endif
} map SEC(".maps");

#if REFUSED == 1
SEC("xdp") int program(struct xdp_md *context) { return redirect(1, 0); }
#elif REFUSED == 2
SEC("xdp") int program(struct xdp_md *context) { return redirect_map(&map, 0, 0); }
#elif REFUSED == 3
SEC("xdp") int program(struct xdp_md *context) {
    u32 tuple[3] = {};
    return lookup_socket(context, tuple, 12, 0, 0) != 0;
}
#elif REFUSED == 4
SEC("xdp") int program(struct xdp_md *context) { return *(volatile u32 *)&context->egress_ifindex; }
#elif REFUSED == 5
SEC("cgroup/connect4") int program(struct bpf_sock_addr *context) { return uid() != 0; }
#elif REFUSED == 6
SEC("cgroup/connect4") int program(struct bpf_sock_addr *context) {
    u32 address[4] = {};
    return bind(context, address, 16) == 0;
}
#elif REFUSED == 7
SEC("cgroup/connect4") int program(struct bpf_sock_addr *context) { return *(volatile u64 *)&context->sk != 0; }
#elif REFUSED == 8
SEC("cgroup/connect4") int program(struct bpf_sock_addr *context) { return *(volatile u32 *)&context->user_ip6[0] & 1; }
#elif REFUSED == 9
SEC("cgroup/bind4") int program(struct bpf_sock_addr *context) {
    *(volatile u32 *)&context->user_port = 7;
    return 1;
}
#elif REFUSED == 10
SEC("cgroup/connect4") int program(struct bpf_sock_addr *context) {
    *(volatile u32 *)&context->family = 2;
    return 1;
}
#elif REFUSED == 11
SEC("cgroup/connect4") int program(struct bpf_sock_addr *context) { return 2; }
#elif REFUSED == 12
SEC("cgroup/bind4") int program(struct bpf_sock_addr *context) { return 4; }
#elif REFUSED == 13
SEC("sockops") int program(struct bpf_sock_ops *context) { return 2; }
#elif REFUSED == 14
SEC("cgroup/post_bind4") int program(void *context) { return 1; }
#elif REFUSED == 15
SEC("xdp/devmap") int program(struct xdp_md *context) { return XDP_PASS; }
#elif REFUSED == 16
SEC("tc") int program(void *context) { return 0; }
#elif REFUSED == 17
SEC("cgroup/connect4") int program(struct bpf_sock_addr *context) { return *(volatile u16 *)&context->protocol & 1; }
#elif REFUSED == 18
SEC("xdp") int program(struct xdp_md *context) {
    u32 key = 0;
    return lookup(&map, &key) ? XDP_PASS : XDP_DROP;
}
#elif REFUSED == 19
__attribute__((noinline)) SEC("xdp") int program(struct xdp_md *context) {
    return *(volatile u32 *)&context->ingress_ifindex;
}
SEC("xdp") int caller(struct xdp_md *context) { return program(context) + 1; }
#elif REFUSED == 20
NOINLINE u32 part(struct bpf_sock_addr *context) { return *(volatile u32 *)&context->user_family; }
SEC("cgroup/connect4") int connect(struct bpf_sock_addr *context) { return part(context) & 1; }
SEC("sockops") int program(void *context) { return part(context) & 1; }
#elif REFUSED == 21
NOINLINE u32 first(u32 *of) { return *(volatile u32 *)of; }
SEC("cgroup/connect4") int program(struct bpf_sock_addr *context) {
    u32 memory = 7;
    return (first(&context->user_family) + first(&memory)) & 1;
}
#elif REFUSED == 22
SEC("xdp") int program(struct xdp_md *context) {
    void *record = reserve(&map, context->rx_queue_index, 0);
    if (record)
        discard(record, 0);
    return XDP_PASS;
}
#elif REFUSED == 23
SEC("xdp") int program(struct xdp_md *context) {
    volatile u32 *record = reserve(&map, 4, 0);
    if (record)
        *record = 1;
    return XDP_PASS;
}
#elif REFUSED == 24
SEC("xdp") int program(struct xdp_md *context) {
    u32 key = 0, *value = lookup(&map, &key);
    if (value)
        submit(value, 0);
    return XDP_PASS;
}
#elif REFUSED == 25
SEC("xdp") int program(struct xdp_md *context) {
    void *record = reserve(&map, 600, 0);
    if (record)
        submit(record, 0);
    return XDP_PASS;
}
#elif REFUSED == 26
SEC("xdp") int program(struct xdp_md *context) {
    char text[4] = "abc";
    return strncmp(text, 4, text);
}
#elif REFUSED == 27
static u64 (*jiffies)(void) = (void *)118;
SEC("xdp") int program(struct xdp_md *context) { return jiffies() & 1; }
#elif REFUSED == 28
SEC("xdp") int program(struct xdp_md *context) { return loop(3, 0, 0, 0) & 1; }
#endif
