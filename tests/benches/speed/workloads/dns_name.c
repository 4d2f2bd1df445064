// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Drops DNS queries whose name, whatever the case of its letters, is in a table of hashes (FNV-1a), or below one that is.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define NAME_BYTES 64
#define DNS 53

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint64_t);
    __type(value, uint32_t);
    __uint(max_entries, 64);
} names SEC(".maps");

struct query {
    struct ethernet_header ethernet;
    struct ipv4_header ip;
    struct udp_header udp;
    uint16_t header[6];
} __attribute__((packed, aligned(2)));

SEC("xdp")
int
dns_name(xdp_md_t *context)
{
    const struct query *query = (const void *)context->data;
    const uint8_t *end = context->data_end;
    const uint8_t *cursor = (const uint8_t *)(query + 1);
    if (cursor > end || query->ethernet.type != bpf_htons(ETHERNET_IPV4) || query->ip.protocol != IP_UDP ||
        query->udp.destination != bpf_htons(DNS)) {
        return XDP_PASS;
    }
    uint64_t hash = 0xcbf29ce484222325;
    uint32_t left = 0;
    for (int i = 0; i < NAME_BYTES; i++) {
        if (cursor + 1 > end) {
            return XDP_DROP;
        }
        uint8_t byte = *cursor++;
        if (left == 0) {
            if (byte == 0) {
                uint64_t key = hash;
                const uint32_t *drop = bpf_map_lookup_elem(&names, &key);
                return drop && *drop ? XDP_DROP : XDP_PASS;
            }
            if (byte >= 64) {
                return XDP_DROP;
            }
            left = byte;
        } else {
            if (byte >= 'A' && byte <= 'Z') {
                byte |= 0x20;
            }
            left--;
        }
        hash = (hash ^ byte) * 0x100000001b3;
    }
    return XDP_PASS;
}
