// Lines that both systems print alike, with one l and two; and one that only Linux can, which is left out.
#include "linux.h"

static long (*trace_printk)(const char *format, u32 size, ...) = (void *)6;

#define PRINT(text, ...)                                            \
    ({                                                              \
        static const char format[] = text;                          \
        trace_printk(format, sizeof(format), ##__VA_ARGS__);        \
    })

SEC("xdp") int printing(struct xdp_md *context) {
    u8 *data = DATA(context), *end = DATA_END(context);
    if (data + 2 > end)
        return XDP_DROP;
    PRINT("a packet");
    PRINT("%d bytes, %lu and %llx", (u32)(end - data), 0x100000000ull + data[0], 0x200000000ull + data[1]);
#ifdef WIDTHS
    PRINT("%08x", data[0]);
#endif
    return XDP_PASS;
}
