// A native module made by hand for the simulator's tests: it follows the native module contract (§1 and §2) and was
// compiled by clang, so nothing of this project's own code generator or linker is in it.
//
// Built by testdata/build.sh into testdata/module.image and testdata/module-arm64.image, which are drivers, and with
// MODULE_DLL into testdata/module-dll.image.

#include "native.h"

// ---------------------------------------------------------------- types
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
typedef struct { u8 *data, *end; u64 meta; u32 ifindex; } xdp_md;

#include "caller.h"
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
#ifdef __aarch64__
#define CALL(before, function, after) __asm__ volatile(before "\n\tblr %0\n\t" after :: "r"(function) \
    : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", \
      "x30", "memory")
#endif
XDP u64 misbehave(xdp_md *ctx, runtime *r) {
    volatile u8 *data = ctx->data;
    u32 key = 0;
    switch (data[0]) {
    case 1: return data[ctx->end - ctx->data];
    case 2: *(volatile u32 *)8 = 1; break;
    case 5: return r->helpers[5].address(0, 0, 0, 0, 0, 0);
    case 7: ((volatile u8 *)ctx)[-1] = 1; break;
    case 8: return r->helpers[0].address(r->maps[ARRAY].address, 64, 0, 0, 0, ctx);
    case 12: return recurse(1);
    case 13: *(volatile u64 *)&r->helpers[0].address = 0; break;
    case 14: *(volatile u8 *)(u64)misbehave = 0; break;
    case 16: return ((u64(*)(void))data)();
    case 17: return r->helpers[10].address(r->maps[HASH].address, (u64)&key, 4, 0, 0, ctx);
    case 19: return *(volatile u64 *)0x8000000000000000;
    case 21: return ((volatile u64 *)r->maps[ARRAY].array)[4];
    case 22: data[-1] = 0; break;
    case 23: ctx->data += 1; break;
    case 24: return r->helpers[0].address(1, (u64)&key, 0, 0, 0, ctx);
    case 25: return ((volatile u8 *)&global_bytes)[0] = 1;
    case 28: return r->helpers[1].address(r->maps[HASH].address, (u64)&key, (u64)r->maps[HASH].address, 0, 0, ctx);
#ifdef __aarch64__
    case 3: for (;;) __asm__ volatile("yield");
    case 4: __asm__ volatile("mov x27, #1\n\tmov x28, #2" ::: "memory"); break;
    case 6: CALL("sub sp, sp, #8", r->helpers[5].address, "add sp, sp, #8"); break;
    case 9: __asm__ volatile("udf #0"); break;
    case 11: __asm__ volatile("brk #0xf000"); break;
    case 18: { u64 v; __asm__ volatile("ldur %0, [sp, #-64]" : "=r"(v)); return v; }
    case 20: {
        register u64 context __asm__("x5") = (u64)ctx;
        u64 v;
        __asm__ volatile("mov x9, #7\n\tblr %2\n\tmov %0, x9" : "=r"(v) : "r"(context), "r"(r->helpers[7].address)
                         : "x0", "x1", "x2", "x3", "x4", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
                           "x16", "x17", "x30", "memory");
        return v;
    }
    case 26: __asm__ volatile("msr fpcr, %0" :: "r"(1ull << 24)); break;
    case 27: __asm__ volatile("fmov d9, #1.0" ::: "memory"); break;
    case 29: __asm__ volatile("add x30, %1, #1\n\tbr %0" :: "r"(r->helpers[5].address), "r"(data)); break;
    case 30: __asm__ volatile("svc #0" ::: "memory"); break;
    case 32: __asm__ volatile("mov x18, #1"); break;
    case 33: {
        register u64 context __asm__("x5") = (u64)ctx;
        u64 saved;
        __asm__ volatile("mov %0, x18\n\tmov x18, #1\n\tblr %2\n\tmov x18, %0"
                         : "=&r"(saved) : "r"(context), "r"(r->helpers[7].address)
                         : "x0", "x1", "x2", "x3", "x4", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
                           "x16", "x17", "x19", "x20", "x30", "memory");
        break;
    }
    case 34: { u64 v; __asm__ volatile("ldaxr %0, [%1]" : "=r"(v) : "r"(r->maps[ARRAY].array + 1)); return v; }
    case 35: { u64 v = 1; __asm__ volatile("ldaddal %0, %0, [%1]" : "+r"(v) : "r"(r->maps[ARRAY].array + 1) : "memory"); break; }
    case 36: __asm__ volatile("wfi"); break;
    case 37: // The return address is changed between signing and authentication.
        __asm__ volatile("adr x30, 1f\n\tpacibsp\n\teor x30, x30, #16\n\tautibsp\n\tret\n1:" ::: "x30"); break;
    case 38: // Not changed: this is what signed code does.
        __asm__ volatile("adr x30, 1f\n\tpacibsp\n\tautibsp\n\tret\n1:" ::: "x30"); break;
    case 39: { u64 v; __asm__ volatile("ldr %0, [%1]" : "=r"(v) : "r"(r->helpers[5].address)); return v; }
    case 40: { // v8 keeps its low half over a call, and only that.
        register u64 context __asm__("x5") = (u64)ctx;
        u64 low, high;
        __asm__ volatile("movi v8.16b, #7\n\tblr %3\n\tmov %0, v8.d[0]\n\tmov %1, v8.d[1]"
                         : "=&r"(low), "=&r"(high) : "r"(context), "r"(r->helpers[7].address)
                         : "x0", "x1", "x2", "x3", "x4", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
                           "x16", "x17", "x30", "memory", "v8");
        return low == 0x0707070707070707 ? high : 0;
    }
    case 41: { u64 v = 1; __asm__ volatile("ldaddal %0, %0, [%1]" : "+r"(v) : "r"(r->maps[ARRAY].array) : "memory"); return v + 7; }
#else
    case 3: for (;;) __asm__ volatile("pause");
    case 4: __asm__ volatile("mov $1, %%r14d\n\tmov $2, %%r15d" ::: "memory"); break;
    case 6: __asm__ volatile("sub $40, %%rsp\n\tcall *%0\n\tadd $40, %%rsp" :: "r"(r->helpers[5].address)
                             : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "memory"); break;
    case 9: __asm__ volatile("ud2"); break;
    case 10: __asm__ volatile("xor %%ecx, %%ecx\n\txor %%edx, %%edx\n\tdiv %%ecx" ::: "rax", "rcx", "rdx"); break;
    case 11: __asm__ volatile("int3"); break;
    case 15: __asm__ volatile("std"); break;
    case 18: { u64 v; __asm__ volatile("mov -64(%%rsp), %0" : "=r"(v)); return v; }
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
    case 26: __asm__ volatile("ldmxcsr %0" :: "m"((u32){0x3f80})); break;
    case 27: __asm__ volatile("pcmpeqd %%xmm7, %%xmm7" ::: "memory"); break;
    case 30: { u64 v = 39; __asm__ volatile("syscall" : "+a"(v) :: "rcx", "r11", "memory"); return v; }
    case 29: __asm__ volatile("lea -4096(%%rsp), %%rsp\n\tjmp *%0" :: "r"(r->helpers[5].address)); break;
#endif
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
#include "driver.h"
#endif
