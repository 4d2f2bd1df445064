/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What every eBPF program for Windows needs: integer types, section and map macros, map types, general helpers.
 *
 * Include one of these for the hook the program attaches to; each includes this file:
 *
 *   bpf2sys_net.h       bind, sock_addr, sockops (netebpfext.sys)
 *   bpf2sys_xdp.h       xdp (xdp.sys)
 *   bpf2sys_process.h   process (ntosebpfext.sys)
 *   bpf2sys_netevent.h  netevent_monitor (neteventebpfext.sys)
 *   bpf2sys_sample.h    sample (sample_ebpf_ext.sys)
 *
 * The numbers are those of eBPF for Windows. They are not the numbers of Linux: a program compiled with Linux headers
 * calls other helpers and gets other maps.
 *
 * Compile with clang -target bpf -O2 -g: calls of helpers need -O2, maps need -g. Written by `bpf2sys platform header`.
 */
#ifndef BPF2SYS_H
#define BPF2SYS_H

typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT8_TYPE__ int8_t;
typedef __INT16_TYPE__ int16_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Windows runs little-endian programs only: compile with -target bpf or -target bpfel"
#endif

#ifdef __cplusplus
#define BPF2SYS_ASSERT(holds, text) static_assert(holds, text)
#else
#define BPF2SYS_ASSERT(holds, text) _Static_assert(holds, text)
#endif

#ifndef NULL
#ifdef __cplusplus
#define NULL __null
#else
#define NULL ((void *)0)
#endif
#endif

/* Between network byte order (fields of packets, addresses and ports of contexts) and the program's own. */
#define bpf_htons(x) ((uint16_t)__builtin_bswap16(x))
#define bpf_ntohs(x) ((uint16_t)__builtin_bswap16(x))
#define bpf_htonl(x) ((uint32_t)__builtin_bswap32(x))
#define bpf_ntohl(x) ((uint32_t)__builtin_bswap32(x))

