// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Reads the options of a TCP header (RFC 9293): largest segment, window scale, timestamps.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define MAX_OPTIONS 16

enum option {
    OPTION_END = 0,
    OPTION_NOTHING = 1,
    OPTION_SEGMENT = 2,
    OPTION_SCALE = 3,
    OPTION_SELECTIVE = 4,
    OPTION_TIMESTAMPS = 8,
};

struct found {
    uint32_t segment;
    uint32_t scale;
    uint32_t selective;
    uint32_t timestamp;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct found);
    __uint(max_entries, 1);
} last SEC(".maps");

#define TCP_AT (sizeof(struct ethernet_header) + sizeof(struct ipv4_header))
#define OPTIONS_AT (TCP_AT + 20)

SEC("xdp")
int
tcp_options(xdp_md_t *context)
{
    const uint8_t *start = context->data;
    const uint8_t *end = context->data_end;
    if (start + OPTIONS_AT > end) {
        return XDP_PASS;
    }
    const struct ethernet_header *ethernet = (const void *)start;
    const struct ipv4_header *ip = (const void *)(start + sizeof(*ethernet));
    if (ethernet->type != bpf_htons(ETHERNET_IPV4) || ip->version_and_length != 0x45 || ip->protocol != IP_TCP) {
        return XDP_PASS;
    }
    uint32_t left = (start[TCP_AT + 12] >> 4) * 4;
    if (left < 20) {
        return XDP_DROP;
    }
    left -= 20;
    const uint8_t *cursor = start + OPTIONS_AT;
    struct found found = {0};
    for (int i = 0; i < MAX_OPTIONS; i++) {
        if (left == 0 || cursor + 1 > end) {
            break;
        }
        uint8_t kind = *cursor;
        if (kind == OPTION_END) {
            break;
        }
        if (kind == OPTION_NOTHING) {
            cursor++;
            left--;
            continue;
        }
        if (cursor + 2 > end) {
            return XDP_DROP;
        }
        uint32_t length = cursor[1];
        if (length < 2 || length > left || length > 40) {
            return XDP_DROP;
        }
        if (kind == OPTION_SEGMENT && length == 4 && cursor + 4 <= end) {
            found.segment = bpf_ntohs(*(const uint16_t *)(cursor + 2));
        } else if (kind == OPTION_SCALE && length == 3 && cursor + 3 <= end) {
            found.scale = cursor[2];
        } else if (kind == OPTION_SELECTIVE) {
            found.selective = 1;
        } else if (kind == OPTION_TIMESTAMPS && length == 10 && cursor + 10 <= end) {
            found.timestamp = bpf_ntohl(*(const uint32_t *)(cursor + 2));
        }
        cursor += length;
        left -= length;
    }
    uint32_t zero = 0;
    struct found *place = bpf_map_lookup_elem(&last, &zero);
    if (place) {
        *place = found;
    }
    return found.segment > 1400 ? XDP_DROP : XDP_PASS;
}
