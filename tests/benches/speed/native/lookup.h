/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * bpf_map_lookup_elem for native code: in place for an array, as code from bytecode has it, else the helper.
 *
 * The loader writes to the variable of a map: its address for helpers, then that of its values.
 */

struct native_map {
    int (*type)[BPF_MAP_TYPE_HASH];
    int (*max_entries)[1];
    int *value;
};

static inline __attribute__((always_inline)) void *
native_lookup(void *map, const void *key, uint64_t type, uint64_t max_entries, uint64_t value_size)
{
    if (type == BPF_MAP_TYPE_ARRAY) {
        uint64_t index = *(const uint32_t *)key;
        return index < max_entries ? ((uint8_t **)map)[1] + index * value_size : NULL;
    }
    return bpf_map_lookup_elem(map, key);
}

/* A map that is passed on as `void *` is of any kind. */
#define NATIVE_MAP(map) _Generic((map), void *: (struct native_map *)0, default: (map))
#define bpf_map_lookup_elem(map, key) \
    native_lookup(map, key, sizeof(*NATIVE_MAP(map)->type) / sizeof(int), \
                  sizeof(*NATIVE_MAP(map)->max_entries) / sizeof(int), sizeof(*NATIVE_MAP(map)->value))

