// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A machine of five states that reads a line byte by byte: method, path, version, end of line, or something else.

#include "bpf2sys_xdp.h"

#define MAX_BYTES 128

enum state {
    STATE_METHOD,
    STATE_PATH,
    STATE_VERSION,
    STATE_RETURN,
    STATE_BAD,
};

SEC("xdp")
int
state_machine(xdp_md_t *context)
{
    const uint8_t *cursor = context->data;
    const uint8_t *end = context->data_end;
    enum state state = STATE_METHOD;
    uint32_t path = 0;
    for (int i = 0; i < MAX_BYTES; i++) {
        if (cursor + 1 > end) {
            break;
        }
        uint8_t byte = *cursor++;
        switch (state) {
        case STATE_METHOD:
            if (byte == ' ') {
                state = STATE_PATH;
            } else if (byte < 'A' || byte > 'Z') {
                state = STATE_BAD;
            }
            break;
        case STATE_PATH:
            if (byte == ' ') {
                state = STATE_VERSION;
            } else if (byte < '!' || byte > '~') {
                state = STATE_BAD;
            } else {
                path++;
            }
            break;
        case STATE_VERSION:
            if (byte == '\r') {
                state = STATE_RETURN;
            } else if (byte < '!' || byte > '~') {
                state = STATE_BAD;
            }
            break;
        case STATE_RETURN:
            return byte == '\n' && path < 100 ? XDP_PASS : XDP_DROP;
        default:
            return XDP_DROP;
        }
    }
    return XDP_DROP;
}
