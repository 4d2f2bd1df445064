// A second module made by hand for the simulator's tests: programs of the sample extension, with its custom map and its
// BTF-resolved function, a function of a module that only a test's own platform file knows, and pinned maps.

#include "native.h"

DATA guid t_sample = {0xf788ef4a, 0x207d, 0x4dc3, {0x85, 0xcf, 0x0f, 0x2e, 0xa1, 0x07, 0x21, 0x3c}};
DATA guid a_sample = {0xf788ef4b, 0x207d, 0x4dc3, {0x85, 0xcf, 0x0f, 0x2e, 0xa1, 0x07, 0x21, 0x3c}};

// ---------------------------------------------------------------- maps
enum { PARAMS, ARRAY, CUSTOM, SHARED, PROGS, INNER, OUTER, MAPS };
__attribute__((section("maps"), used)) map_entry map_table[MAPS] = {
    MAP("params", 2, 4, 512, 1, 0, 0, 1, 0),
    MAP("array", 2, 4, 8, 4, 0, 0, 2, 0),
    MAP("custom", 15, 4, 4, 8, 0, 0, 3, 0),
    MAP("shared", 1, 4, 8, 4, 0, 1, 4, 0),
    MAP("progs", 3, 4, 4, 4, 0, 1, 5, 0),
    MAP("inner", 2, 4, 8, 2, 0, 0, 6, 0),
    MAP("outer", 7, 4, 4, 2, INNER, 1, 7, 0),
};
static const char *program_values[] = {"other", "target"};
static const char *map_values[] = {0, "inner"};
static const initial_values initial[] = {
    {{1, 48, 48}, "progs", 2, program_values},
    {{1, 48, 48}, "outer", 2, map_values},
};

// ---------------------------------------------------------------- functions
static const helper_entry helpers[] = {GENERAL, H(65536), H(65537), H(65538), H(65539), H(65540), H(65541), H(65542), H(35)};
typedef struct { header h; const char *name; guid module; } btf_entry;
static const btf_entry functions[] = {
    {{1, 48, 48}, "sample_ebpf_extension_btf_lookup",
     {0x8f6c1f83, 0xce4c, 0x4b58, {0x8b, 0x91, 0x65, 0x4a, 0x29, 0xe2, 0x3b, 0x7c}}},
    {{1, 48, 48}, "", {0}},
    {{1, 48, 48}, "other_function", {0x000000ff, 0, 0, {0, 0, 0, 0, 0, 0, 0, 1}}},
};
static const u16 all_maps[] = {PARAMS, ARRAY, CUSTOM, SHARED, PROGS, INNER, OUTER};

// ---------------------------------------------------------------- programs
typedef struct { u8 *data, *end; u32 a; u16 b; u32 data_1, data_2; } context;
// Slots of BTF-resolved functions count from 1000.
#define FUNCTION(r, slot) ((slot) >= 1000 ? (r)->btf[(slot) - 1000].address : (r)->helpers[slot].address)
#include "caller.h"

CODE("sample~1") u64 call(context *ctx, runtime *r) {
    u64 verdict = call_helper(ctx, r, ctx->data);
    parameters *p = (parameters *)r->maps[PARAMS].array;
    if (ctx->data + 32 <= ctx->end) {
        *(u64 *)ctx->data = p->result;
        for (u32 i = 0; i < sizeof p->copied; i++) ctx->data[8 + i] = ((volatile u8 *)p->copied)[i];
    }
    return verdict;
}
// Calls one function twice at the address that it had at first: a helper, or, if the packet starts with 1, by BTF.
CODE("sample~1") u64 keep(context *ctx, runtime *r) {
    u64 value;
    u64 (*f)(u64, u64, u64, u64, u64, void *) = ctx->data[0] ? r->btf[0].address : r->helpers[18].address;
    f(5, (u64)&value, 8, 0, 0, ctx);
    return (u32)f(5, (u64)&value, 8, 0, 0, ctx);
}
CODE("sample~1") u64 other(context *ctx, runtime *r) { return 7; }
// The same with the address that the table has each time.
CODE("sample~1") u64 read_again(context *ctx, runtime *r) {
    u64 value;
    volatile helper_data *h = &r->helpers[18];
    volatile btf_data *b = &r->btf[0];
    if (ctx->data[0]) {
        b->address(5, (u64)&value, 8, 0, 0, ctx);
        return b->address(5, (u64)&value, 8, 0, 0, ctx);
    }
    h->address(5, (u64)&value, 8, 0, 0, ctx);
    return h->address(5, (u64)&value, 8, 0, 0, ctx);
}
CODE("sample~1") u64 tail(context *ctx, runtime *r) {
    u64 result = r->helpers[4].address((u64)ctx, r->maps[PROGS].address, ctx->data[0], 0, 0, ctx);
    return result == 0 ? 0 : (u64)-(i64)result;
}
CODE("sample~1") u64 target(context *ctx, runtime *r) { return r->btf[2].address(0, 0, 0, 0, 0, ctx); }

#define P(f, b) {0, {1, 154, 160}, f, "sample~1", "sample_ext", #f, all_maps, MAPS, helpers, \
    sizeof(helpers) / sizeof(helper_entry), 7, &t_sample, &a_sample, 0, 0, 0, b ? functions : 0, b ? 3 : 0}
__attribute__((section("programs"), used)) program_entry program_table[] = {
    P(call, 1), P(keep, 1), P(other, 0), P(read_again, 1), P(tail, 0), P(target, 1),
};
__attribute__((section("hash"), used)) const u8 elf_hash[32] = {1, 2, 3};

// ---------------------------------------------------------------- metadata
static void get_programs(program_entry **p, u64 *n) { *p = program_table; *n = sizeof program_table / sizeof *program_table; }
static void get_maps(map_entry **p, u64 *n) { *p = map_table; *n = MAPS; }
static void get_hash(const u8 **p, u64 *n) { *p = elf_hash; *n = 32; }
static void get_version(u32 *v) { v[0] = 1; v[1] = 6; v[2] = 0; }
static void get_initial(const initial_values **p, u64 *n) { *p = initial; *n = 2; }
static void get_globals(const global_section **p, u64 *n) { *p = 0; *n = 0; }
static const struct { u64 size; void *f[6]; } metadata = {56, {get_programs, get_maps, get_hash, get_version, get_initial, get_globals}};
#include "driver.h"
