/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Programs in sections "process*": a process is about to start, or has ended. */
#pragma once

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
    uint32_t token_sid_size;      /* bytes used in token_sid; PROCESS_OPERATION_CREATE only */
    uint8_t token_sid[68];        /* SID of the user the process runs as */
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
#define STATUS_SUCCESS 0
#define STATUS_ACCESS_DENIED ((int)0xC0000022)

/* Copies the path of the image, UTF-16 without terminator, to `path`. Returns the number of bytes copied, or a negative
 * value. */
static int (*const bpf_process_get_image_path)(process_md_t *context, uint8_t *path, uint32_t size) = (void *)0x10000;
