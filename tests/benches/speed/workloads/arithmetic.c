// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Numbers only: 400 steps of mixing, each of which needs the one before.

#include "bpf2sys_xdp.h"

#define STEPS 400

SEC("xdp")
int
arithmetic(xdp_md_t *context)
{
    uint64_t a = 88172645463325252 + context->ingress_ifindex;
    uint64_t b = 0x9e3779b97f4a7c15;
    for (int i = 0; i < STEPS; i++) {
        a ^= a << 13;
        a ^= a >> 7;
        a ^= a << 17;
        b = b * 6364136223846793005 + a;
        b ^= b >> 29;
    }
    return a + b & 1 ? XDP_PASS : XDP_DROP;
}
