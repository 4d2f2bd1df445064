// Drops UDP packets to the blocked port.
#include "policy.h"

#include "bpf2sys_packet.h"
#include "bpf2sys_xdp.h"

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
    if (ethernet->type != bpf_htons(ETHERNET_IPV4) || ip->version_and_length != 0x45 || ip->protocol != IP_UDP) {
        return XDP_PASS;
    }
    return udp->destination == bpf_htons(BLOCKED_PORT) ? XDP_DROP : XDP_PASS;
}
