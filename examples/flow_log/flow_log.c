// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Reports each TCP connection when it starts and when it ends, with its lifetime, and keeps a running mean of lifetimes.

#include "bpf2sys_net.h"
#include "bpf2sys_packet.h"

// Set before or while the program runs, through the map that holds this section.
static volatile struct {
    int16_t smoothing;      // a new lifetime moves the mean by 1/smoothing of the difference; at most 0: no mean
    uint16_t minimum_ms;    // shorter connections are counted, but not reported
} config = {
    .smoothing = 8,
    .minimum_ms = 0,
};

enum direction {
    DIRECTION_OUTGOING,
    DIRECTION_INCOMING,
};

// A connection that is open.
struct flow {
    uint64_t started;      // nanoseconds since boot
    uint32_t direction;    // enum direction
    uint32_t reserved;
};

// Keyed by the flow id that the runtime gives. A connection whose end is never seen grows old and goes.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __type(key, uint64_t);
    __type(value, struct flow);
    __uint(max_entries, 8192);
} flows SEC(".maps");

enum event {
    EVENT_OPENED,
    EVENT_CLOSED,
    EVENT_CLOSED_UNSEEN,  // the connection was open before the program was attached
    EVENTS,
};

struct flow_record {
    uint64_t time;           // nanoseconds since boot
    uint64_t flow_id;
    uint64_t process_id;
    uint64_t lifetime_us;    // EVENT_CLOSED only
    uint32_t local[4];       // network byte order; IPv4 in the first word, the others 0
    uint32_t remote[4];
    uint16_t local_port;     // host byte order
    uint16_t remote_port;
    uint8_t event;           // enum event
    uint8_t direction;       // enum direction
    uint8_t family;          // AF_INET or AF_INET6
    uint8_t protocol;        // IP protocol number
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct totals {
    uint64_t seen[EVENTS];   // connections by event
    uint64_t lost;           // records that the ring buffer had no room for
    int64_t mean_us[2];      // running mean lifetime by direction
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct totals);
    __uint(max_entries, 1);
} totals SEC(".maps");

// Two processors may do this at the same time; then one of the two lifetimes is left out of the mean.
BPF_INLINE void
add_to_mean(int64_t *mean, int64_t lifetime_us)
{
    int64_t smoothing = config.smoothing;
    if (smoothing > 0) {
        *mean += (lifetime_us - *mean) / smoothing;
    }
}

BPF_INLINE void
copy_addresses(const bpf_sock_ops_t *context, struct flow_record *record)
{
    record->local[0] = context->local_ip6[0];
    record->remote[0] = context->remote_ip6[0];
    if (context->family == AF_INET6) {
        for (int i = 1; i < 4; i++) {
            record->local[i] = context->local_ip6[i];
            record->remote[i] = context->remote_ip6[i];
        }
    }
}

SEC("sockops")
int
flow_log(bpf_sock_ops_t *context)
{
    uint32_t zero = 0;
    struct totals *total = bpf_map_lookup_elem(&totals, &zero);
    if (!total || context->protocol != IP_TCP) {
        return 0;
    }
    struct flow_record record = {
        .time = bpf_ktime_get_boot_ns(),
        .flow_id = bpf_sock_ops_get_flow_id(context),
        .process_id = bpf_get_current_pid_tgid() >> 32,
        .local_port = bpf_ntohs(context->local_port),
        .remote_port = bpf_ntohs(context->remote_port),
        .family = context->family,
        .protocol = context->protocol,
    };
    uint64_t flow_id = record.flow_id;
    copy_addresses(context, &record);

    if (context->op == BPF_SOCK_OPS_CONNECTION_DELETED_CB) {
        struct flow *flow = bpf_map_lookup_elem(&flows, &flow_id);
        if (!flow) {
            record.event = EVENT_CLOSED_UNSEEN;
            __sync_fetch_and_add(&total->seen[EVENT_CLOSED_UNSEEN], 1);
        } else {
            record.event = EVENT_CLOSED;
            record.direction = flow->direction;
            record.lifetime_us = (record.time - flow->started) / 1000;
            __sync_fetch_and_add(&total->seen[EVENT_CLOSED], 1);
            add_to_mean(&total->mean_us[flow->direction == DIRECTION_INCOMING], record.lifetime_us);
            bpf_map_delete_elem(&flows, &flow_id);
            if (record.lifetime_us < config.minimum_ms * 1000u) {
                return 0;
            }
        }
    } else {
        struct flow flow = {
            .started = record.time,
            .direction =
                context->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB ? DIRECTION_INCOMING : DIRECTION_OUTGOING,
        };
        record.event = EVENT_OPENED;
        record.direction = flow.direction;
        __sync_fetch_and_add(&total->seen[EVENT_OPENED], 1);
        bpf_map_update_elem(&flows, &flow_id, &flow, BPF_ANY);
        if (config.minimum_ms) {
            return 0;
        }
    }
    if (bpf_ringbuf_output(&events, &record, sizeof(record), 0) != 0) {
        __sync_fetch_and_add(&total->lost, 1);
    }
    return 0;
}
