// SPDX-License-Identifier: MIT OR Apache-2.0
// Forwards every packet to another interface.
#include "linux.h"

struct {
    __uint(type, BPF_MAP_TYPE_DEVMAP);
    __uint(max_entries, 8);
    __uint(key_size, 4);
    __uint(value_size, 4);
} ports SEC(".maps");

SEC("xdp")
int forward(struct xdp_md *ctx)
{
    return bpf_redirect_map(&ports, ctx->rx_queue_index, XDP_PASS);
}

char _license[] SEC("license") = "GPL";
