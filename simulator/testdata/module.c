// A native module made by hand for the simulator's tests: it follows the native module contract (§1 and §2) and was
// compiled by clang, so nothing of this project's own code generator or linker is in it.
//
// Built by testdata/build.sh into testdata/module.image, a driver, and with MODULE_DLL into testdata/module.dll.image.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

typedef struct { u32 a; u16 b, c; u8 d[8]; } guid;
typedef struct { u16 version; u64 size, total; } header;
typedef struct { header h; u32 id; const char *name; } helper_entry;
typedef struct { u32 type, key, value, entries, inner_idx, pinning, id, inner_id; } map_definition;
typedef struct { u64 zero[2]; header h; map_definition d; const char *name; } map_entry;
typedef struct { header h; const char *name; u64 count; const char **values; } initial_values;
typedef struct { header h; const char *name; u64 size; const void *data; } global_section;
typedef struct {
    u64 zero; header h; void *function; const char *pe_section, *section, *name;
    const u16 *maps; u16 map_count; const helper_entry *helpers; u16 helper_count; u64 instructions;
    const guid *type, *attach; const u8 *hash; u64 hash_length; const char *hash_type;
    const void *btf; u16 btf_count;
} program_entry;
_Static_assert(sizeof(map_entry) == 80 && sizeof(program_entry) == 160, "layout");

typedef struct { u8 header[24]; u64 (*address)(u64, u64, u64, u64, u64, void *); u64 tail_call; } helper_data;
typedef struct { u8 header[24]; u64 address; u8 *array; } map_data;
typedef struct { u8 header[24]; u8 *address; } global_data;
typedef struct { u8 header[24]; helper_data *helpers; map_data *maps; global_data *globals; void *btf; } runtime;

// ---------------------------------------------------------------- types
#define DATA __attribute__((section(".data")))
DATA guid t_xdp = {0xf1832a85, 0x85d5, 0x45b0, {0x98, 0xa0, 0x70, 0x69, 0xd6, 0x30, 0x13, 0xb0}};
DATA guid a_xdp = {0x85e0d8ef, 0x579e, 0x4931, {0xb0, 0x72, 0x8e, 0xe2, 0x26, 0xbb, 0x2e, 0x9d}};
DATA guid t_bind = {0x608c517c, 0x6c52, 0x4a26, {0xb6, 0x77, 0xbb, 0x1c, 0x34, 0x42, 0x5a, 0xdf}};
DATA guid a_bind = {0xb9707e04, 0x8127, 0x4c72, {0x83, 0x3e, 0x05, 0xb1, 0xfb, 0x43, 0x94, 0x96}};
DATA guid t_addr = {0x92ec8e39, 0xaeec, 0x11ec, {0x9a, 0x30, 0x18, 0x60, 0x24, 0x89, 0xbe, 0xee}};
DATA guid a_connect4 = {0xa82e37b1, 0xaee7, 0x11ec, {0x9a, 0x30, 0x18, 0x60, 0x24, 0x89, 0xbe, 0xee}};
DATA guid a_accept4 = {0xa82e37b3, 0xaee7, 0x11ec, {0x9a, 0x30, 0x18, 0x60, 0x24, 0x89, 0xbe, 0xee}};
DATA guid t_ops = {0x43fb224d, 0x68f8, 0x46d6, {0xaa, 0x3f, 0xc8, 0x56, 0x51, 0x8c, 0xbb, 0x32}};
DATA guid a_ops = {0x837d02cd, 0x3251, 0x4632, {0x8d, 0x94, 0x60, 0xd3, 0xb4, 0x57, 0x69, 0xf2}};
DATA guid t_process = {0x22ea7b37, 0x1043, 0x4d0d, {0xb6, 0x0d, 0xca, 0xfa, 0x1c, 0x7b, 0x63, 0x8e}};
DATA guid a_process = {0x66e20687, 0x9805, 0x4458, {0xa0, 0xdb, 0x38, 0xe2, 0x20, 0xd3, 0x16, 0x85}};

// ---------------------------------------------------------------- maps
#define MAP(n, ...) {{0, 0}, {1, 80, 80}, {__VA_ARGS__}, n}
enum { PARAMS, ARRAY, HASH, CPU_ARRAY, CPU_HASH, LRU, LRU_CPU, LPM, QUEUE, STACK, RING, PERF, PROGS, INNER, OUTER,
       OUTER_HASH, GLOBAL, PINNED, MAPS };
