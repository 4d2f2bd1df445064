/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What every eBPF program for Windows needs: integer types, section and map macros, map types, general helpers.
 *
 * Include one of these for the hook the program attaches to; each includes this file:
 *
 *   bpf2sys_xdp.h      network frames on receive                 (xdp.sys)
 *   bpf2sys_net.h      bind, connect/accept, and flow events     (netebpfext.sys)
 *   bpf2sys_process.h  process creation and exit                 (ntosebpfext.sys)
 *
 * The numbers are those of eBPF for Windows 1.6. They are not the numbers of Linux: a program compiled with
 * Linux headers calls other helpers and gets other maps.
 */
#pragma once

typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT8_TYPE__ int8_t;
typedef __INT16_TYPE__ int16_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;

#define NULL ((void *)0)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Windows runs little-endian programs only: compile with -target bpf or -target bpfel"
#endif

/* Between network byte order (fields of packets, addresses and ports of contexts) and the program's own. */
#define bpf_htons(x) ((uint16_t)__builtin_bswap16(x))
#define bpf_ntohs(x) ((uint16_t)__builtin_bswap16(x))
#define bpf_htonl(x) ((uint32_t)__builtin_bswap32(x))
#define bpf_ntohl(x) ((uint32_t)__builtin_bswap32(x))

/* Checks that a field lies where the runtime puts it. */
#define BPF2SYS_OFFSET(type, field, offset) \
    _Static_assert(__builtin_offsetof(type, field) == (offset), #type "." #field " lies at " #offset)

/* Checks the size of a structure that the runtime shares with the program. */
#define BPF2SYS_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has " #bytes " bytes")

/*
 * Puts a function or a variable into an ELF section.
 *
 * A program's section decides its program type and attach type: the longest registered prefix of the name wins, so
 * "xdp", "xdp/ipv4" and "xdp_main" are all XDP programs. Maps go to ".maps".
 */
#define SEC(name) __attribute__((section(name), used))

/* A function that stays a subprogram, with a call and a stack frame (512 bytes) of its own. */
#define BPF_SUBPROGRAM static __attribute__((noinline))

/* A function that is always merged into its callers. */
#define BPF_INLINE static inline __attribute__((always_inline))

/*
 * Makes the compiler forget what it knows about a variable. A loop whose counter goes through this keeps its comparison
 * `counter < limit` in every round, from which the verifier learns the counter's range; the compiler would turn it into
 * `counter != limit`, from which it learns nothing.
 */
#define BPF_OPAQUE(variable) __asm__ volatile("" : "+r"(variable))

/*
 * Members of a map definition. The compiler records them as BTF types and a loader reads them from there, so the
 * numbers travel as array lengths and the types as pointer targets; the object needs no memory for them.
 *
 *   struct {
 *       __uint(type, BPF_MAP_TYPE_HASH);
 *       __type(key, uint16_t);
 *       __type(value, struct rule);
 *       __uint(max_entries, 1024);
 *   } rules SEC(".maps");
 *
 * __array declares the slots of a program array or a map of maps, to be filled by an initialiser:
 *
 *       __array(values, int(xdp_md_t *));
 *   } stages SEC(".maps") = {.values = {[0] = &first_stage}};
 */
#define __uint(name, number) int(*name)[number]
#define __type(name, contents) __typeof__(contents) *name
#define __array(name, contents) __typeof__(contents) *name[]

/* Map types. */
enum bpf_map_type {
    BPF_MAP_TYPE_UNSPEC = 0,
    BPF_MAP_TYPE_HASH = 1,
    BPF_MAP_TYPE_ARRAY = 2,
    BPF_MAP_TYPE_PROG_ARRAY = 3,   /* key and value are 4 bytes; only bpf_tail_call reads it */
    BPF_MAP_TYPE_PERCPU_HASH = 4,
    BPF_MAP_TYPE_PERCPU_ARRAY = 5,
    BPF_MAP_TYPE_HASH_OF_MAPS = 6,
    BPF_MAP_TYPE_ARRAY_OF_MAPS = 7,
    BPF_MAP_TYPE_LRU_HASH = 8,
    BPF_MAP_TYPE_LPM_TRIE = 9,     /* the key starts with a uint32_t prefix length in bits */
    BPF_MAP_TYPE_QUEUE = 10,       /* no key */
    BPF_MAP_TYPE_LRU_PERCPU_HASH = 11,
    BPF_MAP_TYPE_STACK = 12,       /* no key */
    BPF_MAP_TYPE_RINGBUF = 13,     /* no key, no value; max_entries is bytes: a power of two, at least 4096 */
    BPF_MAP_TYPE_PERF_EVENT_ARRAY = 14,
};

/* What bpf_map_update_elem does about an entry that exists, or does not. */
enum bpf_map_update_flags {
    BPF_ANY = 0,     /* insert or replace */
    BPF_NOEXIST = 1, /* insert; fails if the key exists */
    BPF_EXIST = 2,   /* replace; fails if the key does not exist */
};

/*
 * General helpers: every program type has them. A helper is a number to the compiler: the declarations below make a
 * call through the constant N the instruction `call N`.
 *
 * Memory arguments must be initialised and inside the stack, a packet or a map value, as the verifier proves.
 * Functions that return int give 0 on success and a negative value on failure, unless it says otherwise.
 */

/* The value stored under *key, or NULL. The pointer stays valid until the program returns. */
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;

/* Stores *value under *key. `flags` is one of enum bpf_map_update_flags. */
static int (*const bpf_map_update_elem)(void *map, const void *key, const void *value, uint64_t flags) = (void *)2;

/* Removes the entry under *key. In an array it zeroes the value. */
static int (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;

/* Continues in the program at `index` of a program array and does not return; returns a negative value if the slot is
 * empty, or after 33 calls in a row. The next program starts with the same context and an empty stack. */
static int (*const bpf_tail_call)(void *context, void *program_array, uint32_t index) = (void *)5;

/* A pseudo-random number. Not for secrets. */
static uint32_t (*const bpf_get_prandom_u32)(void) = (void *)6;

/* Nanoseconds since the machine started, time in sleep included. */
static uint64_t (*const bpf_ktime_get_boot_ns)(void) = (void *)7;

/* The number of the processor the program runs on. */
static uint32_t (*const bpf_get_smp_processor_id)(void) = (void *)8;

/* Nanoseconds since the machine started, without time in sleep. */
static uint64_t (*const bpf_ktime_get_ns)(void) = (void *)9;

/* The change of a ones' complement sum when the bytes at `from` are replaced by those at `to`, added to `seed`. Sizes
 * are multiples of 4; a size of 0 takes a NULL pointer. Returns the sum, not folded, or a negative value. */
static int64_t (*const bpf_csum_diff)(const void *from, uint32_t from_size, const void *to, uint32_t to_size,
                                      uint32_t seed) = (void *)10;

/* Appends a record of `size` bytes to a ring buffer. `flags` is 0. Fails when the reader is too slow and it is full.
 * The runtime does not check the map's type here: it must be BPF_MAP_TYPE_RINGBUF. */
static int (*const bpf_ringbuf_output)(void *ring_buffer, const void *data, uint64_t size, uint64_t flags) = (void *)11;

/* Process id in the upper 32 bits, thread id in the lower ones. */
static uint64_t (*const bpf_get_current_pid_tgid)(void) = (void *)19;

/* Nonzero if the user that caused the event is an administrator; negative if that cannot be told. */
static int (*const bpf_is_current_admin)(const void *context) = (void *)21;
