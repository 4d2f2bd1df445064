// The context in subprograms, spilled and reloaded, kept over calls; a tail call; an entry that is jumped back to.
#include "linux.h"

struct {
    UINT(type, PROG_ARRAY);
    UINT(key_size, 4);
    UINT(value_size, 4);
    UINT(max_entries, 2);
} next SEC(".maps");

struct {
    UINT(type, HASH);
    TYPE(key, u32);
    TYPE(value, u32);
    UINT(max_entries, 1024);
} sums SEC(".maps");

NOINLINE u32 sum(struct xdp_md *context, u32 from) {
    u32 total = from;
    for (u32 i = 0; i < 20; i++) {
        u8 *data = DATA(context) + i;
        if (data + 1 > DATA_END(context))
            break;
        total = total * 31 + *data;
    }
    return total;
}

NOINLINE int keep(struct xdp_md *context, u32 key, u32 value) {
    u32 *known = lookup(&sums, &key);
    if (known && *known == value)
        return 0;
    update(&sums, &key, &value, 0);
    return context->ingress_ifindex == 1;
}

SEC("xdp") int shapes(struct xdp_md *context) {
    struct xdp_md *volatile spilled = context;
    u32 total = sum(context, 1) & 255;
    int changed = keep(spilled, total, spilled->data_end - spilled->data);
    if (!changed)
        return XDP_TX;
    tail_call(spilled, &next, total & 1);
    return sum(spilled, total) & 1 ? XDP_PASS : XDP_DROP;
}
