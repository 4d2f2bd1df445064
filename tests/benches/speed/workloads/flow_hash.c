// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Jenkins' hash of a flow, and counters of packets and bytes for it.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define FLOWS 256

struct headers {
    struct ethernet_header ethernet;
    struct ipv4_header ip;
    struct udp_header ports;
} __attribute__((packed, aligned(2)));

struct counters {
    uint64_t packets;
    uint64_t bytes;
    uint32_t source;
    uint32_t collisions;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct counters);
    __uint(max_entries, FLOWS);
} flows SEC(".maps");

#define ROTATED(word, bits) (((word) << (bits)) | ((word) >> (32 - (bits))))

BPF_INLINE uint32_t
hash(uint32_t a, uint32_t b, uint32_t c)
{
    a += 0xdeadbeef + 12;
    b += 0xdeadbeef + 12;
    c += 0xdeadbeef + 12;
    c ^= b, c -= ROTATED(b, 14);
    a ^= c, a -= ROTATED(c, 11);
    b ^= a, b -= ROTATED(a, 25);
    c ^= b, c -= ROTATED(b, 16);
    a ^= c, a -= ROTATED(c, 4);
    b ^= a, b -= ROTATED(a, 14);
    c ^= b, c -= ROTATED(b, 24);
    return c;
}

SEC("xdp")
int
flow_hash(xdp_md_t *context)
{
    const struct headers *headers = (const void *)context->data;
    if ((const uint8_t *)(headers + 1) > context->data_end || headers->ethernet.type != bpf_htons(ETHERNET_IPV4)) {
        return XDP_PASS;
    }
    uint32_t ports = (uint32_t)headers->ports.source << 16 | headers->ports.destination;
    uint32_t key = hash(headers->ip.source, headers->ip.destination, ports) % FLOWS;
    struct counters *counters = bpf_map_lookup_elem(&flows, &key);
    if (!counters) {
        return XDP_PASS;
    }
    __sync_fetch_and_add(&counters->packets, 1);
    __sync_fetch_and_add(&counters->bytes, bpf_ntohs(headers->ip.total_length));
    if (counters->source != headers->ip.source) {
        counters->source = headers->ip.source;
        counters->collisions++;
    }
    return XDP_PASS;
}
