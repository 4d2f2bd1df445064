// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Drops UDP datagrams whose destination port is in a table.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint16_t);
    __type(value, uint32_t);
    __uint(max_entries, 64);
} ports SEC(".maps");

struct headers {
    struct ethernet_header ethernet;
    struct ipv4_header ip;
    struct udp_header udp;
} __attribute__((packed, aligned(2)));

SEC("xdp")
int
udp_drop(xdp_md_t *context)
{
    const struct headers *headers = (const void *)context->data;
    if ((const uint8_t *)(headers + 1) > context->data_end) {
        return XDP_PASS;
    }
    if (headers->ethernet.type != bpf_htons(ETHERNET_IPV4) || headers->ip.version_and_length != 0x45 ||
        headers->ip.protocol != IP_UDP) {
        return XDP_PASS;
    }
    uint16_t port = headers->udp.destination;
    const uint32_t *drop = bpf_map_lookup_elem(&ports, &port);
    return drop && *drop ? XDP_DROP : XDP_PASS;
}
