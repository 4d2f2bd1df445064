// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The internet checksum (RFC 1071) of a packet of up to 256 bytes.

#include "bpf2sys_xdp.h"

#define MAX_WORDS 128

SEC("xdp")
int
checksum(xdp_md_t *context)
{
    const uint8_t *cursor = context->data;
    const uint8_t *end = context->data_end;
    uint32_t sum = 0;
    for (int i = 0; i < MAX_WORDS; i++) {
        if (cursor + 2 > end) {
            break;
        }
        sum += *(const uint16_t *)cursor;
        cursor += 2;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum == 0 ? XDP_PASS : XDP_DROP;
}
