// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Calls helpers 16 times, and does little else.

#include "bpf2sys_xdp.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 16);
} seen SEC(".maps");

BPF_INLINE uint64_t
step(uint64_t sum)
{
    sum += bpf_get_prandom_u32();
    sum ^= bpf_ktime_get_ns();
    sum += bpf_get_smp_processor_id();
    return sum;
}

SEC("xdp")
int
helpers(xdp_md_t *context)
{
    uint64_t sum = context->ingress_ifindex;
    sum = step(sum);
    sum = step(sum);
    sum = step(sum);
    sum = step(sum);
    sum = step(sum);
    uint32_t key = sum & 7;
    uint64_t *value = bpf_map_lookup_elem(&seen, &key);
    if (value) {
        *value += sum;
    }
    return sum & 1 ? XDP_PASS : XDP_DROP;
}
