// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Rewrites address and port of the destination, with the checksums (RFC 1624), and sends the packet back.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

struct headers {
    struct ethernet_header ethernet;
    struct ipv4_header ip;
    struct udp_header udp;
} __attribute__((packed, aligned(2)));

struct service {
    uint32_t address;
    uint16_t port;
    uint16_t protocol;
};

struct target {
    uint32_t address;
    uint16_t port;
    uint8_t hardware[6];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct service);
    __type(value, struct target);
    __uint(max_entries, 16);
} targets SEC(".maps");

BPF_INLINE uint16_t
replaced(uint16_t checksum, uint32_t before, uint32_t after)
{
    uint32_t sum = (uint16_t)~checksum;
    sum += (uint16_t)~before + (uint16_t)~(before >> 16);
    sum += (uint16_t)after + (uint16_t)(after >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

SEC("xdp")
int
nat_rewrite(xdp_md_t *context)
{
    struct headers *headers = (void *)context->data;
    if ((const uint8_t *)(headers + 1) > context->data_end || headers->ethernet.type != bpf_htons(ETHERNET_IPV4) ||
        headers->ip.version_and_length != 0x45 || headers->ip.protocol != IP_UDP || headers->ip.time_to_live <= 1) {
        return XDP_PASS;
    }
    struct service service = {headers->ip.destination, headers->udp.destination, IP_UDP};
    const struct target *target = bpf_map_lookup_elem(&targets, &service);
    if (!target) {
        return XDP_PASS;
    }
    headers->ip.checksum = replaced(headers->ip.checksum, headers->ip.destination, target->address);
    if (headers->udp.checksum) {
        uint16_t checksum = replaced(headers->udp.checksum, headers->ip.destination, target->address);
        headers->udp.checksum = replaced(checksum, headers->udp.destination, target->port);
    }
    headers->ip.destination = target->address;
    headers->udp.destination = target->port;
    __builtin_memcpy(headers->ethernet.source, headers->ethernet.destination, 6);
    __builtin_memcpy(headers->ethernet.destination, target->hardware, 6);
    return XDP_TX;
}
