// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Sorts 16 numbers of the packet on the stack, by insertion, and takes the median.

#include "bpf2sys_xdp.h"

#define NUMBERS 16

SEC("xdp")
int
sort(xdp_md_t *context)
{
    const uint32_t *packet = (const uint32_t *)context->data;
    if ((const uint8_t *)(packet + NUMBERS) > context->data_end) {
        return XDP_PASS;
    }
    uint32_t numbers[NUMBERS];
    for (int i = 0; i < NUMBERS; i++) {
        numbers[i] = packet[i];
    }
#pragma clang loop unroll(disable)
    for (uint64_t i = 1; i < NUMBERS; i++) {
        BPF_OPAQUE(i);
        if (i >= NUMBERS) {
            break;
        }
        uint32_t number = numbers[i];
        uint64_t place = i;
#pragma clang loop unroll(disable)
        for (int step = 0; step < NUMBERS; step++) {
            BPF_OPAQUE(place);
            if (place == 0 || place >= NUMBERS) {
                break;
            }
            uint32_t before = numbers[place - 1];
            if (before <= number) {
                break;
            }
            numbers[place] = before;
            place--;
        }
        BPF_OPAQUE(place);
        if (place < NUMBERS) {
            numbers[place] = number;
        }
    }
    return numbers[NUMBERS / 2] > 0x7fffffff ? XDP_DROP : XDP_PASS;
}
