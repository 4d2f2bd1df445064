// SPDX-License-Identifier: MIT OR Apache-2.0
//
// SipHash-2-4 of 56 bytes, as for the cookies of connections.

#include "bpf2sys_xdp.h"

#define WORDS 7

#define ROTATE(word, bits) ((word) = ((word) << (bits)) | ((word) >> (64 - (bits))))
#define ROUND() \
    do { \
        a += b, c += d, ROTATE(b, 13), ROTATE(d, 16), b ^= a, d ^= c, ROTATE(a, 32); \
        c += b, a += d, ROTATE(b, 17), ROTATE(d, 21), b ^= c, d ^= a, ROTATE(c, 32); \
    } while (0)

SEC("xdp")
int
siphash(xdp_md_t *context)
{
    const uint64_t *words = (const void *)context->data;
    if ((const uint8_t *)(words + WORDS) > context->data_end) {
        return XDP_PASS;
    }
    const uint64_t low = 0x0706050403020100, high = 0x0f0e0d0c0b0a0908;
    uint64_t a = low ^ 0x736f6d6570736575, b = high ^ 0x646f72616e646f6d;
    uint64_t c = low ^ 0x6c7967656e657261, d = high ^ 0x7465646279746573;
#pragma clang loop unroll(disable)
    for (int i = 0; i < WORDS; i++) {
        uint64_t word = words[i];
        d ^= word;
        ROUND();
        ROUND();
        a ^= word;
    }
    uint64_t last = (uint64_t)(8 * WORDS) << 56;
    d ^= last;
    ROUND();
    ROUND();
    a ^= last;
    c ^= 0xff;
    ROUND();
    ROUND();
    ROUND();
    ROUND();
    return (a ^ b ^ c ^ d) & 1 ? XDP_DROP : XDP_PASS;
}
