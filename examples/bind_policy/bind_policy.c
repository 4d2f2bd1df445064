// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Reserves local ports for named programs, limits how many ports a process holds, and reports every decision.
//
// A port in `reserved_ports` may only be bound by the program whose file name the rule gives; names are compared
// without regard to the case of ASCII letters, as Windows compares file names. Ports that no rule names are free to
// all, up to `limits.per_process` at a time for one process.

#include "bpf2sys_net.h"

#define NAME_UNITS 16  // UTF-16 units of a file name that a rule holds, and that are compared

// Set before or while the program runs, through the map that holds this section.
static volatile struct {
    uint32_t per_process;   // ports that one process may hold; 0 means no limit
    uint32_t audit_permits; // nonzero: report what was allowed, too
} limits = {
    .per_process = 64,
    .audit_permits = 1,
};

struct port_key {
    uint16_t port;     // network byte order
    uint8_t protocol;  // IP protocol number
    uint8_t zero;
};

// The program that owns a port: its file name in UTF-16, lower case, padded with zeros. All zeros: nobody may bind.
struct owner {
    uint16_t name[NAME_UNITS];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct port_key);
    __type(value, struct owner);
    __uint(max_entries, 256);
} reserved_ports SEC(".maps");

// Ports that each process holds now. Entries of processes that ended without giving up their ports grow old and go.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __type(key, uint64_t);
    __type(value, uint32_t);
    __uint(max_entries, 4096);
} ports_held SEC(".maps");

enum verdict {
    VERDICT_PERMITTED,
    VERDICT_NOT_OWNER,
    VERDICT_TOO_MANY,
    VERDICT_RELEASED,
};

struct audit_record {
    uint64_t time;        // nanoseconds since boot
    uint64_t process_id;
    uint16_t port;        // network byte order
    uint8_t protocol;
    uint8_t verdict;      // enum verdict
    uint32_t held;        // ports the process holds after this
    uint16_t name[NAME_UNITS]; // file name of the process, cut to fit and padded with zeros
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} audit SEC(".maps");

// Copies the file name, in lower case, and says whether all of it fitted.
BPF_INLINE int
copy_name(const bind_md_t *context, uint16_t *name)
{
    const uint8_t *cursor = context->app_id_start;
    const uint8_t *end = context->app_id_end;

#pragma clang loop unroll(full)
    for (int i = 0; i < NAME_UNITS; i++) {
        uint16_t unit = 0;
        if (cursor + 2 * (i + 1) <= end) {
            unit = *(const uint16_t *)(cursor + 2 * i);
            if (unit >= 'A' && unit <= 'Z') {
                unit += 'a' - 'A';
            }
        }
        name[i] = unit;
    }
    return cursor + 2 * NAME_UNITS + 1 > end;
}

BPF_INLINE int
same_name(const uint16_t *left, const uint16_t *right)
{
    uint16_t difference = 0;
#pragma clang loop unroll(full)
    for (int i = 0; i < NAME_UNITS; i++) {
        difference |= left[i] ^ right[i];
    }
    return difference == 0;
}

BPF_INLINE void
report(struct audit_record *record, enum verdict verdict, uint32_t held)
{
    record->time = bpf_ktime_get_boot_ns();
    record->verdict = verdict;
    record->held = held;
    bpf_ringbuf_output(&audit, record, sizeof(*record), 0);
}

SEC("bind")
int
bind_policy(bind_md_t *context)
{
    if (context->socket_address_length < sizeof(uint16_t) * 2) {
        return BIND_PERMIT_SOFT;  // no family and port: not an IP socket
    }
    struct port_key port = {
        .port = *(const uint16_t *)&context->socket_address[2],
        .protocol = context->protocol,
    };
    struct audit_record record = {
        .process_id = context->process_id,
        .port = port.port,
        .protocol = port.protocol,
    };
    uint64_t process = record.process_id;
    uint32_t *held = bpf_map_lookup_elem(&ports_held, &process);
    uint32_t now = held ? *held : 0;
    int complete = copy_name(context, record.name);

    switch (context->operation) {
    case BIND_OPERATION_POST_BIND:
        if (held) {
            __sync_fetch_and_add(held, 1);
        } else {
            uint32_t first = 1;
            bpf_map_update_elem(&ports_held, &process, &first, BPF_ANY);
        }
        if (limits.audit_permits) {
            report(&record, VERDICT_PERMITTED, now + 1);
        }
        return BIND_PERMIT_SOFT;

    case BIND_OPERATION_UNBIND:
        if (held && now > 1) {
            __sync_fetch_and_add(held, -1);
        } else {
            bpf_map_delete_elem(&ports_held, &process);
        }
        if (limits.audit_permits) {
            report(&record, VERDICT_RELEASED, now > 1 ? now - 1 : 0);
        }
        return BIND_PERMIT_SOFT;

    default:
        break;
    }

    const struct owner *owner = bpf_map_lookup_elem(&reserved_ports, &port);
    if (owner && !(complete && record.name[0] && same_name(owner->name, record.name))) {
        report(&record, VERDICT_NOT_OWNER, now);
        return BIND_DENY;
    }
    uint32_t limit = limits.per_process;
    if (limit && now >= limit) {
        report(&record, VERDICT_TOO_MANY, now);
        return BIND_DENY;
    }
    return BIND_PERMIT_SOFT;
}
