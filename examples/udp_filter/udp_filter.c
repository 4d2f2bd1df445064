// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Drops UDP datagrams by port, over IPv4 and IPv6, before the network stack sees them.
//
// Reads: Ethernet with up to two VLAN tags; IPv4 with options; IPv6 with up to MAX_EXTENSIONS extension headers.
// Everything that is not a complete, unfragmented UDP header of a listed port passes, unless `config` says otherwise.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define MAX_VLAN_TAGS 2
#define MAX_EXTENSIONS 6

// Set before or while the program runs, through the map that holds this section.
static volatile struct {
    uint32_t monitor_only;    // nonzero: count what would be dropped, and let it pass
    uint32_t drop_fragments;  // nonzero: drop later fragments of UDP datagrams, whose port cannot be seen
    uint32_t drop_malformed;  // nonzero: drop headers that are cut short or contradict themselves
} config = {
    .monitor_only = 0,
    .drop_fragments = 0,
    .drop_malformed = 1,
};

// Where a port must stand in a datagram for it to be dropped; added up.
enum match {
    MATCH_DESTINATION = 1,
    MATCH_SOURCE = 2,
};

// Port in network byte order, as in the packet, to a sum of enum match.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint16_t);
    __type(value, uint8_t);
    __uint(max_entries, 1024);
} blocked_ports SEC(".maps");

enum counter {
    COUNT_NOT_UDP,
    COUNT_PASSED,
    COUNT_DROPPED_DESTINATION,
    COUNT_DROPPED_SOURCE,
    COUNT_FRAGMENT,
    COUNT_MALFORMED,
    COUNT_TOO_MANY_EXTENSIONS,
    COUNTERS,
};

// Frames by what was found; every frame counts once.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, COUNTERS);
} counters SEC(".maps");

BPF_INLINE void
count(uint32_t index)
{
    uint64_t *value = bpf_map_lookup_elem(&counters, &index);
    if (value) {
        __sync_fetch_and_add(value, 1);
    }
}

BPF_INLINE int
is_blocked(uint16_t port, enum match where)
{
    const uint8_t *matches = bpf_map_lookup_elem(&blocked_ports, &port);
    return matches && *matches & where;
}

BPF_INLINE enum counter
classify_udp(const uint8_t *cursor, const uint8_t *end)
{
    const struct udp_header *udp = (const void *)cursor;
    if (cursor + sizeof(*udp) > end) {
        return COUNT_MALFORMED;
    }
    uint16_t length = bpf_ntohs(udp->length);
    if (length != 0 && length < sizeof(*udp)) {
        return COUNT_MALFORMED;
    }
    if (is_blocked(udp->destination, MATCH_DESTINATION)) {
        return COUNT_DROPPED_DESTINATION;
    }
    if (is_blocked(udp->source, MATCH_SOURCE)) {
        return COUNT_DROPPED_SOURCE;
    }
    return COUNT_PASSED;
}

BPF_INLINE enum counter
classify_ipv4(const uint8_t *cursor, const uint8_t *end)
{
    const struct ipv4_header *ip = (const void *)cursor;
    if (cursor + sizeof(*ip) > end) {
        return COUNT_MALFORMED;
    }
    uint32_t header_length = (ip->version_and_length & 0x0f) * 4;
    if (ip->version_and_length >> 4 != 4 || header_length < sizeof(*ip)) {
        return COUNT_MALFORMED;
    }
    if (ip->protocol != IP_UDP) {
        return COUNT_NOT_UDP;
    }
    if (ip->fragment & bpf_htons(IPV4_FRAGMENT_OFFSET)) {
        return COUNT_FRAGMENT;
    }
    return classify_udp(cursor + header_length, end);
}

BPF_INLINE enum counter
classify_ipv6(const uint8_t *cursor, const uint8_t *end)
{
    const struct ipv6_header *ip = (const void *)cursor;
    if (cursor + sizeof(*ip) > end) {
        return COUNT_MALFORMED;
    }
    uint8_t next = ip->next_header;
    cursor += sizeof(*ip);

    for (int i = 0; i < MAX_EXTENSIONS && ipv6_is_extension(next); i++) {
        const struct ipv6_extension *extension = (const void *)cursor;
        if (cursor + sizeof(*extension) > end) {
            return COUNT_MALFORMED;
        }
        if (next == IP_FRAGMENT && extension->fragment & bpf_htons(IPV6_FRAGMENT_OFFSET)) {
            // What follows a later fragment's header is data; only the type of the datagram is known.
            return extension->next_header == IP_UDP ? COUNT_FRAGMENT : COUNT_NOT_UDP;
        }
        cursor += ipv6_extension_size(next, extension);
        next = extension->next_header;
    }
    if (next == IP_UDP) {
        return classify_udp(cursor, end);
    }
    return ipv6_is_extension(next) ? COUNT_TOO_MANY_EXTENSIONS : COUNT_NOT_UDP;
}

BPF_INLINE enum counter
classify(const uint8_t *cursor, const uint8_t *end)
{
    const struct ethernet_header *ethernet = (const void *)cursor;
    if (cursor + sizeof(*ethernet) > end) {
        return COUNT_MALFORMED;
    }
    uint16_t type = ethernet->type;
    cursor += sizeof(*ethernet);

    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        if (type != bpf_htons(ETHERNET_VLAN) && type != bpf_htons(ETHERNET_SERVICE_VLAN)) {
            break;
        }
        const struct vlan_header *vlan = (const void *)cursor;
        if (cursor + sizeof(*vlan) > end) {
            return COUNT_MALFORMED;
        }
        type = vlan->type;
        cursor += sizeof(*vlan);
    }

    switch (type) {
    case bpf_htons(ETHERNET_IPV4):
        return classify_ipv4(cursor, end);
    case bpf_htons(ETHERNET_IPV6):
        return classify_ipv6(cursor, end);
    default:
        return COUNT_NOT_UDP;
    }
}

SEC("xdp")
int
udp_filter(xdp_md_t *context)
{
    enum counter found = classify(context->data, context->data_end);
    count(found);

    if (config.monitor_only) {
        return XDP_PASS;
    }
    switch (found) {
    case COUNT_DROPPED_DESTINATION:
    case COUNT_DROPPED_SOURCE:
        return XDP_DROP;
    case COUNT_FRAGMENT:
        return config.drop_fragments ? XDP_DROP : XDP_PASS;
    case COUNT_MALFORMED:
        return config.drop_malformed ? XDP_DROP : XDP_PASS;
    default:
        return XDP_PASS;
    }
}
