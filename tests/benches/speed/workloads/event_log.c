// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Writes a record of each packet to a ring buffer: what is known of it, and its first bytes.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define SAMPLE 48

struct event {
    uint64_t time;
    uint32_t size;
    uint16_t type;
    uint8_t protocol;
    uint8_t has_ports;
    uint8_t source[16];
    uint8_t destination[16];
    uint16_t source_port;
    uint16_t destination_port;
    uint32_t flags;
    uint8_t sample[SAMPLE];
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 65536);
} events SEC(".maps");

SEC("xdp")
int
event_log(xdp_md_t *context)
{
    const uint8_t *start = context->data;
    const uint8_t *end = context->data_end;
    const struct ethernet_header *ethernet = (const void *)start;
    if (start + sizeof(*ethernet) + SAMPLE > end) {
        return XDP_PASS;
    }
    struct event event = {0};
    event.time = bpf_ktime_get_boot_ns();
    event.size = (uint32_t)(end - start);
    event.type = bpf_ntohs(ethernet->type);
    const struct udp_header *ports = NULL;
    if (event.type == ETHERNET_IPV4) {
        const struct ipv4_header *ip = (const void *)(ethernet + 1);
        event.protocol = ip->protocol;
        __builtin_memcpy(event.source, &ip->source, 4);
        __builtin_memcpy(event.destination, &ip->destination, 4);
        ports = (const void *)(ip + 1);
    } else if (event.type == ETHERNET_IPV6) {
        const struct ipv6_header *ip = (const void *)(ethernet + 1);
        event.protocol = ip->next_header;
        __builtin_memcpy(event.source, ip->source, 16);
        __builtin_memcpy(event.destination, ip->destination, 16);
        ports = (const void *)(ip + 1);
    }
    if (ports && (event.protocol == IP_TCP || event.protocol == IP_UDP)) {
        event.has_ports = 1;
        event.source_port = bpf_ntohs(ports->source);
        event.destination_port = bpf_ntohs(ports->destination);
    }
    __builtin_memcpy(event.sample, ethernet + 1, SAMPLE);
    bpf_ringbuf_output(&events, &event, sizeof(event), 0);
    return XDP_PASS;
}
