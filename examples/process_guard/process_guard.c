// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Denies the start of programs by the file name of their image, and of command lines by an argument they contain.
//
// Names and arguments are listed by hash, so that a comparison of any length is one look-up in a map; README.md says
// how a list is made. The image's path comes from the kernel and cannot be forged by the caller; the command line can
// be anything, so what is denied by argument is what a program would act upon.

#include "bpf2sys_process.h"

#define PATH_UNITS 200    // UTF-16 units of the image's path that are read
#define COMMAND_UNITS 128 // UTF-16 units of the command line that are read

// Set before or while the program runs, through the map that holds this section.
static volatile struct {
    uint64_t hash_seed;     // where hashes start; one of your own keeps others from preparing names that collide
    uint32_t monitor_only;  // nonzero: report what would be denied, and let it start
    uint32_t exempt_parent; // process id whose children are never denied, e.g. an installer; 0: none
} config = {
    .hash_seed = 0x9e3779b97f4a7c15,
};

// What a list says about a name.
struct entry {
    uint32_t denies; // nonzero: deny
    uint32_t hits;   // how often it was met
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint64_t);
    __type(value, struct entry);
    __uint(max_entries, 4096);
} denied_images SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint64_t);
    __type(value, struct entry);
    __uint(max_entries, 4096);
} denied_arguments SEC(".maps");

enum reason {
    REASON_IMAGE = 1,
    REASON_ARGUMENT = 2,
    REASON_ENDED = 3,     // a process that was reported at its start has ended
};

struct guard_record {
    uint64_t process_id;
    uint64_t parent_process_id;
    uint64_t hash;      // of the name or argument that matched
    uint64_t time;      // FILETIME of the start or end
    uint32_t reason;    // enum reason
    uint32_t exit_code; // REASON_ENDED only
};

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, 64 * 1024);
} reports SEC(".maps");

// Processes that started though a list named them, until they end.
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __type(key, uint64_t);
    __type(value, uint64_t);
    __uint(max_entries, 1024);
} watched SEC(".maps");

// One step of the hash: over UTF-16 units, with ASCII letters in lower case. The factor fits an immediate operand: the
// verifier proves no loop finite while a register holds a constant of more than 32 bits.
BPF_INLINE uint64_t
hash_unit(uint64_t hash, uint16_t unit)
{
    if (unit >= 'A' && unit <= 'Z') {
        unit += 'a' - 'A';
    }
    return (hash ^ unit) * 0x01000193;
}

// The hash of the image's file name: what follows the last backslash of its path. 0 if the path cannot be read.
BPF_INLINE uint64_t
image_hash(process_md_t *context, uint64_t seed)
{
    uint16_t path[PATH_UNITS] = {0}; // the helper writes as much of it as the path is long
    int bytes = bpf_process_get_image_path(context, (uint8_t *)path, sizeof(path));
    if (bytes <= 0) {
        return 0;
    }
    uint32_t units = (uint32_t)bytes / 2;
    uint64_t hash = seed;
    for (uint64_t i = 0; i < PATH_UNITS; i++) {
        BPF_OPAQUE(i);
        if (i >= PATH_UNITS || i >= units) {
            break;
        }
        uint16_t unit = path[i];
        hash = unit == '\\' ? seed : hash_unit(hash, unit);
    }
    return hash;
}

BPF_INLINE int
is_denied(void *list, uint64_t hash)
{
    struct entry *entry = bpf_map_lookup_elem(list, &hash);
    if (!entry || !entry->denies) {
        return 0;
    }
    __sync_fetch_and_add(&entry->hits, 1);
    return 1;
}

// The hash of the first argument of the command line that is denied, or 0. Arguments end at spaces and quotes.
BPF_INLINE uint64_t
denied_argument(const process_md_t *context, uint64_t seed)
{
    const uint8_t *start = context->command_start;
    const uint8_t *end = context->command_end;
    uint64_t hash = seed;
    int length = 0;

    for (uint64_t i = 0; i <= COMMAND_UNITS; i++) {
        BPF_OPAQUE(i);
        if (i > COMMAND_UNITS) {
            break;
        }
        uint16_t unit = ' ';
        const uint8_t *cursor = start + 2 * i;
        if (i < COMMAND_UNITS && cursor + 2 <= end) {
            unit = *(const uint16_t *)cursor;
        }
        if (unit != ' ' && unit != '\t' && unit != '"') {
            hash = hash_unit(hash, unit);
            length++;
            continue;
        }
        if (length > 0 && is_denied(&denied_arguments, hash)) {
            return hash;
        }
        hash = seed;
        length = 0;
    }
    return 0;
}

BPF_INLINE void
report_end(const process_md_t *context)
{
    uint64_t process_id = context->process_id;
    uint64_t *hash = bpf_map_lookup_elem(&watched, &process_id);
    if (!hash) {
        return;
    }
    struct guard_record record = {
        .process_id = process_id,
        .parent_process_id = context->parent_process_id,
        .hash = *hash,
        .time = context->exit_time,
        .reason = REASON_ENDED,
        .exit_code = context->process_exit_code,
    };
    bpf_ringbuf_output(&reports, &record, sizeof(record), 0);
    bpf_map_delete_elem(&watched, &process_id);
}

SEC("process")
int
process_guard(process_md_t *context)
{
    if (context->operation != PROCESS_OPERATION_CREATE) {
        report_end(context);
        return STATUS_SUCCESS;
    }
    struct guard_record record = {
        .process_id = context->process_id,
        .parent_process_id = context->parent_process_id,
        .time = context->creation_time,
    };
    uint64_t seed = config.hash_seed;
    uint64_t hash = image_hash(context, seed);
    if (hash && is_denied(&denied_images, hash)) {
        record.reason = REASON_IMAGE;
    } else {
        hash = denied_argument(context, seed);
        if (!hash) {
            return STATUS_SUCCESS;
        }
        record.reason = REASON_ARGUMENT;
    }
    record.hash = hash;
    bpf_ringbuf_output(&reports, &record, sizeof(record), 0);

    uint32_t exempt = config.exempt_parent;
    if (config.monitor_only || (exempt && record.parent_process_id == exempt)) {
        uint64_t process_id = record.process_id;
        bpf_map_update_elem(&watched, &process_id, &hash, BPF_ANY);
        return STATUS_SUCCESS;
    }
    return STATUS_ACCESS_DENIED;
}