__attribute__((section("maps"), used)) map_entry map_table[MAPS] = {
    MAP("params", 2, 4, 512, 1, 0, 0, 1, 0),
    MAP("array", 2, 4, 8, 4, 0, 0, 2, 0),
    MAP("hash", 1, 4, 8, 4, 0, 0, 3, 0),
    MAP("cpu_array", 5, 4, 4, 2, 0, 0, 4, 0),
    MAP("cpu_hash", 4, 4, 4, 2, 0, 0, 5, 0),
    MAP("lru", 8, 4, 8, 2, 0, 0, 6, 0),
    MAP("lru_cpu", 11, 4, 4, 2, 0, 0, 7, 0),
    MAP("lpm", 9, 8, 8, 4, 0, 0, 8, 0),
    MAP("queue", 10, 0, 8, 2, 0, 0, 9, 0),
    MAP("stack", 12, 0, 8, 2, 0, 0, 10, 0),
    MAP("ring", 13, 0, 0, 4096, 0, 0, 11, 0),
    MAP("perf", 14, 0, 0, 4096, 0, 0, 12, 0),
    MAP("progs", 3, 4, 4, 4, 0, 0, 13, 0),
    MAP("inner", 2, 4, 8, 2, 0, 0, 14, 0),
    MAP("outer", 7, 4, 4, 2, 0, 0, 15, 14),
    MAP("outer_hash", 6, 4, 4, 2, INNER, 0, 16, 0),
    MAP("mod.data", 2, 4, 8, 1, 0, 0, 17, 0),
    MAP("pinned/flows", 1, 4, 8, 4, 0, 1, 18, 0),
};
static const char *program_values[] = {"tail_two", 0, "tail_loop"};
static const char *map_values[] = {0, "inner"};
static const initial_values initial[] = {
    {{1, 48, 48}, "progs", 3, program_values},
    {{1, 48, 48}, "outer", 2, map_values},
};
static const u64 global_bytes = 0x1122334455667788;
static const global_section globals[] = {{{1, 48, 48}, "mod.data", 8, &global_bytes}};

// ---------------------------------------------------------------- helpers
#define H(i) {{1, 40, 40}, i, "helper_id"}
#define GENERAL H(1), H(2), H(3), H(4), H(5), H(6), H(7), H(8), H(9), H(10), H(11), H(12), H(13), H(14), H(15), H(16), \
    H(17), H(18), H(19), H(20), H(21), H(22), H(23), H(24), H(25), {{1, 40, 40}, 0, ""}, H(27), H(28), H(29), H(30), \
    H(31), H(32), H(33), H(34)
#define OWN 34
static const helper_entry plain_helpers[] = {GENERAL};
static const helper_entry xdp_helpers[] = {GENERAL, H(65536)};
static const helper_entry addr_helpers[] = {GENERAL, H(65537), H(65538), H(26)};
static const helper_entry ops_helpers[] = {GENERAL, H(65536)};
static const helper_entry process_helpers[] = {GENERAL, H(65536), H(65537), H(65538)};
static const u16 all_maps[] = {PARAMS, ARRAY, HASH, CPU_ARRAY, CPU_HASH, LRU, LRU_CPU, LPM, QUEUE, STACK, RING, PERF,
                               INNER, OUTER, OUTER_HASH, GLOBAL, PINNED, PROGS};
#define ALL 18
#define WITHOUT_PROGRAMS 17

// ---------------------------------------------------------------- programs
#define XDP __attribute__((section("xdp"), noinline))
#define CODE(s) __attribute__((section(s), noinline))
typedef struct { u8 *data, *end; u64 meta; u32 ifindex; } xdp_md;

// A call of any helper, described in the map "params" so that tests can say what is called with what.
enum { IMMEDIATE, MAP_ADDRESS, PARAMETER, CONTEXT, PACKET, GLOBALS };
typedef struct {
    u32 slot, copy;                        // helper slot; bytes to copy from the returned address
    struct { u64 kind, value; } arg[5];
    u64 result;
    u8 copied[24];
    u8 memory[384];
} parameters;
_Static_assert(sizeof(parameters) == 504, "layout");

