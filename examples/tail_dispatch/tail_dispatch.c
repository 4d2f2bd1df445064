// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Guards the first hop: one stage per protocol, reached by tail calls from a dispatcher.
//
//   dispatch      looks at the Ethernet type and hands the frame to a stage
//   stage_arp     lets each sender have a number of ARP requests per second
//   stage_ipv4    answers ICMP echo requests itself, and drops fragmented ICMP
//   stage_ipv6    drops router advertisements and redirects that do not come from a known router (RA guard)
//
// The table of stages is filled from the object when it is loaded. Replace a slot to change a stage while traffic
// flows, or empty it to switch the stage off: frames without a stage pass, and so do frames with VLAN tags.

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

#define MAX_EXTENSIONS 4     // IPv6 extension headers that stage_ipv6 looks behind
#define REPLY_TIME_TO_LIVE 64

// Fixed when the object is loaded: the compiler may not fold it, and no program may write it.
static const volatile struct {
    uint32_t arp_per_second;  // ARP requests that one sender may make in a second
    uint32_t answer_echo;     // nonzero: answer ICMP echo requests
} config = {
    .arp_per_second = 10,
    .answer_echo = 1,
};

enum stage {
    STAGE_ARP,
    STAGE_IPV4,
    STAGE_IPV6,
    STAGES,
};

enum counter {
    COUNT_NO_STAGE,
    COUNT_MALFORMED,
    COUNT_PASSED,
    COUNT_ARP_LIMITED,
    COUNT_ECHO_ANSWERED,
    COUNT_ECHO_FRAGMENT,
    COUNT_ROGUE_ROUTER,
    COUNTERS,
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, COUNTERS);
} counters SEC(".maps");

struct mac {
    uint16_t words[3];
};

// Ethernet addresses of the routers that may advertise themselves. The value is not read.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct mac);
    __type(value, uint8_t);
    __uint(max_entries, 64);
} routers SEC(".maps");

// ARP requests of one sender in the second that began at `since`.
struct arp_window {
    uint64_t since;    // nanoseconds since boot
    uint64_t requests;
};

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __type(key, struct mac);
    __type(value, struct arp_window);
    __uint(max_entries, 4096);
} arp_senders SEC(".maps");

int stage_arp(xdp_md_t *context);
int stage_ipv4(xdp_md_t *context);
int stage_ipv6(xdp_md_t *context);

struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, STAGES);
    __array(values, int(xdp_md_t *));
} stages SEC(".maps") = {
    .values = {
        [STAGE_ARP] = &stage_arp,
        [STAGE_IPV4] = &stage_ipv4,
        [STAGE_IPV6] = &stage_ipv6,
    },
};

// Counts a frame and gives `action` back. A subprogram: every stage ends in a call of it.
BPF_SUBPROGRAM int
finish(uint32_t index, int action)
{
    uint64_t *value = bpf_map_lookup_elem(&counters, &index);
    if (value) {
        __sync_fetch_and_add(value, 1);
    }
    return action;
}

