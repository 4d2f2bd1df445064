/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What every eBPF program for Windows needs: integer types, section and map macros, map types, general helpers.
 *
@PARTS@
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

/* A function that stays a subprogram, with a call and a stack frame (@STACK@ bytes) of its own. */
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
@MAP_TYPES@};

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

@HELPERS@#endif /* BPF2SYS_H */
