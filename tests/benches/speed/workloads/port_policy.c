// SPDX-License-Identifier: MIT OR Apache-2.0
//
// What is done with a packet is decided by the protocol and the port of its destination, in a `switch`.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

struct headers {
    struct ethernet_header ethernet;
    struct ipv4_header ip;
    struct udp_header ports;
} __attribute__((packed, aligned(2)));

enum class { OTHER, WEB, MAIL, NAMES, SHELL, FILES, MANAGEMENT, CLASSES };

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, CLASSES);
} packets SEC(".maps");

SEC("xdp")
int
port_policy(xdp_md_t *context)
{
    const struct headers *headers = (const void *)context->data;
    if ((const uint8_t *)(headers + 1) > context->data_end || headers->ethernet.type != bpf_htons(ETHERNET_IPV4)) {
        return XDP_PASS;
    }
    uint32_t kind;
    int verdict = XDP_PASS;
    if (headers->ip.protocol != IP_TCP && headers->ip.protocol != IP_UDP) {
        return headers->ip.protocol == IP_ICMP ? XDP_PASS : XDP_DROP;
    }
    switch (bpf_ntohs(headers->ports.destination)) {
    case 20: case 21: case 69: case 989: case 990: case 2049:
        kind = FILES;
        break;
    case 22: case 992:
        kind = SHELL;
        break;
    case 23: case 513: case 514:
        kind = SHELL;
        verdict = XDP_DROP;
        break;
    case 25: case 110: case 143: case 465: case 587: case 993: case 995:
        kind = MAIL;
        break;
    case 53: case 853: case 5353: case 5355:
        kind = NAMES;
        break;
    case 80: case 443: case 8080: case 8443:
        kind = WEB;
        break;
    case 135: case 137: case 138: case 139: case 445: case 3389:
        kind = MANAGEMENT;
        verdict = XDP_DROP;
        break;
    case 161: case 162: case 5985: case 5986:
        kind = MANAGEMENT;
        break;
    default:
        kind = OTHER;
    }
    uint64_t *count = bpf_map_lookup_elem(&packets, &kind);
    if (count) {
        *count += 1;
    }
    return verdict;
}