static __attribute__((always_inline)) u64 call_helper(void *ctx, runtime *r, u8 *packet) {
    parameters *p = (parameters *)r->maps[PARAMS].array;
    u64 a[5];
    for (int i = 0; i < 5; i++) {
        u64 v = p->arg[i].value;
        switch (p->arg[i].kind) {
        case MAP_ADDRESS: v = r->maps[v].address; break;
        case PARAMETER: v += (u64)p->memory; break;
        case CONTEXT: v += (u64)ctx; break;
        case PACKET: v += (u64)packet; break;
        case GLOBALS: v += (u64)r->globals[0].address; break;
        }
        a[i] = v;
    }
    u64 result = r->helpers[p->slot].address(a[0], a[1], a[2], a[3], a[4], ctx);
    p->result = result;
    if (p->copy && result)
        for (u32 i = 0; i < p->copy && i < sizeof p->copied; i++) p->copied[i] = ((volatile u8 *)result)[i];
    if (p->slot == 0 && p->arg[4].kind == IMMEDIATE && p->arg[4].value == 1 && result) {
        // The result is an inner map: look into it with the same key.
        result = r->helpers[0].address(result, a[1], 0, 0, 0, ctx);
        p->result = result ? *(volatile u64 *)result : ~0ull;
    }
    return p->slot == 4 && result == 0 ? 0 : 1;
}
XDP u64 call_xdp(xdp_md *ctx, runtime *r) {
    u64 verdict = call_helper(ctx, r, ctx->data);
    parameters *p = (parameters *)r->maps[PARAMS].array;
    // The outcome goes into the packet, where each invocation's can be seen.
    if (ctx->data + 32 <= ctx->end) {
        *(u64 *)ctx->data = p->result;
        for (u32 i = 0; i < sizeof p->copied; i++) ctx->data[8 + i] = ((volatile u8 *)p->copied)[i];
    }
    return verdict;
}
CODE("bind") u64 call_bind(void *ctx, runtime *r) { return call_helper(ctx, r, *(u8 **)ctx); }
CODE("cgroup~1") u64 call_accept(void *ctx, runtime *r) { return call_helper(ctx, r, 0); }
CODE("cgroup~2") u64 call_connect(void *ctx, runtime *r) { return call_helper(ctx, r, 0); }
CODE("sockops") u64 call_sockops(void *ctx, runtime *r) { return call_helper(ctx, r, 0); }
CODE("process") u64 call_process(void *ctx, runtime *r) { return call_helper(ctx, r, *(u8 **)ctx); }

// Counts packets by their first byte and drops those of the configured kind; swaps the first two bytes.
XDP u64 count(xdp_md *ctx, runtime *r) {
    u8 *data = ctx->data;
    if (data + 2 > ctx->end) return 1;
    u32 key = data[0];
    u64 *value = (u64 *)r->helpers[0].address(r->maps[ARRAY].address, (u64)&key, 0, 0, 0, ctx);
    if (value) __atomic_fetch_add(value, 1, __ATOMIC_SEQ_CST);
    u8 t = data[0]; data[0] = data[1]; data[1] = t;
    ctx->ifindex += 1;
    return t == *(u8 *)r->globals[0].address ? 2 : 1;
}

XDP u64 tail_one(xdp_md *ctx, runtime *r) {
    u64 result = r->helpers[4].address((u64)ctx, r->maps[PROGS].address, ctx->data[0], 0, 0, ctx);
    if (result == 0) return 0;
    return (u64)-(i64)result;
}
XDP u64 tail_two(xdp_md *ctx, runtime *r) { return 0x100000002; }
XDP u64 tail_loop(xdp_md *ctx, runtime *r) {
    ctx->data[1] += 1;
    u64 result = r->helpers[4].address((u64)ctx, r->maps[PROGS].address, 2, 0, 0, ctx);
    if (result == 0) return 0;
    return (u64)-(i64)result;
}

