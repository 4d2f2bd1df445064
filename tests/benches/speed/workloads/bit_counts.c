// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Bits of a packet: set ones, the place of the highest, parity, and the words the other way round; numbers of 32 bits.

#include "bpf2sys_xdp.h"

#define WORDS 12

BPF_INLINE uint32_t
ones(uint32_t word)
{
    word -= word >> 1 & 0x55555555;
    word = (word & 0x33333333) + (word >> 2 & 0x33333333);
    return ((word + (word >> 4)) & 0x0f0f0f0f) * 0x01010101 >> 24;
}

BPF_INLINE uint32_t
reversed(uint32_t word)
{
    word = (word >> 1 & 0x55555555) | (word & 0x55555555) << 1;
    word = (word >> 2 & 0x33333333) | (word & 0x33333333) << 2;
    word = (word >> 4 & 0x0f0f0f0f) | (word & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(word);
}

BPF_INLINE uint32_t
highest(uint32_t word)
{
    uint32_t place = 0;
    if (word >= 1u << 16) {
        word >>= 16;
        place += 16;
    }
    if (word >= 1u << 8) {
        word >>= 8;
        place += 8;
    }
    if (word >= 1u << 4) {
        word >>= 4;
        place += 4;
    }
    if (word >= 1u << 2) {
        word >>= 2;
        place += 2;
    }
    return place + (word >> 1 & 1);
}

SEC("xdp")
int
bit_counts(xdp_md_t *context)
{
    const uint32_t *words = (const void *)context->data;
    if ((const uint8_t *)(words + WORDS) > context->data_end) {
        return XDP_PASS;
    }
    uint32_t set = 0, places = 0, mixed = 0;
#pragma clang loop unroll(disable)
    for (int i = 0; i < WORDS; i++) {
        uint32_t word = words[i];
        set += ones(word);
        places += highest(word);
        mixed = mixed * 31 + reversed(word ^ mixed);
    }
    return (set + places + mixed) & 1 ? XDP_DROP : XDP_PASS;
}
