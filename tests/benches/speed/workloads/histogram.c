// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Counts the bytes of a packet by their upper four bits, and packets by the logarithm of their length, in array maps.

#include "bpf2sys_xdp.h"

#define MAX_BYTES 64

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 16);
} nibbles SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 64);
} lengths SEC(".maps");

SEC("xdp")
int
histogram(xdp_md_t *context)
{
    const uint8_t *cursor = context->data;
    const uint8_t *end = context->data_end;
    uint64_t length = end - cursor;
    uint32_t slot = 0;
    for (int shift = 16; shift > 0; shift >>= 1) {
        if (length >> shift) {
            length >>= shift;
            slot += shift;
        }
    }
    uint64_t *count = bpf_map_lookup_elem(&lengths, &slot);
    if (count) {
        __sync_fetch_and_add(count, 1);
    }
    for (int i = 0; i < MAX_BYTES; i++) {
        if (cursor + 1 > end) {
            break;
        }
        uint32_t nibble = *cursor >> 4;
        uint64_t *value = bpf_map_lookup_elem(&nibbles, &nibble);
        if (value) {
            *value += 1;
        }
        cursor++;
    }
    return XDP_PASS;
}