// Breaks one rule, chosen by the first byte of the packet.
XDP u64 recurse(volatile u64 depth) {
    volatile u8 frame[1024];
    frame[depth & 1023] = (u8)depth;
    return depth == 0 ? frame[0] : recurse(depth + 1) + frame[depth & 1023];
}
XDP u64 misbehave(xdp_md *ctx, runtime *r) {
    volatile u8 *data = ctx->data;
    u32 key = 0;
    switch (data[0]) {
    case 1: return data[ctx->end - ctx->data];
    case 2: *(volatile u32 *)8 = 1; break;
    case 3: for (;;) __asm__ volatile("pause");
    case 4: __asm__ volatile("mov $1, %%r14d\n\tmov $2, %%r15d" ::: "memory"); break;
    case 5: return r->helpers[5].address(0, 0, 0, 0, 0, 0);
    case 6: __asm__ volatile("sub $40, %%rsp\n\tcall *%0\n\tadd $40, %%rsp" :: "r"(r->helpers[5].address)
                             : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory"); break;
    case 7: ((volatile u8 *)ctx)[-1] = 1; break;
    case 8: return r->helpers[0].address(r->maps[ARRAY].address, 64, 0, 0, 0, ctx);
    case 9: __asm__ volatile("ud2"); break;
    case 10: __asm__ volatile("xor %%ecx, %%ecx\n\txor %%edx, %%edx\n\tdiv %%ecx" ::: "rax", "rcx", "rdx"); break;
    case 11: __asm__ volatile("int3"); break;
    case 12: return recurse(1);
    case 13: *(volatile u64 *)&r->helpers[0].address = 0; break;
    case 14: *(volatile u8 *)(u64)misbehave = 0; break;
    case 15: __asm__ volatile("std"); break;
    case 16: return ((u64(*)(void))data)();
    case 17: return r->helpers[10].address(r->maps[HASH].address, (u64)&key, 4, 0, 0, ctx);
    case 18: { u64 v; __asm__ volatile("mov -64(%%rsp), %0" : "=r"(v)); return v; }
    case 19: return *(volatile u64 *)0x8000000000000000;
    case 20: {
        u64 v;
        __asm__ volatile("sub $48, %%rsp\n\tmov %1, 0x28(%%rsp)\n\tmov $7, %%r11d\n\tcall *%2\n\tadd $48, %%rsp\n\tmov %%r11, %0"
                         : "=r"(v) : "b"(ctx), "S"(r->helpers[7].address)
                         : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory");
        return v;
    }
    case 31:
        __asm__ volatile("std\n\tsub $48, %%rsp\n\tmov %0, 0x28(%%rsp)\n\tcall *%1\n\tadd $48, %%rsp\n\tcld"
                         :: "b"(ctx), "S"(r->helpers[7].address)
                         : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory");
        break;
    case 21: return ((volatile u64 *)r->maps[ARRAY].array)[4];
    case 22: data[-1] = 0; break;
    case 23: ctx->data += 1; break;
    case 24: return r->helpers[0].address(1, (u64)&key, 0, 0, 0, ctx);
    case 25: return ((volatile u8 *)&global_bytes)[0] = 1;
    case 26: __asm__ volatile("ldmxcsr %0" :: "m"((u32){0x3f80})); break;
    case 27: __asm__ volatile("pcmpeqd %%xmm7, %%xmm7" ::: "memory"); break;
    case 28: return r->helpers[1].address(r->maps[HASH].address, (u64)&key, (u64)r->maps[HASH].address, 0, 0, ctx);
    case 30: { u64 v = 39; __asm__ volatile("syscall" : "+a"(v) :: "rcx", "r11", "memory"); return v; }
    case 29: __asm__ volatile("lea -4096(%%rsp), %%rsp\n\tjmp *%0" :: "r"(r->helpers[5].address)); break;
    }
    return 1;
}

#define P(f, s, pe, t, a, h, m) {0, {1, 154, 160}, f, pe, s, #f, all_maps, m, h, sizeof(h) / sizeof(helper_entry), 7, \
    &t, &a, 0, 0, 0, 0, 0}
__attribute__((section("programs"), used)) program_entry program_table[] = {
    P(call_accept, "cgroup/recv_accept4", "cgroup~1", t_addr, a_accept4, addr_helpers, WITHOUT_PROGRAMS),
    P(call_bind, "bind", "bind", t_bind, a_bind, plain_helpers, WITHOUT_PROGRAMS),
    P(call_connect, "cgroup/connect4", "cgroup~2", t_addr, a_connect4, addr_helpers, WITHOUT_PROGRAMS),
    P(call_process, "process", "process", t_process, a_process, process_helpers, WITHOUT_PROGRAMS),
    P(call_sockops, "sockops", "sockops", t_ops, a_ops, ops_helpers, WITHOUT_PROGRAMS),
    P(call_xdp, "xdp", "xdp", t_xdp, a_xdp, xdp_helpers, ALL),
    P(count, "xdp", "xdp", t_xdp, a_xdp, xdp_helpers, ALL),
    P(misbehave, "xdp", "xdp", t_xdp, a_xdp, xdp_helpers, ALL),
    P(tail_loop, "xdp", "xdp", t_xdp, a_xdp, xdp_helpers, ALL),
    P(tail_one, "xdp", "xdp", t_xdp, a_xdp, xdp_helpers, ALL),
    P(tail_two, "xdp", "xdp", t_xdp, a_xdp, xdp_helpers, ALL),
};
__attribute__((section("hash"), used)) const u8 elf_hash[32] = {1, 2, 3};

// ---------------------------------------------------------------- metadata
static void get_programs(program_entry **p, u64 *n) { *p = program_table; *n = sizeof program_table / sizeof *program_table; }
static void get_maps(map_entry **p, u64 *n) { *p = map_table; *n = MAPS; }
static void get_hash(const u8 **p, u64 *n) { *p = elf_hash; *n = 32; }
static void get_version(u32 *v) { v[0] = 1; v[1] = 6; v[2] = 0; }
static void get_initial(const initial_values **p, u64 *n) { *p = initial; *n = 2; }
static void get_globals(const global_section **p, u64 *n) { *p = globals; *n = 1; }
static const struct { u64 size; void *f[6]; } metadata = {56, {get_programs, get_maps, get_hash, get_version, get_initial, get_globals}};

#ifdef MODULE_DLL
// ---------------------------------------------------------------- DLL
__declspec(dllexport) const void *get_metadata_table(void) { return &metadata; }
__declspec(dllexport) int another_function(void) { return 42; }
int DllMain(void *module, u32 reason, void *reserved) { return module && reason <= 1 && !reserved; }
#else
// ---------------------------------------------------------------- driver
typedef int NTSTATUS;
typedef struct { u16 length, maximum; u16 *buffer; } unicode_string;
typedef struct { void *routine; u32 flags; const u16 *name; void *entry; u32 type; void *data; u32 length; } query_row;
__declspec(dllimport) NTSTATUS RtlQueryRegistryValues(u32, const u16 *, const query_row *, void *, void *);
__declspec(dllimport) NTSTATUS NmrRegisterClient(const void *, void *, void **);
__declspec(dllimport) NTSTATUS NmrDeregisterClient(void *);
__declspec(dllimport) NTSTATUS NmrWaitForClientDeregisterComplete(void *);
__declspec(dllimport) NTSTATUS NmrClientAttachProvider(void *, void *, const void *, void **, const void **);

static const guid npi = {0xc847aac8, 0xa6f2, 0x4b53, {0xae, 0xa3, 0xf4, 0xa9, 0x4b, 0x9a, 0x80, 0xcb}};
DATA struct { u16 length; u32 type; guid g; } module_id = {24, 1, {1}};
DATA void *client_handle = (void *)0;
DATA void *binding_handle = (void *)0;

static NTSTATUS attach(void *binding, void *context, const void *provider) {
    void *out1 = 0;
    const void *out2 = 0;
    if (binding_handle) return 0xC000000D;
    NTSTATUS s = NmrClientAttachProvider(binding, context, &metadata, &out1, &out2);
    if (s == 0) binding_handle = binding;
    return s;
}
static NTSTATUS detach(void *context) { binding_handle = 0; return 0; }
static const struct {
    u16 version, length; void *attach, *detach, *cleanup;
    u16 iversion, isize; const guid *npi; void *module; u32 number; void *specific;
} characteristics = {0, 72, attach, detach, 0, 0, 40, &npi, &module_id, 0, 0};
static NTSTATUS query(u16 *name, u32 type, void *data, u32 length, void *context, void *entry) {
    if (type != 3 || length != 16) return 0xC000000D;
    for (int i = 0; i < 16; i++) ((volatile u8 *)&module_id.g)[i] = ((u8 *)data)[i];
    return 0;
}
static const query_row rows[3] = {
    {0, 1, u"Parameters", 0, 0, 0, 0},
    {query, 4, u"NpiModuleId", 0, 0, 0, 0},
};
static void unload(void *driver) {
    if (NmrDeregisterClient(client_handle) == 0x103) NmrWaitForClientDeregisterComplete(client_handle);
}
NTSTATUS DriverEntry(u8 *driver, unicode_string *path) {
    NTSTATUS s = RtlQueryRegistryValues(0, path->buffer, rows, 0, 0);
    if (s < 0) return s;
    s = NmrRegisterClient(&characteristics, 0, &client_handle);
    if (s < 0) return s;
    *(void **)(driver + 0x68) = unload;
    return s;
}
#endif
