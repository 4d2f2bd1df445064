// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Whether the path of a process is below one of four folders, whatever the case of its letters.

#include "bpf2sys_process.h"

#define PATH_UNITS 64
#define FOLDER_UNITS 24
#define FOLDERS 4

struct folder {
    uint32_t length;
    uint16_t units[FOLDER_UNITS];
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct folder);
    __uint(max_entries, FOLDERS);
} folders SEC(".maps");

SEC("process")
int
path_match(process_md_t *context)
{
    uint16_t path[PATH_UNITS] = {0};
    int bytes = bpf_process_get_image_path(context, (uint8_t *)path, sizeof(path));
    if (bytes <= 0) {
        return STATUS_SUCCESS;
    }
    for (uint32_t index = 0; index < FOLDERS; index++) {
        uint32_t key = index;
        const struct folder *folder = bpf_map_lookup_elem(&folders, &key);
        if (!folder) {
            break;
        }
        uint32_t length = folder->length;
        int same = 1;
        for (uint64_t i = 0; i < FOLDER_UNITS; i++) {
            BPF_OPAQUE(i);
            if (i >= FOLDER_UNITS || i >= length) {
                break;
            }
            uint16_t unit = path[i];
            if (unit >= 'A' && unit <= 'Z') {
                unit += 'a' - 'A';
            }
            if (unit != folder->units[i]) {
                same = 0;
                break;
            }
        }
        if (same && length > 0) {
            return STATUS_ACCESS_DENIED;
        }
    }
    return STATUS_SUCCESS;
}
