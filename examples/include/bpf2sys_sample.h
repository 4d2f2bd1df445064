/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The extension that eBPF for Windows tests itself with.
 * Facts from microsoft/ebpf-for-windows 1.6.0.
 * A test asks the extension to run its programs.
 * Program type sample, {f788ef4a-207d-4dc3-85cf-0f2ea107213c}. Sections and attach types:
 * - "sample_ext" EBPF_ATTACH_TYPE_SAMPLE {f788ef4b-207d-4dc3-85cf-0f2ea107213c}
 * Written by `bpf2sys platform header`.
 */
#ifndef BPF2SYS_SAMPLE_H
#define BPF2SYS_SAMPLE_H

#include "bpf2sys.h"

typedef struct {
    uint8_t *data_start;    /* first byte */
    uint8_t *data_end;      /* one past the last byte */
    uint32_t uint32_data;
    uint16_t uint16_data;
    uint32_t helper_data_1; /* when written: sample_ebpf_extension_helper_implicit_1 reads it */
    uint32_t helper_data_2; /* when written: sample_ebpf_extension_helper_implicit_2 reads it */
} sample_program_context_t;

BPF2SYS_OFFSET(sample_program_context_t, data_start, 0);
BPF2SYS_OFFSET(sample_program_context_t, data_end, 8);
BPF2SYS_OFFSET(sample_program_context_t, uint32_data, 16);
BPF2SYS_OFFSET(sample_program_context_t, uint16_data, 20);
BPF2SYS_OFFSET(sample_program_context_t, helper_data_1, 24);
BPF2SYS_OFFSET(sample_program_context_t, helper_data_2, 28);
BPF2SYS_SIZE(sample_program_context_t, 32);

/* Returns 0. */
BPF_HELPER(0x10000, int64_t, sample_ebpf_extension_helper_function1, (sample_program_context_t *context));

/* The offset at which the bytes at `find` stand in `data`. */
BPF_HELPER(0x10001, int64_t, sample_ebpf_extension_find,
           (const void *data, uint64_t size, const void *find, uint64_t find_size));

/*
 * Writes the replacement over the bytes at `position` of `data`. Returns 0, or -1.
 * Writes what argument 1 points to; the verifier wants it initialised all the same.
 */
BPF_HELPER(0x10002, int64_t, sample_ebpf_extension_replace,
           (void *data, uint64_t size, int64_t position, const void *replacement, uint64_t replacement_size));

/* Returns a value made of helper_data_1 of the context, which it gets without being passed it. */
BPF_HELPER(0x10003, int64_t, sample_ebpf_extension_helper_implicit_1, (void));

/*
 * Returns a value made of helper_data_2 of the context, which it gets without being passed it, and of `number`.
 * Its prototype has no arguments: the verifier does not look at `number`.
 */
BPF_HELPER(0x10004, int64_t, sample_ebpf_extension_helper_implicit_2, (uint32_t number));

/* The value stored under *key, or NULL: bpf_map_lookup_elem for the extension's own map type only. */
BPF_HELPER(0x10005, void *, sample_ext_helper_map_lookup_element, (void *map, const void *key));

/* Copies the value under *key, of a map of the extension's own type, to a buffer. Returns 0, or -1. */
BPF_HELPER(0x10006, int64_t, sample_ext_helper_map_get_value,
           (void *map, const void *key, void *value, uint64_t size));

/* -- Functions of other Windows modules --------------------------------------------------------------------------- */

#ifndef __cplusplus
/* Writes the value that a test put under `key`. */
extern int sample_ebpf_extension_btf_lookup(uint64_t key, void *value, uint32_t size)
    BPF_FUNCTION_OF("8f6c1f83-ce4c-4b58-8b91-654a29e23b7c");
#endif

#endif /* BPF2SYS_SAMPLE_H */
