// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Round-trip times smoothed as for TCP (RFC 6298), with signed numbers, for as many samples as the packet holds.

#include "bpf2sys_xdp.h"

#define SAMPLES 24

struct estimate {
    int32_t smoothed;  // eighths of a microsecond
    int32_t variation; // quarters
    int32_t timeout;
    int32_t worst;
    int64_t drift;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct estimate);
    __uint(max_entries, 1);
} estimates SEC(".maps");

SEC("xdp")
int
smoothing(xdp_md_t *context)
{
    const uint8_t *cursor = context->data;
    const uint8_t *end = context->data_end;
    uint32_t key = 0;
    struct estimate *estimate = bpf_map_lookup_elem(&estimates, &key);
    if (!estimate) {
        return XDP_PASS;
    }
#pragma clang loop unroll(disable)
    for (int i = 0; i < SAMPLES; i++) {
        if (cursor + 2 > end) {
            break;
        }
        int32_t sample = *(const int16_t *)cursor;
        cursor += 2;
        if (sample < 0) {
            continue;
        }
        int32_t error = sample - (estimate->smoothed >> 3);
        estimate->smoothed += error;
        estimate->drift += error;
        if (error < 0) {
            error = -error;
        }
        if (error > estimate->worst) {
            estimate->worst = error;
        }
        estimate->variation += error - (estimate->variation >> 2);
        int32_t timeout = (estimate->smoothed >> 3) + estimate->variation;
        estimate->timeout = timeout < 200 ? 200 : timeout > 120000 ? 120000 : timeout;
    }
    return estimate->timeout > 1000 ? XDP_DROP : XDP_PASS;
}
