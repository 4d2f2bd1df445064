// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Looks the source address up in a sorted table of ranges, by halves.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define RANGES 1024
#define HALVES 11

struct range {
    uint32_t first;
    uint32_t last;
    uint32_t action;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct range);
    __uint(max_entries, RANGES);
} ranges SEC(".maps");

struct headers {
    struct ethernet_header ethernet;
    struct ipv4_header ip;
} __attribute__((packed, aligned(2)));

SEC("xdp")
int
prefix_search(xdp_md_t *context)
{
    const struct headers *headers = (const void *)context->data;
    if ((const uint8_t *)(headers + 1) > context->data_end || headers->ethernet.type != bpf_htons(ETHERNET_IPV4)) {
        return XDP_PASS;
    }
    uint32_t address = bpf_ntohl(headers->ip.source);
    uint32_t low = 0, high = RANGES;
#pragma clang loop unroll(disable)
    for (int i = 0; i < HALVES && low < high; i++) {
        uint32_t middle = (low + high) / 2;
        const struct range *range = bpf_map_lookup_elem(&ranges, &middle);
        if (!range) {
            break;
        }
        if (address < range->first) {
            high = middle;
        } else if (address > range->last) {
            low = middle + 1;
        } else {
            return range->action ? XDP_DROP : XDP_PASS;
        }
    }
    return XDP_PASS;
}
