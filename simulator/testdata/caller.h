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

#ifndef FUNCTION
#define FUNCTION(r, slot) (r)->helpers[slot].address
#endif

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
    u64 result = FUNCTION(r, p->slot)(a[0], a[1], a[2], a[3], a[4], ctx);
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
