// What programs for Linux are compiled against, as far as these need it: numbers and layouts of include/uapi/linux/bpf.h.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define NOINLINE static __attribute__((noinline))
#define UINT(name, value) int(*name)[value]
#define TYPE(name, type) type *name

enum { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT };
enum { HASH = 1, ARRAY = 2, PROG_ARRAY = 3, PERCPU_ARRAY = 6, LPM_TRIE = 11, QUEUE = 22, STACK = 23, RINGBUF = 27 };

struct xdp_md {
    u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

static void *(*lookup)(void *map, const void *key) = (void *)1;
static long (*update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*delete)(void *map, const void *key) = (void *)3;
static long (*tail_call)(void *context, void *map, u32 index) = (void *)12;
static s64 (*csum_diff)(u32 *from, u32 from_size, u32 *to, u32 to_size, u32 seed) = (void *)28;
static long (*adjust_head)(struct xdp_md *context, int delta) = (void *)44;
static long (*push)(void *map, const void *value, u64 flags) = (void *)87;
static long (*pop)(void *map, void *value) = (void *)88;
static long (*peek)(void *map, void *value) = (void *)89;
static u64 (*buffer_length)(struct xdp_md *context) = (void *)188;
static long (*load_bytes)(struct xdp_md *context, u32 offset, void *buffer, u32 length) = (void *)189;
static long (*store_bytes)(struct xdp_md *context, u32 offset, void *buffer, u32 length) = (void *)190;

static long (*strtol)(const char *text, u64 size, u64 flags, s64 *result) = (void *)105;
static long (*strtoul)(const char *text, u64 size, u64 flags, u64 *result) = (void *)106;
static void *(*reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*submit)(void *record, u64 flags) = (void *)132;
static void (*discard)(void *record, u64 flags) = (void *)133;
static long (*loop)(u32 rounds, void *callback, void *context, u64 flags) = (void *)181;
static long (*strncmp)(const char *memory, u32 size, const char *text) = (void *)182;

#define DATA(context) ((u8 *)(long)(context)->data)
#define DATA_END(context) ((u8 *)(long)(context)->data_end)

char license_text[] SEC("license") = "GPL";
