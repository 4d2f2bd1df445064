// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Looks for a line feed in the first 256 bytes of a packet.

#include "bpf2sys_xdp.h"

#define MAX_BYTES 256

SEC("xdp")
int
byte_scan(xdp_md_t *context)
{
    const uint8_t *cursor = context->data;
    const uint8_t *end = context->data_end;
    for (int i = 0; i < MAX_BYTES; i++) {
        if (cursor + 1 > end) {
            break;
        }
        if (*cursor == '\n') {
            return XDP_DROP;
        }
        cursor++;
    }
    return XDP_PASS;
}
