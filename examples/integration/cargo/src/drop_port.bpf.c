// Drops UDP packets to one port, and counts them.
//
// `port` is a map at run time, `drop_po.data`, with one entry: write another port there, as it is in packets, and the
// program heeds it at once.
#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

static volatile uint16_t port = bpf_htons(9); // discard

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, uint64_t);
    __uint(max_entries, 1);
} dropped SEC(".maps");

SEC("xdp")
int
drop_port(xdp_md_t *context)
{
    struct ethernet_header *ethernet = (void *)context->data;
    struct ipv4_header *ip = (void *)(ethernet + 1);
    struct udp_header *udp = (void *)(ip + 1);
    if ((void *)(udp + 1) > (void *)context->data_end) {
        return XDP_PASS;
    }
    // Version 4 and no options: then the UDP header is where it was looked for.
    if (ethernet->type != bpf_htons(ETHERNET_IPV4) || ip->version_and_length != 0x45 ||
        ip->protocol != IP_UDP || udp->destination != port) {
        return XDP_PASS;
    }
    uint32_t key = 0;
    uint64_t *count = bpf_map_lookup_elem(&dropped, &key);
    if (count != NULL) {
        __sync_fetch_and_add(count, 1);
    }
    return XDP_DROP;
}