/* Checks that a field lies where the runtime puts it. */
#define BPF2SYS_OFFSET(type, field, offset) \
    BPF2SYS_ASSERT(__builtin_offsetof(type, field) == (offset), #type "." #field " lies at " #offset)

/* Checks the size of a structure that the runtime shares with the program. */
#define BPF2SYS_SIZE(type, bytes) BPF2SYS_ASSERT(sizeof(type) == (bytes), #type " has " #bytes " bytes")

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

/*
 * A helper is a number to the compiler: with this declaration a call becomes the instruction `call number`. A program
 * can declare further ones.
 */
#define BPF_HELPER(number, result, name, parameters) \
    static result(*const name) parameters __attribute__((unused)) = (result(*) parameters)(number)

/* Says of which Windows module a function is, by the module's GUID. Functions are found by that and their names. */
#define BPF_FUNCTION_OF(guid) __attribute__((section(".ksyms"), btf_decl_tag("module_id:{" guid "}")))

/* Map types. */
enum bpf_map_type {
    BPF_MAP_TYPE_UNSPEC = 0,            /* no map */
    BPF_MAP_TYPE_HASH = 1,              /* any key to a value */
    BPF_MAP_TYPE_ARRAY = 2,             /* index to a value; all values exist, as zeros at first */
    BPF_MAP_TYPE_PROG_ARRAY = 3,        /* index to a program, for bpf_tail_call; key and value have 4 bytes */
    BPF_MAP_TYPE_PERCPU_HASH = 4,       /* as HASH, with one value per processor */
    BPF_MAP_TYPE_PERCPU_ARRAY = 5,      /* as ARRAY, with one value per processor */
    BPF_MAP_TYPE_HASH_OF_MAPS = 6,      /* any key to a map; the value is 4 bytes */
    BPF_MAP_TYPE_ARRAY_OF_MAPS = 7,     /* index to a map; the value is 4 bytes */
    BPF_MAP_TYPE_LRU_HASH = 8,          /* as HASH; when it is full, the entry that was used least recently goes */
    /* longest prefix to a value; keys start with its length in bits, a uint32_t */
    BPF_MAP_TYPE_LPM_TRIE = 9,
    BPF_MAP_TYPE_QUEUE = 10,            /* values, first in first out; no key */
    BPF_MAP_TYPE_LRU_PERCPU_HASH = 11,  /* as LRU_HASH, with one value per processor */
    BPF_MAP_TYPE_STACK = 12,            /* values, last in first out; no key */
    /* records for user mode; max_entries is bytes: a power of two, at least 4096 */
    BPF_MAP_TYPE_RINGBUF = 13,
    BPF_MAP_TYPE_PERF_EVENT_ARRAY = 14, /* as RINGBUF, with one ring per processor */
    BPF_MAP_TYPE_SAMPLE_HASH_MAP = 15,  /* general map helpers fail on it; offered by sample */
    BPF_MAP_TYPE_XSKMAP = 16,           /* sockets that frames are redirected to; reserved for an extension */
};

/* What bpf_map_update_elem does about an entry that exists, or does not. */
enum bpf_map_update_flags {
    BPF_ANY = 0,     /* insert or replace */
    BPF_NOEXIST = 1, /* insert; fails if the key exists */
    BPF_EXIST = 2,   /* replace; fails if the key does not exist */
};

/*
 * General helpers: every program type has them.
 *
 * Memory arguments must be initialised and inside the stack, a packet or a map value, as the verifier proves.
 * Functions that return int give 0 on success and a negative value on failure, unless it says otherwise.
 */

/*
 * The value stored under *key, or NULL. The pointer stays valid until the program returns.
 * Map types: hash, array, percpu_hash, percpu_array, hash_of_maps, array_of_maps, lru_hash, lpm_trie, queue,
 * lru_percpu_hash, stack.
 */
BPF_HELPER(1, void *, bpf_map_lookup_elem, (void *map, const void *key));

/*
 * Stores *value under *key. `flags` is one of enum bpf_map_update_flags.
 * Map types: hash, array, percpu_hash, percpu_array, lru_hash, lpm_trie, queue, lru_percpu_hash, stack.
 */
BPF_HELPER(2, int, bpf_map_update_elem, (void *map, const void *key, const void *value, uint64_t flags));

/*
 * Removes the entry under *key. In an array it zeroes the value.
 * Map types: hash, array, prog_array, percpu_hash, percpu_array, hash_of_maps, array_of_maps, lru_hash, lpm_trie,
 * lru_percpu_hash.
 */
BPF_HELPER(3, int, bpf_map_delete_elem, (void *map, const void *key));

/*
 * The value stored under *key, or NULL; the entry is removed. The pointer stays valid until the program returns.
 * Map types: hash, percpu_hash, lru_hash, queue, lru_percpu_hash, stack.
 */
BPF_HELPER(4, void *, bpf_map_lookup_and_delete_elem, (void *map, const void *key));

/*
 * Continues in the program at `index` of a program array and does not return; returns a negative value if the slot is
 * empty, or after 33 calls in a row. The next program starts with the same context and an empty stack.
 * Map types: prog_array.
 */
BPF_HELPER(5, int, bpf_tail_call, (void *context, void *program_array, uint32_t index));

/* A pseudo-random number. Not for secrets. */
BPF_HELPER(6, uint32_t, bpf_get_prandom_u32, (void));

/* Nanoseconds since the machine started, time in sleep included. */
BPF_HELPER(7, uint64_t, bpf_ktime_get_boot_ns, (void));

/* The number of the processor the program runs on. */
BPF_HELPER(8, uint32_t, bpf_get_smp_processor_id, (void));

/* Nanoseconds since the machine started, without time in sleep. */
BPF_HELPER(9, uint64_t, bpf_ktime_get_ns, (void));

/*
 * The change of a ones' complement sum when the bytes at `from` are replaced by those at `to`, added to `seed`. Sizes
 * are multiples of 4; a size of 0 takes a NULL pointer. Returns the sum, not folded, or a negative value.
 */
BPF_HELPER(10, int, bpf_csum_diff,
           (const void *from, uint32_t from_size, const void *to, uint32_t to_size, uint32_t seed));

/*
 * Appends a record of `size` bytes to a ring buffer. `flags` is 0. Fails when the reader is too slow and it is full.
 * Map types: ringbuf. It takes any other map for one of these.
 * The runtime does not look at the map's type here: another one corrupts memory.
 */
BPF_HELPER(11, int, bpf_ringbuf_output, (void *ring_buffer, const void *data, uint64_t size, uint64_t flags));

/*
 * Writes a line to the trace log. `format` has a terminator that `size` counts, and one of %d, %i, %u and %x, with l
 * or ll for 64 bits, for each further argument. Returns the number of characters, or a negative value.
 */
BPF_HELPER(12, int, bpf_trace_printk2, (const char *format, uint32_t size));

/* As bpf_trace_printk2, with one number. */
BPF_HELPER(13, int, bpf_trace_printk3, (const char *format, uint32_t size, uint64_t a));

/* As bpf_trace_printk2, with two numbers. */
BPF_HELPER(14, int, bpf_trace_printk4, (const char *format, uint32_t size, uint64_t a, uint64_t b));

/* As bpf_trace_printk2, with three numbers. */
BPF_HELPER(15, int, bpf_trace_printk5, (const char *format, uint32_t size, uint64_t a, uint64_t b, uint64_t c));

/*
 * Adds a value to a queue or a stack. If that is full, BPF_EXIST as `flags` drops the oldest value for it; BPF_ANY
 * fails.
 * Map types: queue, stack.
 */
BPF_HELPER(16, int, bpf_map_push_elem, (void *map, const void *value, uint64_t flags));

/*
 * Moves a value to *value: the oldest of a queue, the newest of a stack. Fails if there is none.
 * Writes what argument 2 points to; the verifier wants it initialised all the same.
 * Map types: queue, stack.
 */
BPF_HELPER(17, int, bpf_map_pop_elem, (void *map, void *value));

/*
 * Copies a value to *value: the oldest of a queue, the newest of a stack. Fails if there is none.
 * Writes what argument 2 points to; the verifier wants it initialised all the same.
 * Map types: queue, stack.
 */
BPF_HELPER(18, int, bpf_map_peek_elem, (void *map, void *value));

/* Process id in the upper 32 bits, thread id in the lower ones. */
BPF_HELPER(19, uint64_t, bpf_get_current_pid_tgid, (void));

/* The logon session of the user that caused the event; 0 if that cannot be told. */
BPF_HELPER(20, uint64_t, bpf_get_current_logon_id, (const void *context));

/* 1 if the user that caused the event is an administrator, 0 if not; negative if that cannot be told. */
BPF_HELPER(21, int, bpf_is_current_admin, (const void *context));

/*
 * Copies `from_size` bytes; fails if they do not fit. Where the size is a constant, __builtin_memcpy is faster.
 * Registered as `bpf_memcpy`.
 */
BPF_HELPER(22, int, bpf_memcpy_s, (void *to, uint64_t to_size, const void *from, uint64_t from_size));

/*
 * Compares bytes: 0 if they are equal, negative if the first ones that differ are smaller in `a`, else positive.
 * Where the size is a constant, __builtin_memcmp is faster.
 * Registered as `bpf_memcmp`.
 */
BPF_HELPER(23, int, bpf_memcmp_s, (const void *a, uint64_t a_size, const void *b, uint64_t b_size));

/*
 * Sets every byte to `value`. Returns the address of the buffer, as a number. Where the size is a constant,
 * __builtin_memset is faster.
 */
BPF_HELPER(24, int64_t, bpf_memset, (void *buffer, uint64_t size, int value));

/*
 * As bpf_memcpy_s, for memory that may overlap.
 * Registered as `bpf_memmove`.
 */
BPF_HELPER(25, int, bpf_memmove_s, (void *to, uint64_t to_size, const void *from, uint64_t from_size));

/*
 * A number that stays the same for the life of a socket.
 * A program that calls it loads only as one of these types: sock_addr.
 */
BPF_HELPER(26, uint64_t, bpf_get_socket_cookie, (const void *context));

/*
 * Copies a string, or its first `count` characters. `to` gets a terminator, and zeros up to its end; what does not
 * fit is left out, and that is a failure.
 */
BPF_HELPER(27, int, bpf_strncpy_s, (char *to, uint64_t to_size, const char *from, uint64_t count));

/*
 * Appends a string, or its first `count` characters, to the one in `to`. What does not fit is left out, and that is a
 * failure.
 */
BPF_HELPER(28, int, bpf_strncat_s, (char *to, uint64_t to_size, const char *from, uint64_t count));

/* The number of characters before the terminator; `size` if there is none. */
BPF_HELPER(29, int, bpf_strnlen_s, (const char *string, uint64_t size));

/* Milliseconds since the machine started, time in sleep included. Coarser than bpf_ktime_get_boot_ns, and faster. */
BPF_HELPER(30, uint64_t, bpf_ktime_get_boot_ms, (void));

/* Milliseconds since the machine started, without time in sleep. Coarser than bpf_ktime_get_ns, and faster. */
BPF_HELPER(31, uint64_t, bpf_ktime_get_ms, (void));

/*
 * Appends a record of `size` bytes to the ring of a processor. The lower 32 bits of `flags` are its number, or all
 * ones for the one the program runs on, which is the only one that is taken; the 20 bits above say how many bytes of
 * the data behind `context` are appended, too.
 * Map types: perf_event_array. It takes any other map for one of these.
 * The runtime does not look at the map's type here: another one corrupts memory.
 */
BPF_HELPER(32, int, bpf_perf_event_output,
           (void *context, void *map, uint64_t flags, const void *data, uint64_t size));

/* A number of the current process that no other has until the machine restarts, unlike its id. */
BPF_HELPER(33, uint64_t, bpf_get_current_process_start_key, (void));

/* When the current thread was created: 100 ns since 1601. */
BPF_HELPER(34, int64_t, bpf_get_current_thread_create_time, (void));

/*
 * Has the frame go where the map says under `key`.
 * A program that calls it loads only as one of these types: sample.
 */
BPF_HELPER(35, int64_t, bpf_redirect_map, (void *map, uint64_t key, uint64_t flags));

#endif /* BPF2SYS_H */
