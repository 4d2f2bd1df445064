// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Lets so many bytes a second through for each source address, with a bucket for bursts.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define SECOND 1000000000ull

struct bucket {
    uint64_t tokens; // bytes
    uint64_t time;   // when they were counted
    uint64_t rate;   // bytes per second
    uint64_t burst;  // bytes
    uint64_t cost;   // nanoseconds for a byte, as it was last
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint32_t);
    __type(value, struct bucket);
    __uint(max_entries, 64);
} buckets SEC(".maps");

SEC("xdp")
int
token_bucket(xdp_md_t *context)
{
    const uint8_t *start = context->data;
    const struct ethernet_header *ethernet = (const void *)start;
    const struct ipv4_header *ip = (const void *)(start + sizeof(*ethernet));
    if ((const uint8_t *)(ip + 1) > context->data_end || ethernet->type != bpf_htons(ETHERNET_IPV4)) {
        return XDP_PASS;
    }
    uint32_t source = ip->source;
    struct bucket *bucket = bpf_map_lookup_elem(&buckets, &source);
    if (!bucket) {
        return XDP_PASS;
    }
    uint64_t now = bpf_ktime_get_ns();
    uint64_t elapsed = now - bucket->time;
    if (elapsed > SECOND) {
        elapsed = SECOND;
    }
    uint64_t tokens = bucket->tokens + elapsed * bucket->rate / SECOND;
    if (tokens > bucket->burst) {
        tokens = bucket->burst;
    }
    bucket->cost = SECOND / bucket->rate;
    bucket->time = now;
    uint64_t length = bpf_ntohs(ip->total_length);
    int verdict = XDP_DROP;
    if (tokens >= length) {
        tokens -= length;
        verdict = XDP_PASS;
    }
    bucket->tokens = tokens;
    return verdict;
}
