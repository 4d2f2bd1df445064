// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Runs a filter of classic BPF's kind, which is in a map, over a packet.

#include "bpf2sys_xdp.h"

#define STEPS 32
#define PACKET 64

enum operation { RETURN, LOAD_BYTE, LOAD_HALF, LOAD_WORD, AND, RIGHT, ADD, EQUAL, GREATER, SET, TO_X, FROM_X };

struct operation_at {
    uint8_t operation;
    uint8_t yes;
    uint8_t no;
    uint8_t unused;
    uint32_t value;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct operation_at);
    __uint(max_entries, STEPS);
} filter SEC(".maps");

SEC("xdp")
int
packet_vm(xdp_md_t *context)
{
    const uint8_t *packet = context->data;
    if (packet + PACKET > context->data_end) {
        return XDP_PASS;
    }
    uint32_t a = 0, x = 0, place = 0;
#pragma clang loop unroll(disable)
    for (int step = 0; step < STEPS; step++) {
        uint32_t key = place;
        const struct operation_at *at = bpf_map_lookup_elem(&filter, &key);
        if (!at) {
            return XDP_PASS;
        }
        uint32_t value = at->value;
        uint64_t offset = value & (PACKET - 1);
        BPF_OPAQUE(offset);
        if (offset > PACKET - 4) {
            return XDP_PASS;
        }
        place++;
        switch (at->operation) {
        case RETURN:
            return value ? XDP_DROP : XDP_PASS;
        case LOAD_BYTE:
            a = packet[offset];
            break;
        case LOAD_HALF:
            a = bpf_ntohs(*(const uint16_t *)(packet + offset));
            break;
        case LOAD_WORD:
            a = bpf_ntohl(*(const uint32_t *)(packet + offset));
            break;
        case AND:
            a &= value;
            break;
        case RIGHT:
            a >>= value & 31;
            break;
        case ADD:
            a += x;
            break;
        case EQUAL:
            place += a == value ? at->yes : at->no;
            break;
        case GREATER:
            place += a > value ? at->yes : at->no;
            break;
        case SET:
            a = value;
            break;
        case TO_X:
            x = a;
            break;
        case FROM_X:
            a = x;
            break;
        default:
            return XDP_PASS;
        }
    }
    return XDP_PASS;
}
