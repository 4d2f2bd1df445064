// Helpers that become functions of the driver.
#include "linux.h"

struct {
    UINT(type, RINGBUF);
    UINT(max_entries, 1 << 20);
} events SEC(".maps");

struct event {
    u32 length;
    u8 first, second;
    // What is not written is zero on Windows.
    u8 rest[6];
};

struct sum {
    u8 bytes[16];
    u64 sum;
};

static long add(u32 index, struct sum *sum) {
    if (index >= sizeof(sum->bytes) || sum->bytes[index] == 0xff)
        return 1;
    sum->sum += sum->bytes[index];
    return 0;
}

SEC("xdp") int unfolded(struct xdp_md *context) {
    u8 *data = DATA(context), *end = DATA_END(context);
    if (data + 80 > end)
        return XDP_DROP;
    s64 *answers = (s64 *)(data + 16);
    struct sum sum = {};
    __builtin_memcpy(sum.bytes, data, sizeof(sum.bytes));
    answers[0] = loop(data[0], add, &sum, 0);
    answers[1] = sum.sum;
    answers[2] = loop(1, add, &sum, 1);
    answers[3] = strncmp((char *)sum.bytes, sizeof(sum.bytes), "bytes");
    s64 number = 7;
    answers[4] = strtol((char *)sum.bytes, sizeof(sum.bytes), 0, &number);
    answers[5] = number;
    u64 natural = 7;
    answers[6] = strtoul((char *)sum.bytes, 5, 16, &natural);
    answers[7] = natural;
    return XDP_PASS;
}

SEC("xdp") int records(struct xdp_md *context) {
    u8 *data = DATA(context), *end = DATA_END(context);
    if (data + 16 > end)
        return XDP_DROP;
    struct event *event = reserve(&events, sizeof(*event), 0);
    if (!event)
        return XDP_ABORTED;
    event->length = end - data;
    event->first = data[0];
    if (data[1] & 1) {
        discard(event, 0);
        return XDP_DROP;
    }
    struct event *another = reserve(&events, sizeof(*another), 0);
    if (another) {
        another->length = 1;
        another->second = data[1];
        submit(another, 1);
    }
    submit(event, 0);
    return XDP_PASS;
}
