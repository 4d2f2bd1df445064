/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Processes that start and end, and events of the network stack.
 * Facts from microsoft/ntosebpfext 0.7.0.
 * A process is about to start, or has ended.
 * Program type process, {22ea7b37-1043-4d0d-b60d-cafa1c7b638e}. Sections and attach types:
 * - "process" EBPF_ATTACH_TYPE_PROCESS {66e20687-9805-4458-a0db-38e220d31685}
 * Written by `bpf2sys platform header`.
 */
#ifndef BPF2SYS_PROCESS_H
#define BPF2SYS_PROCESS_H

#include "bpf2sys.h"

enum process_operation {
    PROCESS_OPERATION_CREATE = 0, /* the verdict counts */
    PROCESS_OPERATION_DELETE = 1, /* the verdict is ignored */
};

typedef struct {
    uint8_t *command_start;       /* command line: UTF-16, without terminator */
    uint8_t *command_end;         /* one past its last byte */
    uint64_t process_id;
    uint64_t parent_process_id;
    uint64_t creating_process_id; /* who called CreateProcess; the parent may be another one */
    uint64_t creating_thread_id;
    uint64_t creation_time;       /* FILETIME: 100 ns since 1601 */
    uint64_t exit_time;           /* FILETIME; PROCESS_OPERATION_DELETE only */
    uint32_t process_exit_code;   /* PROCESS_OPERATION_DELETE only */
    uint8_t operation;            /* enum process_operation */
    uint32_t token_sid_size;      /* used in token_sid; bytes; PROCESS_OPERATION_CREATE only */
    uint8_t token_sid[68];        /* SID of the user the process runs as; PROCESS_OPERATION_CREATE only */
} process_md_t;

BPF2SYS_OFFSET(process_md_t, command_start, 0);
BPF2SYS_OFFSET(process_md_t, command_end, 8);
BPF2SYS_OFFSET(process_md_t, process_id, 16);
BPF2SYS_OFFSET(process_md_t, parent_process_id, 24);
BPF2SYS_OFFSET(process_md_t, creating_process_id, 32);
BPF2SYS_OFFSET(process_md_t, creating_thread_id, 40);
BPF2SYS_OFFSET(process_md_t, creation_time, 48);
BPF2SYS_OFFSET(process_md_t, exit_time, 56);
BPF2SYS_OFFSET(process_md_t, process_exit_code, 64);
BPF2SYS_OFFSET(process_md_t, operation, 68);
BPF2SYS_OFFSET(process_md_t, token_sid_size, 72);
BPF2SYS_OFFSET(process_md_t, token_sid, 76);
BPF2SYS_SIZE(process_md_t, 144);

/* Return values are NTSTATUS codes: a failure denies the creation. */

/* let it start */
#ifndef STATUS_SUCCESS
#define STATUS_SUCCESS 0
#endif
/* deny the start, as any failure does */
#ifndef STATUS_ACCESS_DENIED
#define STATUS_ACCESS_DENIED ((int)0xC0000022)
#endif

/*
 * Copies the path of the image, UTF-16 without terminator, to `path`. Returns the number of bytes copied, or a
 * negative value.
 */
BPF_HELPER(0x10000, int, bpf_process_get_image_path, (process_md_t *context, uint8_t *path, uint32_t size));

/*
 * Copies the name of the user the process runs as to `name`. Returns the number of bytes copied, or a negative value.
 */
BPF_HELPER(0x10001, int, bpf_process_get_account_name, (process_md_t *context, uint8_t *name, uint32_t size));

/*
 * Copies the domain of the user the process runs as to `domain`. Returns the number of bytes copied, or a negative
 * value.
 */
BPF_HELPER(0x10002, int, bpf_process_get_account_domain, (process_md_t *context, uint8_t *domain, uint32_t size));

#endif /* BPF2SYS_PROCESS_H */
