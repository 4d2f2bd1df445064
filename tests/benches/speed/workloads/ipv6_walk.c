// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Walks over the extension headers of IPv6 to the transport header, and compares the address with a prefix.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define MAX_EXTENSIONS 6

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 256);
} protocols SEC(".maps");

SEC("xdp")
int
ipv6_walk(xdp_md_t *context)
{
    const uint8_t *cursor = context->data;
    const uint8_t *end = context->data_end;
    const struct ethernet_header *ethernet = (const void *)cursor;
    const struct ipv6_header *ip = (const void *)(cursor + sizeof(*ethernet));
    if ((const uint8_t *)(ip + 1) > end || ethernet->type != bpf_htons(ETHERNET_IPV6)) {
        return XDP_PASS;
    }
    uint8_t next = ip->next_header;
    cursor = (const uint8_t *)(ip + 1);
    for (int i = 0; i < MAX_EXTENSIONS && ipv6_is_extension(next); i++) {
        const struct ipv6_extension *extension = (const void *)cursor;
        if (cursor + sizeof(*extension) > end) {
            return XDP_DROP;
        }
        cursor += ipv6_extension_size(next, extension);
        next = extension->next_header;
    }
    uint32_t key = next;
    uint64_t *count = bpf_map_lookup_elem(&protocols, &key);
    if (count) {
        *count += 1;
    }
    // fc00::/7 is for local use.
    if ((ip->source[0] & 0xfe) == 0xfc || (ip->destination[0] & 0xfe) == 0xfc) {
        return XDP_PASS;
    }
    return next == IP_TCP || next == IP_UDP ? XDP_PASS : XDP_DROP;
}