// The ones' complement checksum after the 16-bit word `from` became `to` (RFC 1624, equation 3).
BPF_SUBPROGRAM uint32_t
update_checksum(uint32_t checksum, uint32_t from, uint32_t to)
{
    uint32_t sum = (~checksum & 0xffff) + (~from & 0xffff) + (to & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

BPF_INLINE struct mac
mac_of(const uint8_t *bytes)
{
    return *(const struct mac *)bytes;
}

// Whether an Ethernet address names one station.
BPF_INLINE int
is_unicast(const uint8_t *bytes)
{
    return (bytes[0] & 1) == 0;
}

SEC("xdp/stage_arp")
int
stage_arp(xdp_md_t *context)
{
    const struct ethernet_header *ethernet = (const void *)context->data;
    const struct arp_header *arp = (const void *)(ethernet + 1);
    if ((const uint8_t *)(arp + 1) > context->data_end) {
        return finish(COUNT_MALFORMED, XDP_DROP);
    }
    if (arp->operation != bpf_htons(1)) {
        return finish(COUNT_PASSED, XDP_PASS);
    }
    struct mac sender = mac_of(ethernet->source);
    uint64_t now = bpf_ktime_get_boot_ns();
    struct arp_window *window = bpf_map_lookup_elem(&arp_senders, &sender);
    if (!window || now - window->since >= 1000000000) {
        struct arp_window fresh = {.since = now, .requests = 1};
        bpf_map_update_elem(&arp_senders, &sender, &fresh, BPF_ANY);
        return finish(COUNT_PASSED, XDP_PASS);
    }
    __sync_fetch_and_add(&window->requests, 1);
    if (window->requests > config.arp_per_second) {
        return finish(COUNT_ARP_LIMITED, XDP_DROP);
    }
    return finish(COUNT_PASSED, XDP_PASS);
}

SEC("xdp/stage_ipv4")
int
stage_ipv4(xdp_md_t *context)
{
    struct ethernet_header *ethernet = (void *)context->data;
    struct ipv4_header *ip = (void *)(ethernet + 1);
    const uint8_t *end = context->data_end;
    if ((const uint8_t *)(ip + 1) > end) {
        return finish(COUNT_MALFORMED, XDP_DROP);
    }
    uint32_t header_length = (ip->version_and_length & 0x0f) * 4;
    if (ip->version_and_length >> 4 != 4 || header_length < sizeof(*ip)) {
        return finish(COUNT_MALFORMED, XDP_DROP);
    }
    if (ip->protocol != IP_ICMP || !config.answer_echo) {
        return finish(COUNT_PASSED, XDP_PASS);
    }
    if (!is_unicast(ethernet->destination) || !is_unicast(ethernet->source)) {
        return finish(COUNT_PASSED, XDP_PASS);  // never answer a broadcast, nor to one
    }
    if (ip->fragment & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)) {
        return finish(COUNT_ECHO_FRAGMENT, XDP_DROP);
    }
    struct icmp_header *icmp = (void *)((uint8_t *)ip + header_length);
    if ((const uint8_t *)(icmp + 1) > end) {
        return finish(COUNT_MALFORMED, XDP_DROP);
    }
    if (icmp->type != ICMP_ECHO_REQUEST || icmp->code != 0) {
        return finish(COUNT_PASSED, XDP_PASS);
    }

    // Swapping the addresses changes neither sum.
    icmp->type = ICMP_ECHO_REPLY;
    icmp->checksum = update_checksum(icmp->checksum, ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY);
    ip->checksum = update_checksum(ip->checksum, ip->time_to_live, REPLY_TIME_TO_LIVE);
    ip->time_to_live = REPLY_TIME_TO_LIVE;
    uint32_t source = ip->source;
    ip->source = ip->destination;
    ip->destination = source;
    struct mac from = mac_of(ethernet->source);
    *(struct mac *)ethernet->source = mac_of(ethernet->destination);
    *(struct mac *)ethernet->destination = from;
    return finish(COUNT_ECHO_ANSWERED, XDP_TX);
}

SEC("xdp/stage_ipv6")
int
stage_ipv6(xdp_md_t *context)
{
    const struct ethernet_header *ethernet = (const void *)context->data;
    const struct ipv6_header *ip = (const void *)(ethernet + 1);
    const uint8_t *end = context->data_end;
    if ((const uint8_t *)(ip + 1) > end) {
        return finish(COUNT_MALFORMED, XDP_DROP);
    }
    // Hosts ignore neighbour discovery that was forwarded (RFC 4861), so whatever was is none of this stage's business.
    if (ip->hop_limit != 255) {
        return finish(COUNT_PASSED, XDP_PASS);
    }

    // An advertisement must not slip through behind extension headers (RFC 7113).
    const uint8_t *cursor = (const uint8_t *)(ip + 1);
    uint8_t next = ip->next_header;
    for (int i = 0; i < MAX_EXTENSIONS && ipv6_is_extension(next); i++) {
        const struct ipv6_extension *extension = (const void *)cursor;
        if (cursor + sizeof(*extension) > end) {
            return finish(COUNT_MALFORMED, XDP_DROP);
        }
        if (next == IP_FRAGMENT && extension->fragment & bpf_htons(IPV6_FRAGMENT_OFFSET)) {
            return finish(COUNT_PASSED, XDP_PASS);  // worth nothing without the first fragment
        }
        cursor += ipv6_extension_size(next, extension);
        next = extension->next_header;
    }
    if (!ipv6_is_extension(next)) {
        if (next != IP_ICMPV6) {
            return finish(COUNT_PASSED, XDP_PASS);
        }
        const struct icmp_header *icmp = (const void *)cursor;
        if (cursor + sizeof(*icmp) > end) {
            return finish(COUNT_MALFORMED, XDP_DROP);
        }
        if (icmp->type != ICMPV6_ROUTER_ADVERTISEMENT && icmp->type != ICMPV6_REDIRECT) {
            return finish(COUNT_PASSED, XDP_PASS);
        }
    }
    struct mac sender = mac_of(ethernet->source);
    if (bpf_map_lookup_elem(&routers, &sender)) {
        return finish(COUNT_PASSED, XDP_PASS);
    }
    return finish(COUNT_ROGUE_ROUTER, XDP_DROP);
}

SEC("xdp")
int
dispatch(xdp_md_t *context)
{
    const struct ethernet_header *ethernet = (const void *)context->data;
    if ((const uint8_t *)(ethernet + 1) > context->data_end) {
        return finish(COUNT_MALFORMED, XDP_DROP);
    }
    switch (ethernet->type) {
    case bpf_htons(ETHERNET_ARP):
        bpf_tail_call(context, &stages, STAGE_ARP);
        break;
    case bpf_htons(ETHERNET_IPV4):
        bpf_tail_call(context, &stages, STAGE_IPV4);
        break;
    case bpf_htons(ETHERNET_IPV6):
        bpf_tail_call(context, &stages, STAGE_IPV6);
        break;
    default:
        break;
    }
    // No stage for this type, or its slot is empty.
    return finish(COUNT_NO_STAGE, XDP_PASS);
}
