// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Functions that stay functions: 24 calls of two of them.

#include "bpf2sys_xdp.h"

BPF_SUBPROGRAM uint32_t
mix(uint32_t a, uint32_t b, uint32_t c)
{
    a ^= b << 7 | b >> 25;
    a += c;
    return a ^ a >> 15;
}

BPF_SUBPROGRAM uint32_t
round(uint32_t a, uint32_t b)
{
    a = mix(a, b, 0x9e3779b9);
    b = mix(b, a, 0x85ebca6b);
    return a + b;
}

SEC("xdp")
int
local_calls(xdp_md_t *context)
{
    const uint32_t *packet = (const uint32_t *)context->data;
    if ((const uint8_t *)(packet + 8) > context->data_end) {
        return XDP_PASS;
    }
    uint32_t sum = 1;
    for (int i = 0; i < 8; i++) {
        sum = round(sum, packet[i]);
    }
    return sum & 1 ? XDP_PASS : XDP_DROP;
}
