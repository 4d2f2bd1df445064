// SPDX-License-Identifier: MIT OR Apache-2.0
// Drops packets from addresses in a map, and tells user mode of each.
#include "linux.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 1024);
    __type(key, __u32);
    __type(value, __u64);
} blocked SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 1 << 16);
} drops SEC(".maps");

struct drop {
    __u32 address, length;
};

SEC("xdp")
int blocklist(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
    struct ethhdr *ethernet = data;
    struct iphdr *ip = (void *)(ethernet + 1);
    if ((void *)(ip + 1) > data_end || ethernet->h_proto != __builtin_bswap16(0x0800))
        return XDP_PASS;
    __u32 address = ip->saddr;
    __u64 *count = bpf_map_lookup_elem(&blocked, &address);
    if (!count)
        return XDP_PASS;
    __sync_fetch_and_add(count, 1);
    struct drop *drop = bpf_ringbuf_reserve(&drops, sizeof(*drop), 0);
    if (drop) {
        drop->address = address;
        drop->length = data_end - data;
        bpf_ringbuf_submit(drop, 0);
    }
    return XDP_DROP;
}

char _license[] SEC("license") = "GPL";
