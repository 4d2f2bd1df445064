// SPDX-License-Identifier: MIT OR Apache-2.0
// Sends packets back to where the kernel would route them by the same interface; all others go to the stack.
#include "linux.h"

SEC("xdp")
int router(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
    struct ethhdr *ethernet = data;
    struct iphdr *ip = (void *)(ethernet + 1);
    if ((void *)(ip + 1) > data_end || ethernet->h_proto != __builtin_bswap16(0x0800))
        return XDP_PASS;
    struct bpf_fib_lookup route = { .family = 2, .ipv4_src = ip->saddr, .ipv4_dst = ip->daddr };
    route.ifindex = ctx->ingress_ifindex;
    if (bpf_fib_lookup(ctx, &route, sizeof(route), 0) != 0 || route.ifindex != ctx->ingress_ifindex)
        return XDP_PASS;
    __builtin_memcpy(ethernet->h_dest, route.dmac, 6);
    __builtin_memcpy(ethernet->h_source, route.smac, 6);
    return XDP_TX;
}

char _license[] SEC("license") = "GPL";
