// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Chooses one of eight servers by a hash of addresses and ports, and sends the packet on to it.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define SERVERS 8

struct server {
    uint32_t address;
    uint16_t hardware[3];
    uint16_t reserved;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct server);
    __uint(max_entries, SERVERS);
} servers SEC(".maps");

struct headers {
    struct ethernet_header ethernet;
    struct ipv4_header ip;
    uint16_t source_port;
    uint16_t destination_port;
} __attribute__((packed, aligned(2)));

BPF_INLINE uint32_t
rotate(uint32_t value, int bits)
{
    return value << bits | value >> (32 - bits);
}

// The mixing of Bob Jenkins' lookup3, for three words.
BPF_INLINE uint32_t
hash3(uint32_t a, uint32_t b, uint32_t c)
{
    a += 0xdeadbef7;
    b += 0xdeadbef7;
    c += 0xdeadbef7;
    c ^= b;
    c -= rotate(b, 14);
    a ^= c;
    a -= rotate(c, 11);
    b ^= a;
    b -= rotate(a, 25);
    c ^= b;
    c -= rotate(b, 16);
    a ^= c;
    a -= rotate(c, 4);
    b ^= a;
    b -= rotate(a, 14);
    c ^= b;
    c -= rotate(b, 24);
    return c;
}

SEC("xdp")
int
load_balancer(xdp_md_t *context)
{
    struct headers *headers = (void *)context->data;
    if ((uint8_t *)(headers + 1) > context->data_end) {
        return XDP_PASS;
    }
    if (headers->ethernet.type != bpf_htons(ETHERNET_IPV4) || headers->ip.version_and_length != 0x45 ||
        (headers->ip.protocol != IP_TCP && headers->ip.protocol != IP_UDP)) {
        return XDP_PASS;
    }
    uint32_t ports = (uint32_t)headers->source_port << 16 | headers->destination_port;
    uint32_t index = hash3(headers->ip.source, ports, headers->ip.protocol) % SERVERS;
    const struct server *server = bpf_map_lookup_elem(&servers, &index);
    if (!server) {
        return XDP_DROP;
    }
    uint16_t *hardware = (uint16_t *)headers->ethernet.destination;
    hardware[0] = server->hardware[0];
    hardware[1] = server->hardware[1];
    hardware[2] = server->hardware[2];

    // RFC 1624: the checksum changes by the difference of the words.
    uint32_t sum = (uint16_t)~headers->ip.checksum;
    sum += (uint16_t)~(headers->ip.destination & 0xffff) + (uint16_t)~(headers->ip.destination >> 16);
    sum += (server->address & 0xffff) + (server->address >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    headers->ip.checksum = (uint16_t)~sum;
    headers->ip.destination = server->address;
    return XDP_TX;
}
